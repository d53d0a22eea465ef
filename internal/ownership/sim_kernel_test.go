package ownership

import (
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A kernel is what a node does with packets whatever its lbd does: a model of bpf/lb.bpf.c.
type kernel struct {
	until   time.Duration // end of the lease, of the node's clock
	buckets [][]entry     // by domain

	renewable bool // against ruleLapse, which is the kernel's too
}

type entry struct {
	verb       Verb
	to         int // where to send new flows, with Delegate
	maybeLocal bool
	contested  bool
}

func newKernel(w *world) kernel {
	k := kernel{renewable: w.broken == ruleLapse}
	for range w.traits.domains {
		k.buckets = append(k.buckets, make([]entry, w.traits.buckets))
	}
	return k
}

func (k *kernel) leased(now time.Duration) bool { return now < k.until }

// renew answers false if the lease ended before.
func (k *kernel) renew(now, until time.Duration, anew bool) bool {
	if !anew && !k.leased(now) && !k.renewable {
		return false
	}
	k.until = until
	return true
}

// set makes a domain follow a view.
func (k *kernel) set(domain int, v View, index func(string) int) {
	for b := range k.buckets[domain] {
		e := entry{verb: v.Verbs[b], maybeLocal: v.MaybeLocal.Has(b), contested: v.Contested.Has(b)}
		if e.verb == Delegate && v.Owners[b] != lb.NoNode {
			e.to = index(v.Nodes[v.Owners[b]])
		}
		k.buckets[domain][b] = e
	}
}

// acceptors returns the nodes whose stack gets the SYN of a new flow, as a set of bits: it is sent to
// all nodes, and those that delegate send it on.
func (w *world) acceptors(domain, bucket int) uint {
	var who uint
	for i, n := range w.nodes {
		if !n.up || !n.kernel.leased(n.clock()) {
			continue
		}
		switch e := n.kernel.buckets[domain][bucket]; e.verb {
		case Accept:
			who |= 1 << i
		case Delegate:
			if to := w.nodes[e.to]; to.up && to.kernel.leased(to.clock()) {
				who |= 1 << e.to
			}
		case Ignore:
		}
	}
	return who
}

// established says what becomes of a packet of a flow that a node has: whether it gets there, and
// which other nodes answer with a RST.
func (w *world) established(domain, bucket, holder int) (arrives bool, resets uint) {
	for i, n := range w.nodes {
		if !n.up {
			continue
		}
		e := n.kernel.buckets[domain][bucket]
		over := !n.kernel.leased(n.clock())
		asks := e.maybeLocal || e.contested || e.verb == Delegate || over && e.verb == Accept
		switch {
		case i == holder:
			arrives = arrives || asks || e.verb == Accept
		case asks && e.verb == Delegate && !over:
			w.direct(domain, bucket, e.to, holder, &arrives, &resets)
		case !asks && e.verb == Accept:
			resets |= 1 << i
		}
	}
	return arrives, resets
}

// direct is a packet that was sent on to a node.
func (w *world) direct(domain, bucket, to, holder int, arrives *bool, resets *uint) {
	n := w.nodes[to]
	if !n.up {
		return
	}
	e := n.kernel.buckets[domain][bucket]
	asks := e.maybeLocal || e.contested || e.verb != Accept || !n.kernel.leased(n.clock())
	switch {
	case to == holder:
		*arrives = true
	case !asks:
		*resets |= 1 << to
	}
}

// A flowBook knows the established flows: how many each node has in a bucket.
type flowBook struct {
	counts [][][]int // by domain, bucket and node
}

func newFlowBook(domains, buckets int) *flowBook {
	f := &flowBook{}
	for range domains {
		f.counts = append(f.counts, make([][]int, buckets))
	}
	return f
}

func (f *flowBook) of(domain, bucket, nodes int) []int {
	if f.counts[domain][bucket] == nil {
		f.counts[domain][bucket] = make([]int, nodes)
	}
	return f.counts[domain][bucket]
}

// busy returns the buckets in which a node has flows.
func (f *flowBook) busy(domain, node int) Set {
	var s Set
	for b, counts := range f.counts[domain] {
		if counts != nil && counts[node] > 0 {
			s.Add(b)
		}
	}
	return s
}

// lose ends all flows of a node.
func (f *flowBook) lose(node int) {
	for _, buckets := range f.counts {
		for _, counts := range buckets {
			if counts != nil {
				counts[node] = 0
			}
		}
	}
}

// connect is a client that opens a flow, which ends some time later.
func (w *world) connect() {
	domain, bucket := w.rand.IntN(len(w.traits.domains)), w.rand.IntN(w.traits.buckets)
	who := w.acceptors(domain, bucket)
	for i, n := range w.nodes {
		if who>>i&1 == 0 {
			continue
		}
		boot := n.boots
		w.flows.of(domain, bucket, len(w.nodes))[i]++
		w.after(w.about(time.Second), func() {
			if n.boots == boot {
				w.flows.of(domain, bucket, len(w.nodes))[i]--
			}
		})
	}
}
