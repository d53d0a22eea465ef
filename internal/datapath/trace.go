package datapath

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/cilium/ebpf"
)

// A Trace is every decision about one made-up frame.
type Trace struct {
	Action   uint32        `json:"action"` // XDP_DROP 1, XDP_PASS 2, XDP_TX 3, XDP_REDIRECT 4
	Reason   Reason        `json:"reason"`
	Flow     *TracedFlow   `json:"flow,omitempty"` // of a frame for a VIP
	VLAN     uint16        `json:"vlan,omitempty"`
	VIP      string        `json:"vip,omitempty"`     // "192.0.2.80"
	Service  string        `json:"service,omitempty"` // "web 192.0.2.80"
	Fragment string        `json:"fragment,omitempty"`
	Error    bool          `json:"icmp_error,omitempty"` // the flow is the one it quotes
	Direct   bool          `json:"direct,omitempty"`     // sent to the node's own MAC
	Bucket   *TracedBucket `json:"bucket,omitempty"`
	Slot     *TracedSlot   `json:"slot,omitempty"`    // of a service that forwards
	Opens    bool          `json:"opens,omitempty"`   // a SYN of a bucket in transition, or to our own MAC
	Sockets  string        `json:"sockets,omitempty"` // what they had of the flow, if they were asked
	Lapsed   bool          `json:"lapsed,omitempty"`  // the lease has ended
	Frame    []byte        `json:"frame"`             // as it leaves the program
}

// A TracedFlow is what the frame was taken for.
type TracedFlow struct {
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	Protocol    uint8          `json:"protocol"`
}

// A TracedBucket is the table entry that decided.
type TracedBucket struct {
	Hash  uint64 `json:"hash"`
	Table uint32 `json:"table"`
	Index uint32 `json:"index"`
	Bucket
}

// What the sockets have of a flow.
const (
	SocketsNothing  = "nothing"
	SocketsFlow     = "flow"
	SocketsListener = "listener"
	SocketsCookie   = "cookie" // a listener that knows the SYN cookie
)

// Trace runs the real program on a made-up frame over the live maps, as if it had arrived on the
// interface. Counters, fragments and samples are of a private instance. Sockets are looked up in the
// network namespace of the caller.
func (v *View) Trace(frame []byte, iface string) (*Trace, error) {
	instance, err := v.privateInstance()
	if err != nil {
		return nil, err
	}
	defer instance.programs.Close()
	return v.traceIn(instance, frame, iface)
}

func (v *View) traceIn(instance *Instance, frame []byte, iface string) (*Trace, error) {
	dev, err := findDevice(iface)
	if err != nil {
		return nil, err
	}
	outcome, err := run(instance.programs.Programs["lb_trace"], frame, dev.Index)
	if err != nil {
		return nil, err
	}
	var raw lbTrace
	if err := instance.programs.Maps[traceMap].Lookup(uint32(0), &raw); err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	return v.describe(outcome, &raw)
}

// privateInstance shares the maps that are only read and has the others for itself.
func (v *View) privateInstance() (*Instance, error) {
	spec, err := sizedSpec(v.set.sizes)
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["tracing"].Set(uint8(1)); err != nil {
		return nil, err
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return name != "lb_trace" })
	shared := make(map[string]*ebpf.Map)
	for _, name := range []string{directoryMap, "tables", "hot", "choices", "backends", "interfaces", "nodes", "flows", "glimpses", "exceptions",
		"sources", "returns", "new_sources", "new_returns", "orders", "loads", "turns"} {
		shared[name] = v.set.maps[name]
	}
	programs, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("load a private instance: %w", err)
	}
	return &Instance{set: v.set, programs: programs}, nil
}

func (v *View) describe(outcome Outcome, raw *lbTrace) (*Trace, error) {
	labels, err := v.set.labels()
	if err != nil {
		return nil, err
	}
	nodes, err := v.set.readNodes()
	if err != nil {
		return nil, err
	}
	flags := lbTraceFlags(raw.Flags)
	t := &Trace{
		Action: outcome.Action,
		Reason: reasonOf(uint32(raw.Reason)),
		VLAN:   raw.Vlan,
		Error:  flags&lbTraceFlagsTRACE_ICMP_ERROR != 0,
		Direct: flags&lbTraceFlagsTRACE_DIRECT != 0,
		Frame:  outcome.Frame,
		Opens:  flags&lbTraceFlagsTRACE_OPENS != 0,
		Lapsed: flags&lbTraceFlagsTRACE_LAPSED != 0,
		Slot:   v.set.tracedSlot(raw),
	}
	switch {
	case flags&lbTraceFlagsTRACE_SOCKET != 0:
		t.Sockets = SocketsFlow
	case flags&lbTraceFlagsTRACE_COOKIE != 0:
		t.Sockets = SocketsCookie
	case flags&lbTraceFlagsTRACE_LISTENER != 0:
		t.Sockets = SocketsListener
	case flags&lbTraceFlagsTRACE_ASKED != 0:
		t.Sockets = SocketsNothing
	}
	if flags&lbTraceFlagsTRACE_VIP != 0 {
		t.Flow = &TracedFlow{
			Source:      netip.AddrPortFrom(address(raw.SrcHi, raw.SrcLo), raw.SrcPort),
			Destination: netip.AddrPortFrom(address(raw.DstHi, raw.DstLo), raw.DstPort),
			Protocol:    raw.Protocol,
		}
		t.VIP = t.Flow.Destination.Addr().String()
	}
	if flags&lbTraceFlagsTRACE_SERVICE != 0 {
		for name, scope := range labels {
			if scope == raw.Scope {
				t.Service = name[len("service "):]
			}
		}
	}
	switch {
	case flags&lbTraceFlagsTRACE_FIRST_FRAGMENT != 0:
		t.Fragment = "first"
	case flags&lbTraceFlagsTRACE_LATER_FRAGMENT != 0:
		t.Fragment = "later"
	}
	if flags&lbTraceFlagsTRACE_HASHED != 0 {
		t.Bucket = &TracedBucket{raw.Hash, raw.Table, raw.Index, bucketOf(nodes[:], raw.Bucket)}
	}
	return t, nil
}
