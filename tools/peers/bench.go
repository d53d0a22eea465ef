package main

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// bench is a peer set up in a namespace of its own, and a stream that it is measured with.
type bench struct {
	peer
	lane    string // of directors: 1 flow, many, new ones
	ns      *namespace
	program *ebpf.Program
	stream  stream
	samples []float64 // nanoseconds a packet, one of each round
}

// newBenches also warms up: flows are tracked, the socket's queue is full, caches of the allocator
// hold what they will hold.
func newBenches(p peer, in *injector) ([]bench, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	if p.forwards() {
		if err := ns.newDirector(); err != nil {
			return nil, err
		}
	}
	if p.setup != nil {
		if err := p.setup(ns); err != nil {
			return nil, err
		}
	}
	b := bench{peer: p, ns: ns, program: in.verdicts[p.verdict]}
	if p.program != nil {
		if b.program, err = p.program(ns); err != nil {
			return nil, err
		}
	}
	if p.forwards() {
		return b.lanes(in)
	}
	if b.stream, err = in.datagrams(); err != nil {
		return nil, err
	}
	_, err = in.run(b.stream, b.program, ns.ifindex, 4*sourcePorts)
	return []bench{b}, err
}

func (p peer) forwards() bool { return p.end == endForwarded || p.name == segmentDrop }

// lanes opens many connections, and returns a bench for the first of them, for all, and for new
// ones. Baselines know no connections: the first is enough.
func (b bench) lanes(in *injector) ([]bench, error) {
	lanes := []struct {
		name  string
		of    segment
		flows int
	}{
		{"1 flow", established(), 1},
		{fmt.Sprint(manyFlows, " flows"), established(), manyFlows},
		{"new flows", opening(newcomer), newFlows},
	}
	if b.role == roleBaseline {
		lanes = lanes[:1]
		lanes[0].name = ""
	} else if err := b.open(in); err != nil {
		return nil, err
	}
	var benches []bench
	for _, lane := range lanes {
		var err error
		b.lane = lane.name
		if b.stream, err = in.segments(lane.of, lane.flows); err != nil {
			return nil, err
		}
		if _, err := in.run(b.stream, b.program, b.ns.ifindex, sourcePorts); err != nil {
			return nil, err
		}
		benches = append(benches, b)
	}
	return benches, nil
}

// open shakes hands. Answers pass only by a director that translates, and XDP's need not see them
// here. A flowtable takes over at the second segment after them.
func (b bench) open(in *injector) error {
	for _, s := range []segment{opening(clientAddr), answer(), established(), established()} {
		if s.reply && (b.role == roleDR || b.peer.program != nil) {
			continue
		}
		all, err := in.segments(s, manyFlows)
		if err != nil {
			return err
		}
		if _, err := in.run(all, b.program, b.ns.ifindex, manyFlows); err != nil {
			return err
		}
	}
	return nil
}

// round adds a sample, once a counter says that the frames ended where they should.
func (b *bench) round(in *injector, packets int) error {
	if err := b.ns.enter(); err != nil {
		return err
	}
	before, err := b.ns.ended(b.end)
	if err != nil {
		return err
	}
	took, err := in.run(b.stream, b.program, b.ns.ifindex, packets)
	if err != nil {
		return err
	}
	after, err := b.ns.ended(b.end)
	if err != nil {
		return err
	}
	want := packets
	if b.end == endNowhere {
		want = 0
	}
	if after-before != want {
		return fmt.Errorf("%d of %d frames ended where they should, want %d", after-before, packets, want)
	}
	b.samples = append(b.samples, took)
	return nil
}

// ended counts the frames that ended there. Where they should end nowhere, it counts those that
// reached the socket.
func (ns *namespace) ended(there end) (int, error) {
	if there == endForwarded {
		return ns.forwarded()
	}
	return queueFull()
}

func (b *bench) median() float64 {
	sorted := slices.Sorted(slices.Values(b.samples))
	return sorted[len(sorted)/2]
}
