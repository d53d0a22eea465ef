package balance

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// The simulation has worlds of a few slots, whose backends come, go, fail and change while clients
// talk to them, until it made LBSIM_STEPS steps. A step is a packet or a change. LBSIM_SEED runs one
// world alone and tells what happened in it.
const (
	defaultSteps  = 1_200_000
	stepsOfAWorld = 4000
	simSlots      = 13
	simFlows      = 40
)

// A client is a flow: it sends one packet after the other, not longer apart than it may be silent.
type client struct {
	slot   int
	udp    bool
	at     server
	opened bool // and what it sends has to reach the server
	sent   int  // packets
}

// An event happens at a time.
type event struct {
	at   time.Duration
	do   func()
	rank int // events of one time, in order
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].rank < e[j].rank
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

type world struct {
	random  *rand.Rand
	now     time.Duration
	steps   int
	queue   events
	rank    int
	log     *strings.Builder // nil: nobody reads it
	wrong   string
	service *Service
	kernel  *kernel
	rules   Rules
	calm    bool // nothing changes any more

	backends []Backend
	lives    map[netip.Addr]int // grows when it dies
	dead     map[netip.Addr]bool
	unheard  map[netip.Addr]bool // died, of which the datapath did not hear since
	applied  bool
	updates  int
	clients  []*client
	pace     time.Duration // between changes, on average
	hurry    int           // percent of gaps that are long
	packets  int
}

func newWorld(seed uint64, broken rule, verbose bool) *world {
	w := &world{
		random: rand.New(rand.NewPCG(seed, 1)), service: newService(simSlots),
		lives: make(map[netip.Addr]int), dead: make(map[netip.Addr]bool), unheard: make(map[netip.Addr]bool), applied: true,
	}
	if verbose {
		w.log = new(strings.Builder)
	}
	w.service.broken = broken
	switch w.random.IntN(4) {
	case 0:
		w.rules.UDPIdle = time.Minute
	case 1:
		w.rules.TCPIdle, w.rules.UDPIdle = 15*time.Minute, time.Minute
	default:
		w.rules.TCPIdle = []time.Duration{2 * time.Minute, 15 * time.Minute}[w.random.IntN(2)]
	}
	w.rules.MinBackends = w.random.IntN(3)
	w.pace = []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute, time.Hour}[w.random.IntN(4)]
	w.hurry = []int{2, 10, 50}[w.random.IntN(3)]
	w.kernel = &kernel{
		choice: w.service.choice, records: make(map[int]record), glimpses: make(map[int]record),
	}
	for range 1 + w.random.IntN(5) {
		w.add()
	}
	w.clients = make([]*client, simFlows)
	w.at(0, w.update)
	for i := range w.clients {
		w.at(w.below(time.Minute), func() { w.open(i) })
	}
	w.at(w.below(w.pace), w.change)
	w.at(0, w.look)
	w.at(w.below(10*w.pace), w.restart)
	return w
}

func (w *world) at(after time.Duration, do func()) {
	w.rank++
	heap.Push(&w.queue, event{w.now + after, do, w.rank})
}

func (w *world) below(d time.Duration) time.Duration { return time.Duration(w.random.Int64N(int64(d))) }

func (w *world) say(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, "%12v "+format+"\n", append([]any{w.now.Round(time.Millisecond)}, args...)...)
	}
}

func (w *world) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf("at %v, step %d: ", w.now, w.steps) + fmt.Sprintf(format, args...)
		w.say("WRONG: %s", w.wrong)
	}
}

// live goes on until the steps are made, and then until all is at rest.
func (w *world) live() {
	for w.wrong == "" && w.steps < stepsOfAWorld {
		w.next()
	}
	w.calm = true
	w.say("from here on nothing changes")
	clear(w.clients)
	w.at(0, w.update)
	for end := w.now + 3*time.Hour; w.wrong == "" && w.now < end; {
		w.next()
	}
	if w.wrong == "" {
		w.rest()
	}
}

func (w *world) next() {
	e := heap.Pop(&w.queue).(event)
	w.now = e.at
	e.do()
}

// restart begins with what the datapath has.
func (w *world) restart() {
	if w.calm {
		return
	}
	w.at(w.below(20*w.pace), w.restart)
	w.say("restart")
	broken := w.service.broken
	w.service = newService(simSlots)
	w.service.broken = broken
	places := make([]lb.Backend, len(w.kernel.places))
	for i := range places {
		p := &w.kernel.places[i]
		places[i] = lb.Backend{Addr: p.Addr, Port: p.Port}
	}
	w.service.Restore(w.now, w.kernel.rules, places, w.kernel.choice)
	w.applied = true
	w.update()
}

// rest checks that nothing is left of what happened.
func (w *world) rest() {
	switch c := w.service.choice; {
	case c.Marks != nil || c.Previous != nil:
		w.fail("slots do not come to rest: %v, previous %v", c.Marks, c.Previous)
	case fmt.Sprint(c.Current) != fmt.Sprint(w.service.table):
		w.fail("slots are at %v, and should be at %v", c.Current, w.service.table)
	}
	for i := range w.service.places {
		if p := &w.service.places[i]; p.addr.IsValid() && !p.present {
			w.fail("the place of %s, which was removed, is not free", p.name)
		}
	}
}

// open begins a flow. Its number stands for addresses and ports, which are used again.
func (w *world) open(i int) {
	if w.calm {
		return
	}
	c := &client{slot: i % simSlots, udp: w.rules.TCPIdle == 0 || w.rules.UDPIdle > 0 && i%2 == 0}
	w.clients[i] = c
	w.send(i, c)
}

// send sends a packet and plans the next one.
func (w *world) send(i int, c *client) {
	if w.clients[i] != c {
		return
	}
	w.steps++
	w.packets++
	place := w.kernel.packet(w.now, i, c.slot, c.udp, !c.udp && c.sent == 0)
	var to server
	nowhere := place == lb.NoBackend
	if !nowhere {
		if !w.kernel.usable(place) {
			w.fail("flow %d goes to place %d, which is dead or free", i, place)
			return
		}
		p := &w.kernel.places[place]
		to = server{p.Addr, w.lives[p.Addr]}
		nowhere = w.dead[p.Addr] || w.unheard[p.Addr]
	}
	c.sent++
	switch {
	case nowhere && !c.opened:
		w.clients[i] = nil
		w.at(w.below(time.Minute), func() { w.open(i) })
		return
	case !c.opened:
		c.at, c.opened = to, true
		w.say("flow %d (slot %d, udp %v) opens at %v", i, c.slot, c.udp, to)
	case c.at != to:
		w.fail("flow %d (slot %d, udp %v) is at %v and a packet goes to %v", i, c.slot, c.udp, c.at, to)
		return
	}
	if c.sent > 1 && w.random.IntN(20) == 0 {
		w.say("flow %d closes", i)
		w.clients[i] = nil
		again := w.below(time.Minute)
		if c.udp { // else it is the same flow
			again += w.rules.UDPIdle + slack
		}
		w.at(again, func() { w.open(i) })
		return
	}
	w.at(w.gap(c), func() { w.send(i, c) })
}

// gap is how long a client is silent.
func (w *world) gap(c *client) time.Duration {
	most := w.rules.TCPIdle
	switch {
	case c.udp:
		most = w.rules.UDPIdle
	case c.sent == 1:
		most = Opening
	}
	if w.random.IntN(100) >= w.hurry {
		return w.below(min(most, 20*time.Second))
	}
	return most - w.below(most/4) - time.Millisecond
}

// look tells the service what is remembered.
func (w *world) look() {
	w.at(10*time.Second+w.below(time.Minute), w.look)
	if w.applied {
		w.decide(w.kernel.look(w.now))
	}
}

func (w *world) update() { w.decide(nil) }

// decide is what lbd does: it decides and applies, in one go. Sometimes it can't apply for a while.
func (w *world) decide(seen *Seen) {
	w.updates++
	number := w.updates
	rules := w.rules
	out := w.service.Update(w.now, Input{Rules: rules, Backends: w.backends, Applied: w.applied, Seen: seen})
	w.mourn()
	w.say("update: %v %s", seen != nil, show(out))
	w.applied = false
	if w.calm || w.random.IntN(10) > 0 {
		w.kernel.apply(rules, out)
		w.applied = true
		clear(w.unheard)
		if out.Next > 0 {
			w.at(out.Next-w.now, func() {
				if number == w.updates {
					w.decide(nil)
				}
			})
		}
		return
	}
	w.say("which can't be applied")
	w.at(w.below([]time.Duration{time.Second, 3 * time.Minute}[w.random.IntN(2)]), func() {
		if number == w.updates {
			w.decide(nil)
		}
	})
}

func show(out Output) string {
	var b strings.Builder
	for i, p := range out.Places {
		if p.Name != "" {
			fmt.Fprintf(&b, "%d=%s/%s %v %d dead=%v; ", i, p.Name, p.Addr, p.State, p.Weight, p.Dead)
		}
	}
	fmt.Fprintf(&b, "current %v previous %v marks %v next %v", out.Choice.Current, out.Choice.Previous, out.Choice.Marks, out.Next)
	return b.String()
}

// mourn ends the flows of the dead, by the words of the rules and not by what the service thinks.
func (w *world) mourn() {
	var up [TierSorry + 1]int
	for _, b := range w.backends {
		if !b.Disabled && b.Reachable && b.Healthy && b.Weight > 0 {
			up[b.Tier]++
		}
	}
	main, least := up[TierMain], w.rules.MinBackends
	heedless := least > 0 && main+up[TierBackup] < least && (main+up[TierBackup] > 0 || up[TierSorry] == 0)
	for _, b := range w.backends {
		dead := b.Disabled || !b.Reachable || !b.Healthy && (!heedless || b.Tier != TierMain)
		if dead && !w.dead[b.Addr] {
			w.lives[b.Addr]++
			w.unheard[b.Addr] = true
			for i, c := range w.clients {
				if c != nil && c.opened && c.at.addr == b.Addr {
					w.say("flow %d dies with %s", i, b.Name)
					w.clients[i] = nil
					w.at(w.below(time.Minute), func() { w.open(i) })
				}
			}
		}
		w.dead[b.Addr] = dead
	}
}

// change changes one thing, or a few at once.
func (w *world) change() {
	if w.calm {
		return
	}
	w.at(1+w.below(2*w.pace), w.change)
	for range 1 + w.random.IntN(2) {
		w.steps++
		w.changeOne()
	}
	w.update()
}

func (w *world) changeOne() {
	if len(w.backends) == 0 {
		w.add()
		return
	}
	i := w.random.IntN(len(w.backends))
	b := &w.backends[i]
	switch w.random.IntN(12) {
	case 0, 1:
		b.Healthy = !b.Healthy
	case 2:
		b.Reachable = !b.Reachable
	case 3:
		b.Disabled = !b.Disabled
	case 4, 5:
		b.Weight = []int{0, 1, 50, 100}[w.random.IntN(4)]
	case 6:
		w.backends = append(w.backends[:i:i], w.backends[i+1:]...)
	case 7, 8:
		w.add()
	case 9:
		b.Addr = w.addr(b.Name)
	case 10:
		w.rules.MinBackends = w.random.IntN(3)
	case 11: // all is well again
		for i := range w.backends {
			b := &w.backends[i]
			b.Healthy, b.Reachable, b.Disabled, b.Weight = true, true, false, max(b.Weight, 1)
		}
	}
}

// addr is one of three of a backend.
func (w *world) addr(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, 2, 10*(name[1]-'0') + byte(w.random.IntN(3))})
}

// add configures one more backend, if its name is not taken.
func (w *world) add() {
	name := fmt.Sprintf("b%d", 1+w.random.IntN(6))
	b := Backend{Name: name, Addr: w.addr(name), Weight: 100, Reachable: true, Healthy: true}
	for i := range w.backends {
		if w.backends[i].Name == b.Name {
			return
		}
	}
	if w.random.IntN(2) == 0 {
		b.SlowStart = w.below(10*time.Minute) + 1
	}
	if w.random.IntN(4) == 0 {
		b.Tier = Tier(w.random.IntN(int(TierSorry) + 1))
	}
	w.backends = append(slices.Clip(w.backends), b)
}

func envUint(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// explore runs worlds from a seed on until they made that many steps or one went wrong, and returns
// that one.
func explore(first, steps uint64, broken rule) (wrong *world, seed uint64, made int) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := first
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for {
				mu.Lock()
				mine := next
				next++
				done := wrong != nil || uint64(made) >= steps
				mu.Unlock()
				if done {
					return
				}
				w := newWorld(mine, broken, false)
				w.live()
				mu.Lock()
				made += w.steps
				if w.wrong != "" && (wrong == nil || mine < seed) {
					wrong, seed = w, mine
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return wrong, seed, made
}

func TestNoFlowOfALivingBackendBreaks(t *testing.T) {
	if seed := envUint(t, "LBSIM_SEED", 0); seed != 0 {
		w := newWorld(seed, ruleNone, true)
		w.live()
		t.Logf("%d packets\n%s", w.packets, w.log)
		if w.wrong != "" {
			t.Error(w.wrong)
		}
		return
	}
	steps := envUint(t, "LBSIM_STEPS", defaultSteps)
	wrong, seed, made := explore(1, steps, ruleNone)
	if wrong == nil {
		wrong, seed, _ = explore(rand.Uint64()|1, steps/10, ruleNone)
	}
	if wrong != nil {
		t.Fatalf("seed %d: %s\nLBSIM_SEED=%d go test -v -run TestNoFlowOfALivingBackendBreaks ./internal/balance", seed, wrong.wrong, seed)
	}
	t.Logf("%d steps", made)
}

func TestWithoutEachRuleAFlowBreaks(t *testing.T) {
	for broken := ruleNone + 1; broken < ruleCount; broken++ {
		wrong, seed, made := explore(1, 3*defaultSteps, broken)
		if wrong == nil {
			t.Errorf("rule %d, switched off, breaks nothing in %d steps", broken, made)
			continue
		}
		t.Logf("rule %d: after %d steps, seed %d, %s", broken, made, seed, wrong.wrong)
	}
}
