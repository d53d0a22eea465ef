package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// An Exception is a flow that is noted because its slot is in transition, see lb.SlotMark.
type Exception struct {
	Service  string         // its name
	Remote   netip.AddrPort // the client
	Local    netip.AddrPort // of the VIP
	Protocol lb.Protocol
	Slot     int
	Mark     lb.SlotMark // of the slot
	Backend  int         // where it is: an index in the service's Backends
	Addr     netip.Addr  // the backend's
	Port     uint16      // the backend's, if it has one of its own
	Current  bool        // which is where the slot's new flows go, too
	Silent   time.Duration
	Closing  bool   // the client sent FIN or RST
	Counts   bool   // among the connections of its backend
	Client   bool   // no flow, but the affinity of a client: Remote and Local have no ports
	Source   uint16 // the VIP's port that it leaves from, of full NAT; 0 of others
	Over     bool   // of full NAT: it has ended, and its port is not given out yet
}

// How long a flow may be silent that says nothing for itself.
const (
	resetIdle   = time.Minute      // its client reset it: until nothing of it is under way
	closingIdle = 2 * time.Minute  // its client has no more to say, and said nothing since; the backend may have
	openingIdle = time.Minute      // it goes on for no longer than made-up flows do, and there is less than little room
	pairIdle    = 10 * time.Second // it was seen twice, as what is made up is, and there is little room
)

// TellWithin is how soon a director tells others again of a flow that comes by there. So much longer than
// it may be silent a flow is remembered, as it may not be silent for another director.
const TellWithin = 15 * time.Second

// Unnoted is how many times there was no room for a flow: it went on as if it were unknown.
func (d *Datapath) Unnoted() uint64 {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return 0
	}
	return atomic.LoadUint64(&d.maps.published().Unnoted)
}

// Exceptions calls do for the flows that are noted, in no order, and forgets those that were silent for
// longer than they may be, or are at a backend that there is no way to. It may be called from any goroutine.
func (d *Datapath) Exceptions(do func(*Exception)) error {
	l, err := d.look()
	if err != nil || l == nil {
		return err
	}
	defer l.close()
	if err := l.noted(do, true); err != nil {
		return err
	}
	if err := l.correctLoads(); err != nil {
		return err
	}
	return l.sourced(do, true)
}

// Exceptions returns the flows that are noted, in no order.
func (v *View) Exceptions() ([]Exception, error) {
	l, err := (&Datapath{maps: v.set}).look()
	if err != nil {
		return nil, err
	}
	defer l.close()
	var list []Exception
	add := func(e *Exception) { list = append(list, *e) }
	if err := l.noted(add, false); err != nil {
		return nil, err
	}
	return list, l.sourced(add, false)
}

// forgetNoted takes out flows unless something came of them since they were read: ports are used again.
func (l *look) forgetNoted(stale []notedEntry) error {
	m := l.maps["exceptions"]
	for i := range stale {
		var now lbNoted
		if err := m.Lookup(&stale[i].key, &now); err != nil || now != stale[i].value {
			continue
		}
		if err := m.Delete(&stale[i].key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a noted flow: %w", err)
		}
	}
	return nil
}

type notedEntry struct {
	key   lbNotedFlow
	value lbNoted
}

// noted calls do for the flows that are noted, and has those that do not count any more forgotten.
func (l *look) noted(do func(*Exception), forget bool) error {
	found := 0
	for b, err := range batches[lbNotedFlow, lbNoted](l.maps["exceptions"]) {
		if err != nil {
			return fmt.Errorf("read noted flows: %w", err)
		}
		var list []Exception
		var stale []notedEntry
		found += len(b.keys)
		now := Monotonic()
		err := l.each(len(b.keys), func(s *mapSet, i int) {
			e, ok := s.exception(l.owners, &b.keys[i], &b.values[i], now)
			if !ok {
				stale = append(stale, notedEntry{b.keys[i], b.values[i]})
				return
			}
			list = append(list, e)
			l.count(&e)
		})
		if err != nil {
			return err
		}
		for i := range list {
			do(&list[i])
		}
		if forget {
			if err := l.forgetNoted(stale); err != nil {
				return err
			}
		}
	}
	if forget {
		l.set.noted.Store(int64(found))
	}
	return nil
}

// spoke is when the flow's client sent something, by this director or by one that told of it.
func (n *lbNoted) spoke() time.Duration {
	if n.HeardNs == 0 {
		return time.Duration(n.SeenNs)
	}
	return max(time.Duration(n.SeenNs), time.Duration(n.HeardNs))
}

func (s *mapSet) exception(owners map[uint32]regionOwner, key *lbNotedFlow, value *lbNoted, now time.Duration) (Exception, bool) {
	owner, ok := owners[key.Region]
	if !ok || value.Slot >= uint32(lbLimitsSLOTS) || uint32(value.Place) >= uint32(lbLimitsBACKENDS) {
		return Exception{}, false
	}
	e := Exception{
		Service: owner.service, Protocol: lb.Protocol(key.Protocol), Slot: int(value.Slot), Backend: int(value.Place),
		Remote: netip.AddrPortFrom(address(key.SrcHi, key.SrcLo), key.SrcPort),
		Local:  netip.AddrPortFrom(owner.vip, key.DstPort),
		Silent: max(0, now-value.spoke()),
	}
	current, _, mark := s.slot(key.Region, e.Slot)
	e.Current, e.Mark = int(current) == e.Backend, mark
	e.Closing = value.Flags&uint16(lbNotedFlagsNOTED_CLOSING) != 0
	e.Client = key.Protocol == uint8(lbNotedProtocolNOTED_CLIENT)
	e.Counts = value.counts(key)
	idle := s.idleOf(&e, &owner, lbNotedFlags(value.Flags))
	place := &s.backends.items[key.Region*uint32(lbLimitsBACKENDS)+uint32(value.Place)]
	e.Addr, e.Port = address(place.AddrHi, place.AddrLo), place.Port
	return e, e.Silent <= idle+TellWithin && place.Ifindex != 0
}

// counts is is_counted of schedule.h.
func (n *lbNoted) counts(key *lbNotedFlow) bool {
	flags := lbNotedFlags(n.Flags) & (lbNotedFlagsNOTED_OPEN | lbNotedFlagsNOTED_CLOSING)
	return flags == lbNotedFlagsNOTED_OPEN && key.Protocol != uint8(lbNotedProtocolNOTED_CLIENT)
}

// idleOf is how long a flow may be silent. What is made up proves nothing: when it may be that it takes the
// room of others, what proved nothing is forgotten sooner.
func (s *mapSet) idleOf(e *Exception, owner *regionOwner, flags lbNotedFlags) time.Duration {
	idle := owner.udpIdle
	if e.Protocol == lb.ProtocolTCP {
		idle = owner.tcpIdle
	}
	noted, room := s.noted.Load(), int64(s.maps["exceptions"].MaxEntries())
	switch proven := flags&lbNotedFlagsNOTED_PROVEN != 0; {
	case e.Client:
		return owner.affinity
	case flags&lbNotedFlagsNOTED_RESET != 0, e.Closing && !proven && noted > room/2:
		return resetIdle
	case proven:
		return idle
	case e.Closing:
		return closingIdle
	case flags&lbNotedFlagsNOTED_OPEN == 0 && noted > room/2:
		return min(idle, pairIdle)
	case noted > room*3/4:
		return min(idle, openingIdle)
	}
	return idle
}

// A regionOwner is the service whose a region is.
type regionOwner struct {
	service          string
	vip              netip.Addr
	tcpIdle, udpIdle time.Duration
	scheduled        bool   // its flows are remembered
	pool             uint32 // if so
	affinity         time.Duration
	mask             flowhash.Mask
}

func (s *mapSet) regionOwners() (map[uint32]regionOwner, error) {
	labels, err := s.labels()
	if err != nil {
		return nil, err
	}
	names := make(map[uint16]string)
	for name, scope := range labels {
		names[scope] = name
	}
	owners := make(map[uint32]regionOwner)
	_, services := s.liveHalf()
	for i := range services {
		e := &services[i]
		if !forwards(e) {
			continue
		}
		words := strings.Fields(names[e.Scope]) // as ServiceScope made it
		if len(words) != 3 {
			return nil, fmt.Errorf("scope %d is of no service: %q", e.Scope, names[e.Scope])
		}
		vip, err := netip.ParseAddr(words[2])
		if err != nil {
			return nil, fmt.Errorf("scope %q: %w", names[e.Scope], err)
		}
		owners[e.Region] = regionOwner{
			service: words[1], vip: vip, tcpIdle: time.Duration(e.TcpIdle) * time.Second, udpIdle: time.Duration(e.UdpIdle) * time.Second,
			scheduled: s.scheduled(e.Region), pool: e.Pool, affinity: time.Duration(e.Affinity) * time.Second,
			mask: flowhash.Mask{Hi: e.SourceMaskHi, Lo: e.SourceMaskLo, Ports: e.PortsMask},
		}
	}
	return owners, nil
}

// slot reads what is in force.
func (s *mapSet) slot(region uint32, slot int) (current, previous int16, mark lb.SlotMark) {
	word := uint32(s.choices.items[int(region)*choiceWords+slot/2] >> (slot % 2 * 32))
	place := func(shift lbSlotLayout) int16 {
		if p := word >> shift & uint32(lbSlotLayoutSLOT_NOBODY); p != uint32(lbSlotLayoutSLOT_NOBODY) {
			return int16(p)
		}
		return lb.NoBackend
	}
	flags := lbSlotFlags(word >> lbSlotLayoutSLOT_FLAGS_SHIFT)
	if flags&lbSlotFlagsSLOT_MOVING != 0 {
		mark |= lb.SlotMoving
	}
	if flags&lbSlotFlagsSLOT_EXCEPTIONS != 0 {
		mark |= lb.SlotExceptions
	}
	if flags&lbSlotFlagsSLOT_NOTING != 0 {
		mark |= lb.SlotNoting
	}
	return place(lbSlotLayoutSLOT_CURRENT_SHIFT), place(lbSlotLayoutSLOT_PREVIOUS_SHIFT), mark
}

// A Recalled is what a service sends to, as an lbd before this one left it.
type Recalled struct {
	Backends         []lb.Backend // of address and port; without an address, a place is free
	Choice           *lb.Choice
	TCPIdle, UDPIdle time.Duration
	Scheduled        bool // all of its flows are remembered
}

// Recall returns what the services send to, by name. All VIPs of one send to the same.
func (d *Datapath) Recall() (map[string]Recalled, error) {
	if d.maps == nil {
		return nil, nil
	}
	owners, err := d.maps.regionOwners()
	if err != nil {
		return nil, err
	}
	all := make(map[string]Recalled)
	for region, owner := range owners {
		if _, ok := all[owner.service]; !ok {
			all[owner.service] = d.maps.recall(region, owner)
		}
	}
	return all, nil
}

func (s *mapSet) recall(region uint32, owner regionOwner) Recalled {
	r := Recalled{TCPIdle: owner.tcpIdle, UDPIdle: owner.udpIdle, Scheduled: owner.scheduled, Choice: &lb.Choice{
		Current: make([]int16, lb.Slots), Previous: make([]int16, lb.Slots), Marks: make([]lb.SlotMark, lb.Slots),
	}}
	for place, e := range s.backends.items[int(region)*int(lbLimitsBACKENDS):][:lb.MaxBackends] {
		if e.AddrHi|e.AddrLo != 0 {
			r.Backends = append(r.Backends, make([]lb.Backend, place-len(r.Backends))...)
			r.Backends = append(r.Backends, lb.Backend{Addr: address(e.AddrHi, e.AddrLo), Port: e.Port})
		}
	}
	for slot := range lb.Slots {
		r.Choice.Current[slot], r.Choice.Previous[slot], r.Choice.Marks[slot] = s.slot(region, slot)
	}
	return r
}
