package datapath

import (
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// A region of the maps holds the choice and the backends of one service that forwards. It stays the
// service's as long as that is served, across restarts too: packets in flight, fragments and flows
// name backends by their place in it.

// choiceWords is the number of words of a choice, two slots each.
const choiceWords = int(lbLimitsCHOICE_WORDS)

// validateChoice refuses what would be an index out of range.
func validateChoice(s *lb.Service) error {
	if s.Forward == lb.ForwardLocal {
		return nil
	}
	if len(s.Backends) > lb.MaxBackends {
		return fmt.Errorf("%d backends: more than %d", len(s.Backends), lb.MaxBackends)
	}
	for i := range s.Backends {
		if hop := s.Backends[i].Hop; hop != nil && len(hop.MAC) != 6 {
			return fmt.Errorf("backend %s: no MAC of its next hop", s.Backends[i].Name)
		}
	}
	if err := validateSchedule(s); err != nil {
		return err
	}
	c := s.Choice
	if c == nil {
		return nil
	}
	if len(c.Current) != lb.Slots || c.Previous != nil && len(c.Previous) != lb.Slots ||
		c.Marks != nil && len(c.Marks) != lb.Slots {
		return fmt.Errorf("its choice has not %d slots", lb.Slots)
	}
	for slot := range lb.Slots {
		if !inRange(c.Current[slot], s) || c.Previous != nil && !inRange(c.Previous[slot], s) {
			return fmt.Errorf("slot %d: no such backend", slot)
		}
	}
	return nil
}

// forwards says whether a slot is of a service that has backends.
func forwards(e *lbService) bool {
	return e.Selector != 0 && e.Forward != uint8(lbMethodFORWARD_LOCAL) && e.Forward != uint8(lbMethodFORWARD_RETURN)
}

func inRange(place int16, s *lb.Service) bool {
	return place >= lb.NoBackend && int(place) < len(s.Backends)
}

// assignRegions gives each service that forwards its region, by index in want.Services: the one it
// has, or one that nobody uses.
func (s *mapSet) assignRegions(want *lb.State, scopes map[string]uint16) ([]uint32, error) {
	live := s.regionsInUse()
	taken := make([]bool, s.sizes.regions)
	for _, region := range live {
		taken[region] = true
	}
	regions := make([]uint32, len(want.Services))
	for i := range want.Services {
		svc := &want.Services[i]
		if svc.Forward == lb.ForwardLocal {
			continue
		}
		region, ok := live[scopes[ServiceScope(svc, &want.VIPs[svc.VIP])]]
		if !ok {
			free := slices.Index(taken, false)
			if free < 0 {
				return nil, errTooSmall
			}
			region, taken[free] = uint32(free), true
		}
		regions[i] = region
	}
	return regions, nil
}

// watches says whether connections that open at another director leave a glimpse here, too: as long as
// slots move, where every director sees every SYN.
func watches(s *lb.Service, v *lb.VIP) bool {
	return v.Announce == lb.AnnounceMulticast && s.Protocol != lb.ProtocolUDP && s.Schedule == nil && s.Choice != nil &&
		slices.ContainsFunc(s.Choice.Marks, func(mark lb.SlotMark) bool { return mark&lb.SlotMoving != 0 })
}

// regionsInUse are those of the services that forward, by their scopes.
func (s *mapSet) regionsInUse() map[uint16]uint32 {
	if s.word() == 0 {
		return s.inherited
	}
	live := make(map[uint16]uint32)
	_, services := s.liveHalf()
	for i := range services {
		if e := &services[i]; forwards(e) {
			live[e.Scope] = e.Region
		}
	}
	return live
}

// writeChoices stores the backends and the choices that differ, and returns the number of slots that
// did. A backend is there before a slot names it, and goes after the last one.
func (s *mapSet) writeChoices(want *lb.State, regions []uint32, device func(string) (*net.Interface, error)) int {
	type encoding struct {
		choice *lb.Choice
		common lbSlotFlags
	}
	encoded := make(map[encoding][]uint64)
	written := 0
	for i := range want.Services {
		svc := &want.Services[i]
		if svc.Forward == lb.ForwardLocal {
			continue
		}
		places := s.backends.items[int(regions[i])*int(lbLimitsBACKENDS):][:lbLimitsBACKENDS]
		for p := range svc.Backends {
			storeBackend(&places[p], backendEntry(svc, &want.VIPs[svc.VIP], &svc.Backends[p], device))
		}
		key := encoding{svc.Choice, commonFlags(svc)}
		words, ok := encoded[key]
		if !ok {
			words = choiceOf(svc.Choice, key.common)
			encoded[key] = words
		}
		written += storeSlots(s.choices.items[int(regions[i])*choiceWords:][:choiceWords], words)
		for p := len(svc.Backends); p < len(places); p++ {
			storeBackend(&places[p], lbBackend{})
		}
	}
	return written
}

// backendEntry is a backend as the program sees it: without an interface while it cannot be reached.
func backendEntry(svc *lb.Service, v *lb.VIP, b *lb.Backend, device func(string) (*net.Interface, error)) lbBackend {
	if !b.Addr.IsValid() {
		return lbBackend{} // a place that nobody has
	}
	e := lbBackend{
		Port:   b.Port,
		Mss:    svc.MSS,
		Syns:   synsOf(svc, b),
		Method: uint8(svc.Forward),
		Encap:  uint8(svc.Encap),
	}
	e.AddrHi, e.AddrLo = flowhash.Halves(b.Addr)
	if b.Addr.Is4() {
		e.IsIpv4 = 1
	}
	if b.Hop == nil {
		return e
	}
	dev, err := device(b.Hop.Interface)
	if err != nil || svc.Forward == lb.ForwardTunnel && b.Hop.Source.Is4() != b.Addr.Is4() {
		return e // which goes no way, until the next hop is known anew
	}
	e.Mac = [6]byte(b.Hop.MAC)
	e.OwnMac = hardwareAddr(dev)
	e.Ifindex = uint32(dev.Index)
	e.Mtu = uint16(min(b.Hop.MTU, 1<<16-1))
	if b.Hop.Source.IsValid() {
		e.OwnHi, e.OwnLo = flowhash.Halves(b.Hop.Source)
	}
	switch svc.Forward {
	case lb.ForwardNAT:
		// a port is another one only where the service has just one
		e.HeaderSum, e.Change = changesOf(v.Addr, b.Addr, svc.Ports[0].First, b.Port)
	case lb.ForwardTunnel:
		e.HeaderSum = outerSum(b.Hop.Source, b.Addr, outerProtocol(svc.Encap, v.Addr.Is4()))
	case lb.ForwardLocal, lb.ForwardDR:
	}
	return e
}

// outerProtocol is what an outer header says that it has behind it.
func outerProtocol(encap lb.Encap, inner4 bool) uint8 {
	const ipip, udp, ipv6 = 4, 17, 41
	switch {
	case encap == lb.EncapGUE:
		return udp
	case inner4:
		return ipip
	}
	return ipv6
}

// synsOf says what is special about SYNs for a backend.
func synsOf(svc *lb.Service, b *lb.Backend) uint8 {
	var care lbSynCare
	if svc.MSS != 0 {
		care |= lbSynCareSYNS_CLAMPED
	}
	if b.Watched {
		care |= lbSynCareSYNS_COUNTED
	}
	return uint8(care)
}

// storeBackend changes a backend that packets may be on their way to: while it changes there is no
// way to it.
func storeBackend(to *lbBackend, e lbBackend) {
	if *to == e {
		return
	}
	ifindex := e.Ifindex
	e.Ifindex = 0
	atomic.StoreUint32(&to.Ifindex, 0)
	*to = e
	atomic.StoreUint32(&to.Ifindex, ifindex)
}

// commonFlags are those of all slots of a service.
func commonFlags(s *lb.Service) (flags lbSlotFlags) {
	if s.Schedule != nil {
		flags |= lbSlotFlagsSLOT_SCHEDULED
	}
	if s.SourceNAT {
		flags |= lbSlotFlagsSLOT_SOURCES
	}
	return flags
}

// choiceOf lays out the slots of a choice; nil has none that names a backend.
func choiceOf(c *lb.Choice, flags lbSlotFlags) []uint64 {
	words := make([]uint64, choiceWords)
	common := uint32(flags) << lbSlotLayoutSLOT_FLAGS_SHIFT
	for slot := range lb.Slots {
		words[slot/2] |= uint64(slotWord(c, slot)|common) << (slot % 2 * 32)
	}
	return words
}

func slotWord(c *lb.Choice, slot int) uint32 {
	current, previous, flags := int16(lb.NoBackend), int16(lb.NoBackend), lbSlotFlags(0)
	if c != nil {
		current = c.Current[slot]
		if c.Previous != nil {
			previous = c.Previous[slot]
		}
		if c.Marks != nil {
			flags = slotFlags(c.Marks[slot])
		}
	}
	nobody := uint32(lbSlotLayoutSLOT_NOBODY) // which a place of -1 becomes
	return uint32(current)&nobody<<lbSlotLayoutSLOT_CURRENT_SHIFT |
		uint32(previous)&nobody<<lbSlotLayoutSLOT_PREVIOUS_SHIFT |
		uint32(flags)<<lbSlotLayoutSLOT_FLAGS_SHIFT
}

func slotFlags(mark lb.SlotMark) lbSlotFlags {
	var flags lbSlotFlags
	if mark&lb.SlotMoving != 0 {
		flags |= lbSlotFlagsSLOT_MOVING
	}
	if mark&lb.SlotExceptions != 0 {
		flags |= lbSlotFlagsSLOT_EXCEPTIONS
	}
	if mark&lb.SlotNoting != 0 {
		flags |= lbSlotFlagsSLOT_NOTING
	}
	return flags
}

// storeSlots stores the words that differ and returns the number of slots that did.
func storeSlots(to, words []uint64) int {
	if slices.Equal(to, words) {
		return 0
	}
	written := 0
	for i, word := range words {
		before := to[i]
		if before == word {
			continue
		}
		if uint32(before) != uint32(word) {
			written++
		}
		if before>>32 != word>>32 {
			written++
		}
		atomic.StoreUint64(&to[i], word)
	}
	return written
}
