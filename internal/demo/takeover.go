package demo

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	probeEvery = 5 * time.Millisecond
	probeTime  = 1500 * time.Millisecond // after which a node that is not replaced counts as such
	// probePatience is less than the second after which a stack sends a SYN again: a probe tells of one
	// SYN.
	probePatience = 900 * time.Millisecond
)

// A probe is a new connection that a node would have taken that is gone.
type probe struct {
	start, end time.Duration // since the node went
	err        error
}

// takeover makes connections that a node would have taken, from the moment at which it goes, and
// returns how long they were not answered.
func (t *traffic) takeover(ctx context.Context, since time.Time, flows []flow) (time.Duration, error) {
	if len(flows) == 0 {
		return 0, errors.New("the node had answered nobody")
	}
	probes := make([]probe, len(flows))
	made := 0
	var probing sync.WaitGroup
	// each port once: its connection may wait for an answer to the end
	tick := time.NewTicker(max(probeEvery, probeTime/time.Duration(len(flows))))
	defer tick.Stop()
	for ; time.Since(since) < probeTime && made < len(flows); made++ {
		p, f := &probes[made], flows[made]
		probing.Go(func() {
			p.start = time.Since(since)
			_, p.err = t.page(ctx, f, probePatience)
			p.end = time.Since(since)
		})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	probing.Wait()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return outage(probes[:made])
}

// outage returns when the first probe was answered of those that began after the last that failed.
func outage(probes []probe) (time.Duration, error) {
	slices.SortFunc(probes, func(a, b probe) int { return cmp.Compare(a.start, b.start) })
	first := time.Duration(math.MaxInt64)
	for _, p := range slices.Backward(probes) {
		if p.err != nil {
			if first == math.MaxInt64 {
				return 0, p.err
			}
			break
		}
		first = min(first, p.end)
	}
	return first, nil
}

// flowsToProbe returns flows of new connections that a node answered, the longest ago first: the
// traffic comes back to their ports last.
func (t *traffic) flowsToProbe(node string) []flow {
	flows := slices.DeleteFunc(t.observer.flowsOf(node), func(f flow) bool { return f.port < firstPort })
	slices.SortFunc(flows, func(a, b flow) int { return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.family, b.family)) })
	return flows
}
