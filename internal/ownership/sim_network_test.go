package ownership

import (
	"math/bits"
	"slices"
	"time"
)

// A network carries messages and heartbeats between nodes. A link has two directions that can be cut
// one by one.
type network struct {
	w     *world
	cut   [][]bool          // from, to
	lost  [][]time.Duration // since when nothing that was sent arrived; 0: the last thing did
	bad   [][]time.Duration // when something was lost last
	quiet bool              // nothing is lost, and all arrives soon
}

func newNetwork(w *world) *network {
	n := &network{w: w}
	for range w.traits.nodes {
		n.cut = append(n.cut, make([]bool, w.traits.nodes))
		n.lost = append(n.lost, make([]time.Duration, w.traits.nodes))
		n.bad = append(n.bad, make([]time.Duration, w.traits.nodes))
	}
	return n
}

// carryMessage carries what machines say to each other. In a calm world some of it is lost as well.
func (n *network) carryMessage(from, to int, arrive func()) {
	delay := n.w.between(100*time.Microsecond, 2*time.Millisecond)
	switch {
	case n.quiet:
	case n.w.chance(0.1):
		delay = n.w.about(20 * time.Millisecond)
	case !n.w.calm && n.w.chance(n.w.traits.late):
		delay = n.w.about(n.w.traits.lateness)
	}
	n.carry(from, to, n.w.traits.loss, delay, arrive)
}

// carryHeartbeat carries a frame. In a calm world none is lost: that would be something going wrong.
func (n *network) carryHeartbeat(from, to int, arrive func()) {
	delay, loss := n.w.between(100*time.Microsecond, 2*time.Millisecond), n.w.traits.loss
	if n.w.traits.slow && !n.w.calm && n.w.chance(0.2) {
		delay = n.w.between(0, slowest)
	}
	if n.w.calm {
		loss = 0
	}
	n.carry(from, to, loss, delay, arrive)
}

func (n *network) carry(from, to int, loss float64, delay time.Duration, arrive func()) {
	if n.cut[from][to] || !n.quiet && n.w.chance(loss) {
		n.bad[from][to] = n.w.now
		if n.lost[from][to] == 0 {
			n.lost[from][to] = n.w.now
		}
		return
	}
	n.lost[from][to] = 0
	n.w.after(delay, arrive)
	if !n.quiet && n.w.chance(n.w.traits.twice) {
		n.w.after(delay+n.w.about(5*time.Millisecond), arrive)
	}
}

func (n *network) setCut(from, to int, cut bool) {
	n.w.note("cut %s -> %s: %v", n.w.nodes[from].name, n.w.nodes[to].name, cut)
	n.cut[from][to] = cut
	if cut {
		n.w.loseWitness()
	}
}

func (n *network) anyCut() bool {
	for _, row := range n.cut {
		for _, cut := range row {
			if cut {
				return true
			}
		}
	}
	return false
}

func (n *network) heal() {
	for from, row := range n.cut {
		for to := range row {
			if row[to] {
				n.setCut(from, to, false)
			}
		}
	}
}

// works says whether something got through lately, or nothing was tried.
func (n *network) works(from, to int) bool {
	since := n.lost[from][to]
	return !n.cut[from][to] && (since == 0 || n.w.now-since < simConfig("").DeadAfter/2)
}

// fine says whether nothing was lost between two nodes for a while, in both directions.
func (n *network) fine(a, b int) bool {
	since := n.w.now - 5*simConfig("").DeadAfter/2
	return !n.cut[a][b] && !n.cut[b][a] && n.bad[a][b] < since && n.bad[b][a] < since
}

// checkSplit finds out whether nodes that the policy lets go on cannot know of each other: then two
// of them may accept the same flow, until they do. Two-way links count, because one that works one
// way stops who is not heard.
func (n *network) checkSplit() {
	w := n.w
	if w.traits.policy == PolicyMajority {
		return
	}
	var going []int
	for i, node := range w.nodes {
		if (node.process != nil || node.up && node.kernel.leased(node.clock())) && (w.traits.policy == PolicyAny || node.witness) {
			going = append(going, i)
		}
	}
	whole := n.connected(going)
	switch {
	case !whole && !w.split:
		w.note("the cluster is split")
		w.split = true
	case whole && w.split && w.merged():
		w.note("the cluster is whole")
		w.split = false
	}
}

func (n *network) connected(nodes []int) bool {
	if len(nodes) == 0 {
		return true
	}
	first := nodes[max(0, slices.IndexFunc(nodes, func(i int) bool { return n.w.nodes[i].speaks() }))]
	reached, todo := map[int]bool{first: true}, []int{first}
	for len(todo) > 0 {
		from := todo[0]
		todo = todo[1:]
		if !n.w.nodes[from].speaks() {
			continue
		}
		for _, to := range nodes {
			if !reached[to] && n.works(from, to) && n.works(to, from) {
				reached[to] = true
				todo = append(todo, to)
			}
		}
	}
	return len(reached) == len(nodes)
}

// speaks says whether others hear of third nodes from it.
func (n *node) speaks() bool { return n.process != nil && !n.process.paused }

// merged says whether all who may accept flows know the same, and what both sides of a cut had is one's. What
// two have at rest is found there.
func (w *world) merged() bool {
	for d := range w.traits.domains {
		for b := range w.traits.buckets {
			if bits.OnesCount(w.acceptors(d, b)) > 1 {
				return false
			}
		}
	}
	var first *process
	for _, node := range w.nodes {
		p := node.process
		switch {
		case p == nil && node.up && node.kernel.leased(node.clock()):
			return false
		case w.traits.policy == PolicyWitness && !node.witness && node.kernel.leased(node.clock()):
			return false // it goes on for as long as it may, from when it had a witness and could not be heard
		case p == nil:
		case first == nil:
			first = p
		case p.machine.fingerprint != first.machine.fingerprint:
			return false
		}
	}
	return true
}
