package ownership

import (
	"fmt"
	"slices"
	"time"
)

// A node is a machine in a world: its clock and kernel live on when its lbd does not.
type node struct {
	w      *world
	index  int
	name   string
	offset time.Duration
	rate   int64 // in millionths faster than the world's

	up      bool // the machine runs
	boots   int
	kernel  kernel
	witness bool // the witness answers

	process  *process
	life     uint64 // that was stored last
	snapshot []byte
	backIn   time.Duration // how long it wishes to be absent
	gone     bool          // left for good
	changed  time.Duration // when it started or went on last
	config   uint64
	wish     []Weight // by domain
}

func newNode(w *world, index int) *node {
	n := &node{
		w: w, index: index, name: fmt.Sprintf("n%d", index+1), offset: w.between(time.Second, time.Hour),
		up: true, kernel: newKernel(w), witness: true,
	}
	if w.traits.clocks {
		n.rate = w.rand.Int64N(20001) - 10000
	}
	for d := range w.traits.domains {
		wish := Weight{Weight: 100, Healthy: true, MinNodes: 1}
		if w.isWhole(d) {
			wish.Whole = Whole{Is: true, Priority: w.rand.IntN(3), Stay: w.traits.stay}
		}
		n.wish = append(n.wish, wish)
	}
	return n
}

// clock is the node's monotonic clock.
func (n *node) clock() time.Duration {
	return n.offset + n.w.now + n.w.now*time.Duration(n.rate)/1e6
}

// lasts returns how long the world waits for a time that passes on the node's clock.
func (n *node) lasts(d time.Duration) time.Duration { return d - d*time.Duration(n.rate)/1e6 }

// A process is an lbd, which drives the machine as internal/member does.
type process struct {
	*node
	machine *Machine
	alive   bool
	resumed bool

	paused  bool
	backlog []func() // what came during a pause
	ops     []func() // what the last actions still ask for
	doom    int      // operations until it crashes; 0: it does not
	stall   int      // operations until it pauses
	stallBy time.Duration
	absent  bool // it got leave and is about to end

	anew    bool // the kernel has no lease of this life yet
	lease   time.Duration
	todo    worker
	peers   []sight
	looked  time.Duration
	counter uint64
}

// A worker collects what is to be done, where the world is lagging.
type worker struct {
	apply   bool
	send    []letter
	pending bool
}

// A letter is a message to a node. It is written at once: the machine goes on with what it is about.
type letter struct {
	to  int
	raw []byte
}

// A sight is what a process sees of a peer.
type sight struct {
	met       bool
	heard     time.Duration // anything
	beat      time.Duration // a heartbeat
	life      uint64
	counter   uint64
	silent    bool
	forgiven  time.Duration // not silent before
	noAnswers time.Duration // since when its machine does not answer; 0: it does
	hostGone  bool
}

func (n *node) settings() Config {
	c := simConfig(n.name)
	c.Buckets, c.Policy, c.Fingerprint = n.w.traits.buckets, n.w.traits.policy, n.config
	for i := range n.w.traits.nodes {
		c.Expected = append(c.Expected, fmt.Sprintf("n%d", i+1))
	}
	return c
}

// start begins a process, in the life of the one before if that took leave.
func (n *node) start() {
	p := &process{
		node: n, alive: true, peers: make([]sight, n.w.traits.nodes), looked: n.clock(),
		counter: uint64(n.clock()), // a life may go on in another process
	}
	var err error
	if n.snapshot != nil {
		if p.machine, err = Restore(n.settings(), n.snapshot, n.clock()); err == nil {
			p.resumed = true
		}
		n.snapshot = nil
	}
	if p.machine == nil {
		n.life = max(n.life+1, uint64(time.Hour+n.w.now))
		if p.machine, err = New(n.settings(), n.life, n.clock()); err != nil {
			n.w.fail("%s: %v", n.name, err)
		}
		p.anew = true
	}
	p.machine.broken, p.machine.tables = n.w.broken, n.w.tables
	n.process, n.gone, n.changed = p, false, n.w.now
	n.w.note("%s starts, life %d, resumed %v", n.name, p.machine.Life, p.resumed)
	p.paused = true // the kernel follows when all this is known
	p.handle(Witness{n.witness})
	p.weigh()
	if p.anew { // where flows are is counted when the kernel takes none any more
		for _, name := range n.w.traits.domains {
			p.handle(Inherited{name, p.machine.everything()})
		}
	}
	p.todo.apply, p.paused = true, false
	p.perform(Actions{Lease: p.machine.Until})
	ready := n.w.between(0, 200*time.Millisecond)
	if p.resumed {
		ready = 0
	}
	p.later(ready, p.ready)
	p.every(p.machine.cfg.Tick, p.tick)
	p.every(heartbeatEvery, p.beat)
	p.every(500*time.Millisecond, p.count)
}

// ready is the end of a start. Until its kernel was told otherwise, it may have taken flows for the life
// before.
func (p *process) ready() {
	if p.todo.apply {
		p.later(time.Millisecond, p.ready)
		return
	}
	p.handle(Ready{})
}

// later has something done by the process, if it still lives then. One that is paused does it when it
// goes on.
func (p *process) later(d time.Duration, do func()) {
	p.w.after(p.lasts(d), func() { p.soon(do) })
}

func (p *process) soon(do func()) {
	switch {
	case !p.alive:
	case p.paused || len(p.ops) > 0:
		p.backlog = append(p.backlog, do)
	default:
		do()
	}
}

// every does something again and again. What was missed during a pause is not made up.
func (p *process) every(d time.Duration, do func()) {
	p.later(d, func() {
		p.every(d, do)
		do()
	})
}

func (p *process) pause(d time.Duration) {
	if p.paused || !p.alive {
		return
	}
	p.w.note("%s pauses for %v", p.name, d)
	p.paused = true
	p.w.after(d, p.resume)
}

// resume does what waited, in any order: goroutines run as they like.
func (p *process) resume() {
	if !p.alive {
		return
	}
	p.w.note("%s goes on", p.name)
	p.paused, p.changed = false, p.w.now
	p.operate()
	backlog := p.backlog
	p.backlog = nil
	if len(backlog) > 0 && p.w.chance(0.5) {
		first := p.w.rand.IntN(len(backlog))
		backlog[0], backlog[first] = backlog[first], backlog[0]
	}
	for _, do := range backlog {
		p.soon(do)
	}
}

// end stops the process; its kernel goes on.
func (p *process) end() {
	p.alive = false
	p.process = nil
}

// crash stops the process, and with it the whole machine if told.
func (n *node) crash(host bool) {
	n.w.note("%s crashes, host %v", n.name, host)
	if n.process != nil {
		n.process.end()
	}
	if host {
		n.up = false
		n.boots++
		n.kernel = newKernel(n.w)
		n.snapshot = nil
		n.w.flows.lose(n.index)
	}
}

func (p *process) weigh() {
	domains := make(map[string]Weight)
	for d, name := range p.w.traits.domains {
		domains[name] = p.wish[d]
	}
	p.handle(Weights{domains})
}

func (p *process) tick() {
	p.look()
	p.handle(Tick{})
}

// handle gives the machine an event and has done what it answers.
func (p *process) handle(e Event) {
	if !p.alive || p.absent {
		return
	}
	p.w.steps++
	p.w.note("%s: %v", p.name, brief{e})
	a := p.machine.Handle(p.clock(), e)
	for _, h := range a.Events {
		p.w.note("%s: %v %s %d %s %v", p.name, h.Kind, h.Node, h.Buckets, h.Reason, h.Took)
		if h.Kind == HappeningDied {
			p.w.checkDeath(p.node, h.Node)
		}
		if h.Kind == HappeningNewLife {
			p.changed = p.w.now
		}
		p.absent = p.absent || h.Kind == HappeningAbsent
		p.gone = p.gone || h.Kind == HappeningLeft
	}
	p.perform(a)
}

// perform does what the machine asks for: kernel, lease, messages.
func (p *process) perform(a Actions) {
	if a.NewLife != 0 {
		p.life, p.anew, p.todo.send = a.NewLife, true, nil
	}
	p.lease = a.Lease
	p.todo.apply = p.todo.apply || len(a.Changed) > 0
	for _, e := range a.Send {
		raw, err := e.Message.MarshalBinary()
		if err != nil {
			p.w.fail("%s: %v", p.name, err)
		}
		p.todo.send = append(p.todo.send, letter{p.w.indexOf(e.To), raw})
	}
	if p.w.traits.lagging {
		// The worker of internal/member: a lease that is only renewed does not wait.
		if !p.anew {
			p.ops = append(p.ops, p.renew)
		}
		if !p.todo.pending && (p.todo.apply || len(p.todo.send) > 0 || p.anew) {
			p.todo.pending = true
			p.w.after(p.w.about(3*time.Millisecond), func() { p.soon(p.work) })
		}
	} else {
		p.work()
	}
	p.operate()
}

// work does what waits, in the machine's order.
func (p *process) work() {
	p.todo.pending = false
	if p.todo.apply {
		p.todo.apply = false
		views := make([]View, len(p.w.traits.domains))
		for d, name := range p.w.traits.domains {
			views[d] = p.machine.Table(name)
		}
		p.ops = append(p.ops, func() {
			for d := range views {
				p.kernel.set(d, views[d], p.w.indexOf)
			}
		})
	}
	p.ops = append(p.ops, p.renew)
	for _, e := range p.todo.send {
		p.ops = append(p.ops, func() { p.send(e.to, e.raw) })
	}
	p.todo.send = nil
	p.operate()
}

// renew lets the kernel go on. Where its lease ended before, the machine has to begin anew.
func (p *process) renew() {
	now := p.clock()
	switch {
	case p.lease <= now:
	case p.anew && p.todo.apply:
	case p.kernel.renew(now, p.lease, p.anew):
		p.anew = false
	default:
		p.w.note("%s: the kernel's lease ended before it was renewed", p.name)
		p.w.after(0, func() { p.soon(func() { p.handle(Lapsed{}) }) })
	}
}

// operate does one operation after the other; the process may crash or pause between any two.
func (p *process) operate() {
	for len(p.ops) > 0 && p.alive && !p.paused {
		if p.doom > 0 {
			if p.doom--; p.doom == 0 {
				p.crash(p.w.chance(0.3))
				break
			}
		}
		if p.stall > 0 {
			if p.stall--; p.stall == 0 {
				p.pause(p.stallBy)
				break
			}
		}
		op := p.ops[0]
		p.ops = p.ops[1:]
		op()
	}
	p.w.check()
	if p.alive && len(p.ops) == 0 && (p.absent || p.gone) && !p.todo.pending {
		p.leave()
	}
}

// leave ends the process as it wished to.
func (p *process) leave() {
	if p.absent {
		p.snapshot = p.machine.Snapshot()
		p.w.beginLater(p.node, p.backIn)
	} else {
		p.kernel.until = 0
	}
	p.w.note("%s ends, absent %v", p.name, p.absent)
	p.end()
}

func (p *process) send(to int, raw []byte) {
	p.w.net.carryMessage(p.index, to, func() {
		if r := p.w.nodes[to].process; r != nil {
			r.soon(func() { r.receive(p.index, raw) })
		}
	})
}

func (p *process) receive(from int, raw []byte) {
	message, err := Unmarshal(raw)
	if err != nil {
		p.w.fail("%s: %v", p.name, err)
	}
	p.peers[from].heard = p.clock()
	p.meet(from)
	p.handle(Received{p.w.nodes[from].name, message})
}

// meet tells the machine of a peer that was never seen before.
func (p *process) meet(from int) {
	if s := &p.peers[from]; !s.met || s.silent {
		s.met, s.silent = true, false
		p.handle(Silent{p.w.nodes[from].name, false})
	}
}

// A frame is a heartbeat: whom the sender hears, in which life.
type frame struct {
	life, counter uint64
	heard         []heardLife
}

type heardLife struct {
	life   uint64
	lately bool
}

func (p *process) beat() {
	p.counter++
	f := frame{p.machine.Life, p.counter, make([]heardLife, len(p.peers))}
	now := p.clock()
	for i := range p.peers {
		s := &p.peers[i]
		lately := s.beat != 0 && now-s.beat < p.machine.cfg.HintTime && p.machine.Confirms(p.w.nodes[i].name, s.life)
		f.heard[i] = heardLife{s.life, lately}
	}
	for to, n := range p.w.nodes {
		if to == p.index {
			continue
		}
		p.w.net.carryHeartbeat(p.index, to, func() {
			if n.process != nil {
				r, at := n.process, n.clock()
				r.soon(func() { r.hearBeat(p.index, f, at) })
			}
		})
	}
}

// hearBeat takes a frame that came at a time, maybe before a pause.
func (p *process) hearBeat(from int, f frame, at time.Duration) {
	s := &p.peers[from]
	if f.life < s.life || f.life == s.life && f.counter <= s.counter {
		return
	}
	s.life, s.counter, s.beat = f.life, f.counter, at
	s.heard = max(s.heard, at)
	p.meet(from)
	h := f.heard[p.index]
	p.handle(HeardBy{p.w.nodes[from].name, h.lately && h.life == p.machine.Life, at})
}

// look finds out who fell silent, and whether their machines are there.
func (p *process) look() {
	now := p.clock()
	if p.w.traits.grace && now-p.looked > 2*heartbeatEvery {
		for i := range p.peers {
			p.peers[i].forgiven = now + 2*heartbeatEvery
		}
	}
	p.looked = now
	for i := range p.peers {
		s := &p.peers[i]
		if i == p.index {
			continue
		}
		if s.met && !s.silent && now-s.heard >= p.machine.cfg.DeadAfter && now >= s.forgiven {
			s.silent = true
			p.handle(Silent{p.w.nodes[i].name, true})
		}
		p.knock(i, s, now)
	}
}

// knock asks whether the machine of a peer is there that is silent, or was never heard.
func (p *process) knock(i int, s *sight, now time.Duration) {
	net, peer := p.w.net, p.w.nodes[i]
	if s.met && !s.silent || peer.up && !net.cut[p.index][i] && !net.cut[i][p.index] {
		s.noAnswers = 0
	} else if s.noAnswers == 0 {
		s.noAnswers = now
	}
	if gone := s.noAnswers != 0 && now-s.noAnswers > 500*time.Millisecond; gone != s.hostGone {
		s.hostGone = gone
		p.handle(HostAnswers{peer.name, !gone})
	}
}

// count looks at the sockets. Buckets that are marked for their sake need that no longer when there
// are none; others have some although they are not marked.
func (p *process) count() {
	for d, name := range p.w.traits.domains {
		busy := p.w.flows.busy(d, p.index)
		v := p.machine.Table(name)
		if idle := v.MaybeLocal.Without(busy); !idle.Empty() {
			p.handle(Drained{name, idle})
		}
		var ours Set
		for b, verb := range v.Verbs {
			if verb != Ignore {
				ours.Add(b)
			}
		}
		if stray := busy.Without(v.MaybeLocal).Without(ours); !stray.Empty() {
			p.handle(Inherited{name, stray})
		}
	}
}

func (w *world) indexOf(name string) int {
	return slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == name })
}
