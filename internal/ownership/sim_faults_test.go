package ownership

import (
	"slices"
	"time"
)

// live lets a world go through its life: a start, times in which things go wrong, and times in which
// changes are planned and clients must not notice any.
func (w *world) live() {
	switch {
	case w.traits.apart:
		var halves []link
		for i := range w.nodes {
			for j := range w.nodes {
				if i%2 != j%2 {
					halves = append(halves, link{i, j})
				}
			}
		}
		w.setLinks(halves, true)
		w.after(simConfig("").BootTimeout+w.about(2*time.Second), func() { w.setLinks(halves, false) })
	case w.traits.cuts && w.chance(0.3):
		w.cut(w.nodes[w.rand.IntN(len(w.nodes))])
	}
	for _, n := range w.nodes {
		if n.index == 0 || w.chance(0.8) {
			w.after(w.about(200*time.Millisecond), func() { n.begin() })
		}
	}
	w.clients()
	if !w.traits.apart && w.chance(0.5) { // else the start is a part of the trouble
		w.net.quiet = true
		w.run(time.Second)
		w.net.heal()
		w.findWitness()
		w.ensure()
		w.settle()
	}
	for range 1 + w.rand.IntN(3) {
		w.trouble(w.about(5 * time.Second))
		w.rest()
		if w.chance(0.5) {
			w.plan()
		}
	}
}

// clients open flows, all the time.
func (w *world) clients() {
	w.after(w.about(30*time.Millisecond), func() {
		w.connect()
		w.check()
		w.clients()
	})
}

func (n *node) begin() {
	if n.process == nil {
		n.up = true
		n.start()
	}
}

// beginLater starts a node that went down, unless there is rest by then.
func (w *world) beginLater(n *node, d time.Duration) {
	era := w.era
	w.after(d, func() {
		if w.era == era {
			n.begin()
		}
	})
}

// trouble lets things go wrong for a while.
func (w *world) trouble(d time.Duration) {
	w.note("trouble for %v", d)
	w.net.quiet = false
	pace := w.between(20*time.Millisecond, 500*time.Millisecond)
	for end := w.now + d; w.now < end; {
		w.run(w.about(pace))
		w.disturb(w.nodes[w.rand.IntN(len(w.nodes))])
	}
}

// disturb does something to a node.
func (w *world) disturb(n *node) {
	p := n.process
	if p == nil {
		if w.chance(0.6) {
			n.begin()
		}
		return
	}
	if w.traits.mostly != 0 && w.chance(0.7) {
		w.disturbMostly(n)
		return
	}
	switch w.rand.IntN(16) {
	case 0:
		n.crash(false)
		w.beginLater(n, w.about(time.Second))
	case 1:
		n.crash(true)
		w.beginLater(n, w.about(2*time.Second))
	case 2:
		p.doom = 1 + w.rand.IntN(6)
	case 3:
		p.pause(w.about(600 * time.Millisecond))
	case 4:
		p.stall, p.stallBy = 1+w.rand.IntN(6), w.about(600*time.Millisecond)
	case 5, 6:
		w.restart(n, w.about(time.Second))
	case 7:
		if w.chance(0.3) {
			w.note("%s is asked to leave", n.name)
			p.soon(func() { p.handle(Leave{}) })
		}
	case 8:
		w.flipWitness(n)
	case 9:
		if w.chance(0.2) {
			w.reconfigure()
		}
	case 10, 11:
		n.rewish()
	default:
		if w.traits.cuts {
			w.cut(n)
		}
	}
}

func (w *world) disturbMostly(n *node) {
	d := simConfig("").DeadAfter
	switch w.traits.mostly {
	case crashes:
		n.crash(false)
		w.beginLater(n, w.about(200*time.Millisecond))
	case pairs:
		other := (n.index + 1 + w.rand.IntN(len(w.nodes)-1)) % len(w.nodes)
		pair := []link{{n.index, other}, {other, n.index}}
		w.setLinks(pair, true)
		w.after(d*3/2, func() { w.setLinks(pair, false) })
		w.run(w.about(2 * d))
	case turns:
		if len(w.nodes) > 2 {
			w.cutInTurn(n)
			w.run(w.about(2 * d))
		}
	case alone:
		var all []link
		for i := range w.nodes {
			if i != n.index {
				all = append(all, link{n.index, i}, link{i, n.index})
			}
		}
		w.setLinks(all, true)
		w.run(w.between(2*d, 4*d))
		w.setLinks(all, false)
		w.run(2 * d)
	}
}

// restart ends a process with leave and begins the next one soon.
func (w *world) restart(n *node, d time.Duration) {
	p := n.process
	w.note("%s is asked to restart", n.name)
	n.backIn = d
	p.soon(func() { p.handle(Absence{d + w.between(500*time.Millisecond, 2*time.Second)}) })
}

// rewish changes a weight or what checks say.
func (n *node) rewish() {
	w := n.w
	d := w.rand.IntN(len(n.wish))
	if w.isWhole(d) && w.chance(0.6) {
		w.choose(n, d)
		return
	}
	switch w.rand.IntN(3) {
	case 0:
		others := slices.ContainsFunc(w.nodes, func(other *node) bool { return other != n && other.counts(d) })
		n.wish[d].Weight = []int{0, 1, 50, 100, 200}[w.rand.IntN(5)]
		if w.calm && !others {
			n.wish[d].Weight = 50
		}
	case 1:
		n.wish[d].Healthy = !n.wish[d].Healthy
	default:
		n.wish[d].MinNodes = 1 + w.rand.IntN(3)
	}
	w.note("%s wishes %+v", n.name, n.wish)
	if p := n.process; p != nil {
		p.soon(p.weigh)
	}
}

// A link is one direction between two nodes.
type link struct{ from, to int }

// cut cuts links of a node for a while, often for about as long as it takes to be noticed.
func (w *world) cut(n *node) {
	if len(w.nodes) > 2 && w.chance(0.2) {
		w.cutInTurn(n)
		return
	}
	d := w.about(simConfig("").DeadAfter)
	if w.chance(0.5) {
		d = w.between(simConfig("").DeadAfter*8/10, simConfig("").DeadAfter*3/2)
	}
	if w.chance(0.1) { // long enough for both sides to begin on their own
		d += simConfig("").BootTimeout
	}
	links := w.links(n)
	w.setLinks(links, true)
	if kept := 2 * w.rand.IntN(3); kept < len(links) && w.chance(0.4) {
		// Some links come back, another stays cut a little longer.
		back := links[kept:]
		w.after(d, func() { w.setLinks(back, false) })
		links, d = links[:kept], d+w.about(simConfig("").DeadAfter)
	}
	w.after(d, func() { w.setLinks(links, false) })
	if w.chance(0.1) {
		w.net.heal()
		w.findWitness()
	}
}

// cutInTurn cuts a node from one peer, and from the others when that one is about to hear it again: what
// the first one believed is old then.
func (w *world) cutInTurn(n *node) {
	first := (n.index + 1 + w.rand.IntN(len(w.nodes)-1)) % len(w.nodes)
	pair, others := []link{{n.index, first}, {first, n.index}}, []link(nil)
	for i := range w.nodes {
		if i != n.index && i != first {
			others = append(others, link{n.index, i}, link{i, n.index})
		}
	}
	d := simConfig("").DeadAfter
	w.setLinks(pair, true)
	w.after(w.between(d, d*3/2), func() { w.setLinks(pair, false) })
	w.after(w.between(d/10, d*9/10), func() {
		w.setLinks(others, true)
		w.after(w.between(d, 3*d), func() { w.setLinks(others, false) })
	})
}

// links draws some.
func (w *world) links(n *node) []link {
	var out, in, both []link
	side := w.rand.Uint64()
	var halves []link
	for i := range w.nodes {
		if i != n.index {
			out, in = append(out, link{n.index, i}), append(in, link{i, n.index})
			both = append(both, link{n.index, i}, link{i, n.index})
		}
		for j := range w.nodes {
			if side>>i&1 != side>>j&1 {
				halves = append(halves, link{i, j})
			}
		}
	}
	pair := 2 * w.rand.IntN(len(out))
	switch w.rand.IntN(8) {
	case 0: // one way
		return both[pair+w.rand.IntN(2):][:1]
	case 1, 2:
		return both[pair:][:2]
	case 3: // mute
		return out
	case 4: // deaf
		return in
	case 5, 6: // alone
		return both
	default:
		return halves
	}
}

func (w *world) setLinks(links []link, cut bool) {
	for _, l := range links {
		if w.net.cut[l.from][l.to] != cut {
			w.net.setCut(l.from, l.to, cut)
		}
	}
	if !cut {
		w.findWitness()
	}
}

// loseWitness: the witness is on the first node's side of every cut.
func (w *world) loseWitness() {
	for i, n := range w.nodes {
		if i > 0 && (w.net.cut[0][i] || w.net.cut[i][0]) {
			n.setWitness(false)
		}
	}
}

// findWitness: it answers everybody again some time after the last cut healed, or before any other frame.
func (w *world) findWitness() {
	if w.net.anyCut() {
		return
	}
	after := w.about(200 * time.Millisecond)
	if w.traits.prompt {
		after = 0
	}
	w.after(after, func() {
		if !w.net.anyCut() {
			for _, n := range w.nodes {
				n.setWitness(true)
			}
		}
	})
}

func (w *world) flipWitness(n *node) {
	if !n.witness && w.net.anyCut() {
		return
	}
	n.setWitness(!n.witness)
}

func (n *node) setWitness(answers bool) {
	if n.witness == answers {
		return
	}
	n.w.note("%s: witness %v", n.name, answers)
	n.witness = answers
	asked := n.w.between(0, simConfig("").HintTime)
	if n.w.traits.prompt && answers {
		asked = 0
	}
	if p := n.process; p != nil {
		p.later(asked, func() { p.handle(Witness{n.witness}) })
	}
}

// reconfigure gives all nodes another configuration, one after the other.
func (w *world) reconfigure() {
	w.config++
	w.note("configuration %d", w.config)
	for _, n := range w.nodes {
		w.after(w.about(500*time.Millisecond), n.reread)
	}
}

// reread makes a node follow the newest configuration.
func (n *node) reread() {
	if n.config == n.w.config {
		return
	}
	n.config = n.w.config
	if p := n.process; p != nil {
		p.soon(func() {
			c := n.settings()
			p.handle(Reconfigured{Expected: c.Expected, Policy: c.Policy, Fingerprint: c.Fingerprint})
		})
	}
}

// rest ends all trouble and expects that everything finds its place.
func (w *world) rest() {
	w.note("rest")
	w.era++
	w.net.quiet = true
	w.net.heal()
	for _, n := range w.nodes {
		n.reread()
		n.setWitness(true)
		if p := n.process; p != nil {
			p.doom, p.stall = 0, 0
			if p.paused {
				p.resume()
			}
		}
	}
	w.run(4 * time.Second) // what was scheduled happens, and what is late arrives
	for _, n := range w.nodes {
		n.setWitness(true)
	}
	w.ensure()
	w.settle()
}

// ensure starts nodes, so that enough run and somebody wants every bucket.
func (w *world) ensure() {
	running := 0
	for _, n := range w.nodes {
		if n.process == nil && w.chance(0.6) {
			n.begin()
		}
		if n.process != nil {
			running++
		}
	}
	for _, n := range w.nodes {
		if running > len(w.nodes)/2 {
			break
		}
		if n.process == nil {
			n.begin()
			running++
		}
	}
	w.ensureWanted()
}

// ensureWanted makes sure that somebody may have the buckets of every domain.
func (w *world) ensureWanted() {
	for d := range w.traits.domains {
		wanted := false
		for _, n := range w.nodes {
			wanted = wanted || n.counts(d)
		}
		for _, n := range w.nodes {
			if n.process != nil && !wanted {
				n.wish[d].Weight, wanted = 100, true
				n.process.soon(n.process.weigh)
			}
		}
	}
}

// plan makes changes as an operator would, one after the other: no client may notice them.
func (w *world) plan() {
	for range 1 + w.rand.IntN(4) {
		before, choice := make([][]int, len(w.traits.domains)), w.choice
		w.watch = make([][]*watched, len(w.traits.domains))
		for d := range w.traits.domains {
			before[d] = w.owners(d)
			for _, owner := range before[d] {
				w.watch[d] = append(w.watch[d], &watched{acceptor: owner})
			}
		}
		w.note("calm")
		w.era++
		w.net.quiet, w.calm = false, true
		w.change(w.nodes[w.rand.IntN(len(w.nodes))])
		w.run(w.about(500 * time.Millisecond))
		w.net.quiet = true
		w.run(3 * time.Second)
		w.settle()
		w.calm = false
		for d := range w.traits.domains {
			w.checkStay(d, before[d][0], choice)
			for b, owner := range w.owners(d) {
				if moves := w.watch[d][b].moves; (moves > 0) != (owner != before[d][b]) {
					w.fail("bucket %d of domain %d moved %d times from %d to %d", b, d, moves, before[d][b], owner)
				}
			}
		}
	}
}

// change does something that is planned.
func (w *world) change(n *node) {
	running, wanted := 0, true
	for _, other := range w.nodes {
		if other.process != nil {
			running++
		}
	}
	for d := range n.wish {
		wanted = wanted && slices.ContainsFunc(w.nodes, func(other *node) bool { return other != n && other.counts(d) })
	}
	// Without it a majority must be left.
	spare := n.process != nil && (w.traits.policy != PolicyMajority || running > len(w.nodes)/2+1)
	switch w.rand.IntN(4) {
	case 0:
		if spare {
			w.restart(n, w.between(0, 800*time.Millisecond))
		}
	case 1:
		if p := n.process; spare && wanted {
			w.note("%s is asked to leave", n.name)
			p.soon(func() { p.handle(Leave{}) })
		}
	default:
		if n.process == nil {
			n.begin()
			return
		}
		n.rewish()
	}
	w.ensureWanted()
}
