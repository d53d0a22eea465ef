package ownership

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A world is a cluster that is simulated: nodes with a Machine and a model of their kernel each, a
// network between them, clients that open flows, and what goes wrong. All that happens in it follows
// from its seed.
type world struct {
	seed   uint64
	traits traits
	rand   *rand.Rand
	broken rule // in all machines

	now     time.Duration // of no node's clock
	queue   agenda
	planned int // how many were put into the agenda
	steps   int // events that machines handled

	nodes   []*node
	config  uint64 // the newest, that nodes follow
	net     *network
	flows   *flowBook
	tables  *tables // shared by all machines, which saves most of the time
	records ring

	era      int  // grows with every rest and every plan
	calm     bool // nothing goes wrong, changes are planned
	split    bool // see network.checkSplit
	settling time.Duration
	watch    [][]*watched // in calm: by domain and bucket
	choice   Choice       // of the domain that goes as a whole, by hand
}

// traits are what a world is like, besides what happens in it.
type traits struct {
	nodes, buckets int
	domains        []string
	policy         Policy
	cuts           bool // links are cut
	apart          bool // and nodes start on both sides of a cut
	mostly         int  // what goes wrong most of the time: one of these, 0 for no preference
	loss, twice    float64
	slow           bool // heartbeats take up to slowest, and messages as long as it pleases:
	late           float64
	lateness       time.Duration
	lagging        bool // the kernel is told later, by a worker
	clocks         bool // rates differ by up to 1 %
	grace          bool // heartbeats forgive silence after a pause of the listener
	whole          bool // the last domain goes to one node, as a whole, ...
	stay           bool // which keeps it when a better one comes
	prompt         bool // the witness answers as soon as it can
}

// What can go wrong most of the time.
const (
	crashes = iota + 1 // processes crash and come back
	pairs              // two nodes do not hear each other
	turns              // see cutInTurn
	alone              // a node hears nobody for so long that it takes all others for dead
)

func (t traits) String() string {
	return fmt.Sprintf("%d nodes, %d buckets of %d domains, %v, cuts %v, apart %v, mostly %d, loss %.2f, twice %.2f, slow %v %.2f %v, lagging %v, clocks %v, grace %v, whole %v, stay %v, prompt %v",
		t.nodes, t.buckets, len(t.domains), t.policy, t.cuts, t.apart, t.mostly, t.loss, t.twice, t.slow, t.late, t.lateness, t.lagging, t.clocks, t.grace, t.whole, t.stay, t.prompt)
}

// The times are longer than in production, so that more happens between two heartbeats.
const (
	heartbeatEvery = 100 * time.Millisecond
	slowest        = 60 * time.Millisecond // a heartbeat on its way
)

func simConfig(name string) Config {
	return Config{
		Name: name, Tick: 50 * time.Millisecond, LeaseTime: 400 * time.Millisecond,
		HintTime: 250 * time.Millisecond, DeadAfter: 1050 * time.Millisecond, BootTimeout: 3 * time.Second,
		Refresh: time.Second, FlapWindow: 4 * time.Second,
	}
}

func newWorld(seed uint64, broken rule, force func(*traits), shared *tables) *world {
	w := &world{seed: seed, broken: broken, rand: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), tables: shared}
	w.traits = w.draw()
	if force != nil {
		force(&w.traits)
	}
	w.net = newNetwork(w)
	w.flows = newFlowBook(len(w.traits.domains), w.traits.buckets)
	for i := range w.traits.nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	return w
}

func (w *world) draw() traits {
	t := traits{
		nodes:   2 + w.rand.IntN(4),
		buckets: []int{8, 16, 24, 64}[w.rand.IntN(4)],
		domains: []string{""},
		policy:  Policy(w.rand.IntN(3)),
		cuts:    w.chance(0.6),
		slow:    w.chance(0.4),
		lagging: w.chance(0.4),
		clocks:  w.chance(0.8),
		grace:   w.chance(0.5),
	}
	if t.slow {
		t.late, t.lateness = 0.2*w.rand.Float64()*w.rand.Float64(), w.between(100*time.Millisecond, 3*time.Second)
	}
	t.apart = t.cuts && w.chance(0.1)
	switch {
	case w.chance(0.1):
		t.mostly = crashes
	case t.cuts && w.chance(0.2):
		t.mostly = []int{pairs, turns}[w.rand.IntN(2)]
	}
	if w.chance(0.15) {
		t.nodes += 2
	}
	if w.chance(0.4) {
		t.domains = []string{"", "web"}
	}
	if w.chance(0.6) {
		t.loss = 0.3 * w.rand.Float64() * w.rand.Float64()
	}
	if w.chance(0.4) {
		t.twice = 0.3 * w.rand.Float64()
	}
	t.prompt = w.seed%4 == 0 // not drawn, so that older seeds still give what they gave
	return t
}

func (w *world) chance(p float64) bool { return w.rand.Float64() < p }

// between draws a duration, evenly.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rand.Int64N(int64(high-low)+1))
}

// about draws a duration that is mostly short and sometimes long.
func (w *world) about(mean time.Duration) time.Duration {
	return time.Duration(w.rand.ExpFloat64() * float64(mean))
}

// after has something done later.
func (w *world) after(d time.Duration, do func()) {
	w.planned++
	heap.Push(&w.queue, item{w.now + max(d, 0), w.planned, do})
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		next := heap.Pop(&w.queue).(item)
		w.now = next.at
		next.do()
	}
	w.now = end
}

type item struct {
	at    time.Duration
	order int
	do    func()
}

type agenda []item

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(item)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = item{}
	*a = (*a)[:last]
	return x
}

// A ring remembers what happened last; it is written out only when something is wrong.
type ring struct {
	lines [1500]line
	next  int
}

type line struct {
	at     time.Duration
	format string
	args   []any
}

func (w *world) note(format string, args ...any) {
	w.records.lines[w.records.next%len(w.records.lines)] = line{w.now, format, args}
	w.records.next++
}

func (r *ring) String() string {
	var b strings.Builder
	for i := max(0, r.next-len(r.lines)); i < r.next; i++ {
		l := r.lines[i%len(r.lines)]
		fmt.Fprintf(&b, "%12v  ", l.at)
		fmt.Fprintf(&b, l.format, l.args...)
		b.WriteByte('\n')
	}
	return b.String()
}

// A wrong is what a world panics with when an invariant is broken.
type wrong string

func (w *world) fail(format string, args ...any) {
	panic(wrong(fmt.Sprintf(format, args...)))
}
