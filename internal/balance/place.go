package balance

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// An identity tells servers apart.
type identity struct {
	name string
	addr netip.Addr
	port uint16
}

// A place is what a number in slots and flows stands for.
type place struct {
	identity               // without an address it is free; without a name it is restored, and not seated yet
	present  bool          // among the backends
	share    share         // what it gets
	since    time.Duration // when it came up last
	inUse    bool          // among the backends, or named by a slot
	left     time.Duration // when that ended
	fresh    bool          // the datapath may not do so yet
	unheard  bool          // it died, and the datapath may still remember flows of its
}

// grownUp is when those came up that were there before the service.
const grownUp = math.MinInt64 / 2

// seat finds the place of each backend, and gives one to those that are new; -1 while none is free.
func (s *Service) seat(backends []Backend) []int {
	for i := range s.places {
		s.places[i].present = false
	}
	free := 0
	seats := make([]int, len(backends))
	for i := range backends {
		id := identity{backends[i].Name, backends[i].Addr, backends[i].Port}
		seat, known := s.seats[id]
		if !known {
			seat, known = s.adopt(id)
		}
		if !known {
			for free < len(s.places) && s.places[free].addr.IsValid() {
				free++
			}
			if seat = free; seat == lb.MaxBackends {
				seats[i] = -1
				continue
			}
			if seat == len(s.places) {
				s.places = append(s.places, place{})
			}
			s.places[seat] = place{identity: id, since: grownUp, share: share{dead: s.begun}}
			s.seats[id] = seat
		}
		s.places[seat].present = true
		seats[i] = seat
	}
	return seats
}

// adopt names a restored place.
func (s *Service) adopt(id identity) (seat int, known bool) {
	nameless := identity{addr: id.addr, port: id.port}
	if seat, known = s.seats[nameless]; known {
		delete(s.seats, nameless)
		s.seats[id], s.places[seat].identity = seat, id
	}
	return seat, known
}

// share gives every place what it gets.
func (s *Service) share(backends []Backend, seats []int) {
	shares := weigh(s.rules, s.heard(backends, seats), func(i int) time.Duration {
		if seats[i] < 0 || s.places[seats[i]].share.out() {
			return 0
		}
		return s.now - s.places[seats[i]].since
	})
	for i := range s.places {
		if p := &s.places[i]; !p.present {
			p.share = share{state: StateRemoved, dead: p.share.dead}
		}
	}
	for i, seat := range seats {
		if seat < 0 {
			continue
		}
		p := &s.places[seat]
		if p.share.out() && !shares[i].out() {
			p.since = s.now
		}
		p.unheard = p.unheard || !p.share.dead && shares[i].dead
		p.share = shares[i]
	}
}

// heard are the backends without those that came back before the datapath heard that they died: what it
// remembers of their flows is forgotten first.
func (s *Service) heard(backends []Backend, seats []int) []Backend {
	list := backends
	for i, seat := range seats {
		if seat < 0 || !s.places[seat].unheard || !s.keeps(ruleHeard) {
			continue
		}
		if &list[0] == &backends[0] {
			list = slices.Clone(backends)
		}
		list[i].Reachable = false
	}
	return list
}

// count counts slots by their backends, if these are other ones than before.
func (s *Service) count() {
	if s.counted == &s.current[0] {
		return
	}
	s.counted, s.counts = &s.current[0], make([]int, len(s.places))
	for _, backend := range s.current {
		if backend != lb.NoBackend {
			s.counts[backend]++
		}
	}
}

// show describes the places and counts who names them.
func (s *Service) show() []Place {
	list := make([]Place, len(s.places))
	for i := range s.places {
		p := &s.places[i]
		if !p.addr.IsValid() {
			continue
		}
		list[i] = Place{
			Backend: lb.Backend{Name: cmp.Or(p.name, p.addr.String()), Addr: p.addr, Port: p.port},
			State:   p.share.state, Why: p.share.why, Dead: p.share.dead,
			Weight: (p.share.weight + weightUnit - 1) / weightUnit,
		}
	}
	s.count()
	for i, n := range s.counts {
		list[i].Slots = n
	}
	for i := range s.moves {
		if previous := s.moves[i].previous; previous != lb.NoBackend {
			list[previous].Leaving++
		}
	}
	return list
}

// release frees the places of removed backends that no flow names any more. They are still in shown,
// and free from the next Update on.
func (s *Service) release(shown []Place, seen *Seen) {
	for i := range s.places {
		p := &s.places[i]
		wasInUse := p.inUse
		p.inUse = p.present || shown[i].Slots > 0 || shown[i].Leaving > 0
		switch {
		case p.inUse || !p.addr.IsValid():
			continue
		case wasInUse:
			p.left, p.fresh = s.now, true
		}
		free := s.lookedSince(p.left, seen) && (i >= len(seen.Flows) || seen.Flows[i] == 0)
		if free || !s.keeps(rulePlaces) {
			delete(s.seats, p.identity)
			*p = place{}
		}
	}
}
