package datapath

import (
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/lb"
)

// An Instance is a private copy of the programs, run by hand and attached to nothing.
type Instance struct {
	set      *mapSet
	programs *ebpf.Collection
}

// NewInstance loads the programs over maps of their own that hold want. device finds interfaces;
// nil asks the kernel.
func NewInstance(want *lb.State, device func(string) (*net.Interface, error)) (*Instance, error) {
	if err := validate(want); err != nil {
		return nil, err
	}
	set, err := newMapSet(sizesFor(want))
	if err != nil {
		return nil, err
	}
	i := &Instance{set: set}
	if _, err := i.Set(want, device); err != nil {
		i.Close()
		return nil, err
	}
	if i.programs, err = set.load(nil); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

// Set changes the state and returns the number of buckets written. What does not fit into the
// maps as first made is refused.
func (i *Instance) Set(want *lb.State, device func(string) (*net.Interface, error)) (int, error) {
	if device == nil {
		device = findDevice
	}
	done, err := i.set.write(want, device)
	return done.buckets, err
}

// Close frees the programs and maps.
func (i *Instance) Close() {
	if i.programs != nil {
		i.programs.Close()
	}
	i.set.close()
}

// An Outcome is what XDP did with one frame.
type Outcome struct {
	Action uint32 // XDP_DROP 1, XDP_PASS 2, XDP_TX 3, XDP_REDIRECT 4
	Frame  []byte // as it leaves the program
}

// xdpContext is struct xdp_md of the user API.
type xdpContext struct {
	Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32
}

// Run gives one frame, at least an Ethernet header long, to the XDP program as if it had arrived
// on the interface with that index.
func (i *Instance) Run(frame []byte, ifindex int) (Outcome, error) {
	return run(i.programs.Programs["lb_xdp"], frame, ifindex)
}

func run(program *ebpf.Program, frame []byte, ifindex int) (Outcome, error) {
	out := make([]byte, len(frame)+256)
	opts := &ebpf.RunOptions{
		Data:    frame,
		DataOut: out,
		Context: xdpContext{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifindex)},
	}
	action, err := program.Run(opts)
	if err != nil {
		return Outcome{}, fmt.Errorf("run %s: %w", program, err)
	}
	return Outcome{Action: action, Frame: opts.DataOut}, nil
}

// Lease is Datapath.Lease, and with anew Datapath.NewLife.
func (i *Instance) Lease(until time.Duration, anew bool) error {
	return renewLease(i.programs.Programs["lb_lease"], until, anew)
}

// Guard gives one outgoing frame to the egress program; Action is -1 for go on, 2 for drop.
func (i *Instance) Guard(frame []byte) (Outcome, error) {
	out := make([]byte, len(frame)+256)
	opts := &ebpf.RunOptions{Data: frame, DataOut: out}
	action, err := i.programs.Programs["lb_egress"].Run(opts)
	if err != nil {
		return Outcome{}, fmt.Errorf("run egress program: %w", err)
	}
	return Outcome{Action: action, Frame: opts.DataOut}, nil
}

// Counters returns what this instance counted.
func (i *Instance) Counters() ([]Counter, error) { return i.set.counters() }

// XDP is the program itself, for benchmarks.
func (i *Instance) XDP() *ebpf.Program { return i.programs.Programs["lb_xdp"] }
