package main

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// bench is a peer set up in a namespace of its own.
type bench struct {
	peer
	ns      *namespace
	program *ebpf.Program
	samples []float64 // nanoseconds a packet, one of each round
}

// newBench also warms up: flows are tracked, the socket's queue is full, caches of the allocator
// hold what they will hold.
func newBench(p peer, in *injector) (bench, error) {
	ns, err := newNamespace()
	if err != nil {
		return bench{}, err
	}
	if p.setup != nil {
		if err := p.setup(ns); err != nil {
			return bench{}, err
		}
	}
	b := bench{peer: p, ns: ns, program: in.verdicts[p.verdict]}
	if p.program != nil {
		if b.program, err = p.program(ns); err != nil {
			return bench{}, err
		}
	}
	_, err = in.run(b.program, ns.ifindex, 4*sourcePorts)
	return b, err
}

// round adds a sample, once the socket's counter says that the frames ended where they should.
func (b *bench) round(in *injector, packets int) error {
	if err := b.ns.enter(); err != nil {
		return err
	}
	before, err := queueFull()
	if err != nil {
		return err
	}
	took, err := in.run(b.program, b.ns.ifindex, packets)
	if err != nil {
		return err
	}
	after, err := queueFull()
	if err != nil {
		return err
	}
	want := 0
	if b.delivers {
		want = packets
	}
	if after-before != want {
		return fmt.Errorf("%d of %d frames reached the socket, want %d", after-before, packets, want)
	}
	b.samples = append(b.samples, took)
	return nil
}

func (b *bench) median() float64 {
	sorted := slices.Sorted(slices.Values(b.samples))
	return sorted[len(sorted)/2]
}
