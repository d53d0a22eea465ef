package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/lb"
)

// An Attempt is what this director saw of the connections that clients open to a backend: of one,
// SYNs that it sent there, and replies if the backend's way out is this director.
type Attempt struct {
	Service string
	Backend netip.AddrPort // port 0: at the packet's own
	// Opened counts SYNs, those that clients sent again, too. Answered and Refused count replies to
	// SYNs, whichever director sent them there. They grow while the maps live.
	Opened, Answered, Refused uint64
}

// watchNumber is what the program knows a backend by whose connections are counted.
func watchNumber(region uint32, place int) uint32 {
	return region*uint32(lbLimitsBACKENDS) + uint32(place) + 1
}

// writeWatches makes a place for each backend whose connections are to be counted, and forgets the
// others: what a place counted was of another backend.
func (s *mapSet) writeWatches(want *lb.State, regions []uint32) error {
	wanted := make(map[uint32]bool)
	for i := range want.Services {
		for place := range want.Services[i].Backends {
			if want.Services[i].Backends[place].Watched {
				wanted[watchNumber(regions[i], place)] = true
			}
		}
	}
	have, err := s.readWatches()
	if err != nil {
		return err
	}
	for number := range have {
		if wanted[number] {
			continue
		}
		if err := s.maps["attempts"].Delete(&number); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove from map attempts: %w", err)
		}
	}
	zero := make([]lbAttempts, ebpf.MustPossibleCPU())
	for number := range wanted {
		if _, ok := have[number]; ok {
			continue
		}
		if err := s.maps["attempts"].Put(&number, zero); err != nil {
			return fmt.Errorf("write map attempts: %w", err)
		}
	}
	return nil
}

// readWatches returns the counts by number.
func (s *mapSet) readWatches() (map[uint32]lbAttempts, error) {
	all := make(map[uint32]lbAttempts)
	var number uint32
	var counts []lbAttempts
	it := s.maps["attempts"].Iterate() // nobody else adds or removes
	for it.Next(&number, &counts) {
		var sum lbAttempts
		for _, c := range counts {
			sum.Opened += c.Opened
			sum.Answered += c.Answered
			sum.Refused += c.Refused
		}
		all[number] = sum
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read map attempts: %w", err)
	}
	return all, nil
}

// Attempts returns what was counted of all backends that are watched, in no order.
func (d *Datapath) Attempts() ([]Attempt, error) {
	if d.maps == nil {
		return nil, nil
	}
	return d.maps.attempts()
}

func (s *mapSet) attempts() ([]Attempt, error) {
	counts, err := s.readWatches()
	if err != nil || len(counts) == 0 {
		return nil, err
	}
	owners, err := s.regionOwners()
	if err != nil {
		return nil, err
	}
	var list []Attempt
	for number, c := range counts {
		owner, ok := owners[(number-1)/uint32(lbLimitsBACKENDS)]
		if !ok {
			continue
		}
		b := &s.backends.items[number-1]
		list = append(list, Attempt{
			Service: owner.service, Backend: netip.AddrPortFrom(address(b.AddrHi, b.AddrLo), b.Port),
			Opened: c.Opened, Answered: c.Answered, Refused: c.Refused,
		})
	}
	return list, nil
}
