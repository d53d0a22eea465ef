package ownership

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// settleTime is how long a cluster in which nothing goes wrong any more may take: a boot timeout, a
// flap window, and some seconds for messages that are still under way.
const settleTime = 20 * time.Second

// A watched bucket is one of a calm world: who accepts its new flows, and how often that changed.
type watched struct {
	acceptor int
	moves    int
}

// check looks at all buckets as clients see them. It is called whenever a kernel was told something.
func (w *world) check() {
	w.net.checkSplit()
	for d := range w.traits.domains {
		w.checkWhole(d)
		for b := range w.traits.buckets {
			w.checkBucket(d, b)
		}
	}
}

func (w *world) checkBucket(domain, bucket int) {
	who := w.acceptors(domain, bucket)
	if bits.OnesCount(who) > 1 && !w.split {
		w.fail("a new flow in bucket %d of domain %d is accepted by %s", bucket, domain, w.names(who))
	}
	if w.calm {
		if who == 0 {
			for _, n := range w.nodes {
				w.note("%s: up %v, lease %v, %+v", n.name, n.up, n.kernel.until-n.clock(), n.kernel.buckets[domain][bucket])
			}
			w.fail("nothing went wrong, but nobody accepts a new flow in bucket %d of domain %d", bucket, domain)
		}
		watched := w.watch[domain][bucket]
		if acceptor := bits.TrailingZeros(who); acceptor != watched.acceptor {
			w.note("bucket %d of domain %d moved from %d to %d", bucket, domain, watched.acceptor, acceptor)
			watched.acceptor = acceptor
			watched.moves++
		}
	}
	// Through a cut nobody can see whether the machine behind it still has flows.
	if counts := w.flows.counts[domain][bucket]; counts != nil && !w.traits.cuts && !w.split {
		w.checkFlows(domain, bucket, counts)
	}
}

func (w *world) checkFlows(domain, bucket int, counts []int) {
	for holder, n := range counts {
		if n == 0 {
			continue
		}
		arrives, resets := w.established(domain, bucket, holder)
		if resets != 0 {
			w.fail("a flow of %s in bucket %d of domain %d gets a RST from %s", w.nodes[holder].name, bucket, domain, w.names(resets))
		}
		if !arrives && w.calm {
			w.fail("nothing went wrong, but a flow of %s in bucket %d of domain %d is cut off", w.nodes[holder].name, bucket, domain)
		}
	}
}

// checkDeath is for a death that a node declared: nobody whom that node hears may hear the dead one.
func (w *world) checkDeath(by *node, name string) {
	dead := w.nodes[w.indexOf(name)]
	if w.traits.late > 0 || !by.steady() || !dead.steady() {
		return
	}
	for i, n := range w.nodes {
		if n != by && n != dead && n.steady() && w.net.fine(by.index, i) && w.net.fine(i, dead.index) {
			w.fail("%s declares %s dead, whom %s hears", by.name, name, n.name)
		}
	}
}

// steady says whether a node's process has been running for a while.
func (n *node) steady() bool {
	return n.process != nil && !n.process.paused && !n.process.absent && n.w.now-n.changed > 5*simConfig("").DeadAfter/2
}

func (w *world) names(who uint) string {
	text := ""
	for i, n := range w.nodes {
		if who>>i&1 != 0 {
			text += " " + n.name
		}
	}
	return text
}

// unsettled says what is not yet as it should be; "" if all is.
func (w *world) unsettled() string {
	var first *process
	for _, n := range w.nodes {
		p := n.process
		switch {
		case p == nil:
			continue
		case len(p.ops) > 0 || p.todo.pending:
			return n.name + " is busy"
		case first == nil:
			first = p
		case p.machine.fingerprint != first.machine.fingerprint:
			return n.name + " does not know what " + first.name + " knows"
		}
		if !n.kernel.leased(n.clock()) {
			return n.name + " has no lease"
		}
	}
	for d, name := range w.traits.domains {
		owners := w.owners(d)
		for b, owner := range owners {
			if text := w.misplaced(d, name, b, owner); text != "" {
				return text
			}
		}
	}
	return ""
}

func (w *world) misplaced(d int, name string, b, owner int) string {
	if owner < 0 {
		return fmt.Sprintf("nobody may have bucket %d of domain %d", b, d)
	}
	for i, n := range w.nodes {
		if n.process == nil {
			continue
		}
		e := n.kernel.buckets[d][b]
		if i == owner != (e.verb == Accept) || e.verb == Delegate {
			return fmt.Sprintf("%s has verb %v for bucket %d of domain %d, which %s should have", n.name, e.verb, b, d, w.nodes[owner].name)
		}
		if v := n.process.machine.Table(name); v.Verbs[b] != e.verb || v.MaybeLocal.Has(b) != e.maybeLocal ||
			v.Contested.Has(b) != e.contested {
			return fmt.Sprintf("%s was not told of a change of bucket %d of domain %d", n.name, b, d)
		}
		if counts := w.flows.counts[d][b]; counts != nil && counts[i] > 0 && !w.traits.cuts {
			if arrives, _ := w.established(d, b, i); !arrives {
				return fmt.Sprintf("a flow of %s in bucket %d of domain %d is cut off", n.name, b, d)
			}
		}
	}
	return ""
}

// owners is where the buckets of a domain should be, by what nodes wish: not by what machines know.
func (w *world) owners(domain int) []int {
	healthy, least := 0, 1
	for _, n := range w.nodes {
		if n.counts(domain) {
			least = max(least, n.wish[domain].MinNodes)
			if n.wish[domain].Healthy {
				healthy++
			}
		}
	}
	var candidates []rendezvous.Node
	var index []int
	for i, n := range w.nodes {
		if n.counts(domain) && (n.wish[domain].Healthy || healthy < least) {
			candidates = append(candidates, rendezvous.Node{Name: n.name, Weight: n.wish[domain].Weight})
			index = append(index, i)
		}
	}
	owners := make([]int, w.traits.buckets)
	if w.isWhole(domain) && len(candidates) > 0 {
		for b := range owners {
			owners[b] = w.ownerOfWhole(domain, index)
		}
		return owners
	}
	table := w.tables.table(nil, candidates)
	for b := range owners {
		if table.Owners[b] == lb.NoNode {
			owners[b] = -1
			continue
		}
		owners[b] = index[table.Owners[b]]
	}
	return owners
}

func (n *node) counts(domain int) bool { return n.process != nil && n.wish[domain].Weight > 0 }

// settle waits until all is as it should be.
func (w *world) settle() {
	begin := w.now
	for {
		text := w.unsettled()
		if text == "" {
			w.settling = max(w.settling, w.now-begin)
			w.note("settled after %v", w.now-begin)
			return
		}
		if w.now-begin > settleTime {
			w.fail("not settled after %v: %s", w.now-begin, text)
		}
		w.run(100 * time.Millisecond)
	}
}
