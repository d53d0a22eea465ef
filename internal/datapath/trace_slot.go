package datapath

import (
	"net"
	"net/netip"

	"github.com/lbctl/lbctl/internal/lb"
)

// A TracedSlot is the entry of a service's choice that decided, and the backend that it led to.
type TracedSlot struct {
	Slot    int            `json:"slot"`
	Marks   []string       `json:"marks,omitempty"`   // moving, exceptions, noting; of a service that remembers its flows: scheduled
	Backend *TracedBackend `json:"backend,omitempty"` // none when nobody takes the flow
}

// A TracedBackend is where a frame is sent.
type TracedBackend struct {
	Address   netip.Addr `json:"address"`
	Port      uint16     `json:"port,omitempty"`        // that it is translated to
	Source    uint16     `json:"source_port,omitempty"` // of the VIP, that full NAT has it leave from
	Method    string     `json:"method"`                // "dr", "nat", "tunnel", "tunnel in gue"
	Interface string     `json:"interface,omitempty"`
	MAC       string     `json:"mac,omitempty"` // of the next hop; "" while none is known
}

// slotMarkNames are by bit.
var slotMarkNames = [...]string{"moving", "exceptions", "noting", "sources", "scheduled"}

func (s *mapSet) tracedSlot(raw *lbTrace) *TracedSlot {
	flags := lbTraceFlags(raw.Flags)
	if flags&lbTraceFlagsTRACE_SLOT == 0 {
		return nil
	}
	t := &TracedSlot{Slot: int(raw.Slot)}
	for bit, name := range slotMarkNames {
		if raw.SlotWord>>lbSlotLayoutSLOT_FLAGS_SHIFT>>bit&1 == 1 {
			t.Marks = append(t.Marks, name)
		}
	}
	if flags&lbTraceFlagsTRACE_BACKEND != 0 && int(raw.Backend) < len(s.backends.items) {
		t.Backend = tracedBackend(&s.backends.items[raw.Backend])
		t.Backend.Source = raw.Source
	}
	return t
}

func tracedBackend(e *lbBackend) *TracedBackend {
	b := &TracedBackend{Address: address(e.AddrHi, e.AddrLo), Port: e.Port, Method: lb.Forward(e.Method).String()}
	if e.Method == uint8(lbMethodFORWARD_TUNNEL) && e.Encap == uint8(lbEncapENCAP_GUE) {
		b.Method += " in gue"
	}
	if e.Ifindex != 0 {
		b.Interface, b.MAC = interfaceName(int(e.Ifindex)), net.HardwareAddr(e.Mac[:]).String()
	}
	return b
}
