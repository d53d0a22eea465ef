package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/nettest"
)

// fullFaults says whether faults last and repeat as long as was promised, and not as a quick run has
// time for.
func fullFaults() bool { return os.Getenv("LB_FULL_FAULTS") == "1" }

// lasting is how long something goes on.
func lasting(quick, full time.Duration) time.Duration {
	if fullFaults() {
		return full
	}
	return quick
}

// tuned are the shortest times with which a busy machine of two cores is still heard.
var tuned = []string{"heartbeat: 20ms", "dead-after: 240ms"}

// A faulty is a cluster that decides by itself, with servers on all nodes, clients, and somebody who
// breaks it.
type faulty struct {
	*cluster
	t       testing.TB
	servers map[string]*side // by node
	callers *callers
	wire    *wire
	fell    map[*node]time.Time // when it lost its place without losing its process
}

// newFaulty returns when the nodes agree and the clients call.
func newFaulty(t testing.TB, opts options) *faulty {
	t.Helper()
	if opts.weights == nil {
		opts.weights = []int{100, 100, 100}
	}
	f := &faulty{cluster: newMembers(t, opts), t: t, servers: make(map[string]*side), fell: make(map[*node]time.Time)}
	for _, n := range f.nodes {
		f.serve(n)
	}
	f.wire = newWire(t, f.cluster)
	f.callers = f.startCallers(t)
	return f
}

func (f *faulty) serve(n *node) {
	f.t.Helper()
	f.servers[n.name] = startSide(f.t, n.host, "server", serverOptions{Name: n.name, VIPs: []netip.Addr{vip4, vip6}, Port: port})
}

// A fault is something that happens to a node and ends.
type fault struct {
	begin, end func(f *faulty, n *node)
	hostLives  bool // the machine answers, and so do its established connections
}

func (n *node) port() string { return n.host.Name + "-eth0" }

// apart are the faults that keep a node from everybody.
func apart(n *node) []nettest.Fault {
	return []nettest.Fault{{From: n.port()}, {To: n.port()}}
}

// deaths are the ways in which a node goes without a word.
var deaths = map[string]fault{
	"crash": {
		begin: func(f *faulty, n *node) {
			nettest.SetFaults(f.t, f.sw, apart(n)...) // a machine without power resets nobody's connections
			n.stop(syscall.SIGKILL)
			f.servers[n.name].kill()
		},
		end: func(f *faulty, n *node) {
			time.Sleep(50 * time.Millisecond) // what its kernel still says about the end of its processes
			nettest.SetFaults(f.t, f.sw)
			f.serve(n)
			n.start()
		},
	},
	"lbd killed": {
		begin:     func(_ *faulty, n *node) { n.stop(syscall.SIGKILL) },
		end:       func(_ *faulty, n *node) { n.start() },
		hostLives: true,
	},
	"cable pulled": {
		begin: func(f *faulty, n *node) { check(f.t, f.sw.Host.Down(n.port())) },
		end: func(f *faulty, n *node) {
			f.forgive(n)
			check(f.t, f.sw.Host.Up(n.port()))
		},
	},
	"black hole": {
		begin: func(f *faulty, n *node) { nettest.SetFaults(f.t, f.sw, apart(n)...) },
		end: func(f *faulty, n *node) {
			f.forgive(n)
			nettest.SetFaults(f.t, f.sw)
		},
	},
}

// damped is for how long a node that fell twice in that time is not trusted.
const damped = time.Minute

// forgive restarts the lbd of a node that fell twice: the next test of it need not wait until it is
// trusted again.
func (f *faulty) forgive(n *node) {
	if time.Since(f.fell[n]) < damped+10*time.Second {
		n.stop(syscall.SIGKILL)
		n.launch()
	}
	f.fell[n] = time.Now()
}

// events returns what a node saw since its event of that number.
func (n *node) events(after uint64) ([]control.Event, error) {
	client, err := control.Dial(n.path("lbd.sock"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return client.Events(ctx, after)
}

// newest is the number of the last event.
func (n *node) newest() uint64 {
	n.t.Helper()
	events, err := n.events(0)
	check(n.t, err)
	if len(events) == 0 {
		return 0
	}
	return events[len(events)-1].Number
}

// told returns those events since a number whose text contains a word.
func (n *node) told(after uint64, word string) (list []control.Event) {
	n.t.Helper()
	events, err := n.events(after)
	check(n.t, err)
	for _, e := range events {
		if strings.Contains(e.What, word) {
			list = append(list, e)
		}
	}
	return list
}

// others are the nodes but one.
func (f *faulty) others(but *node) (list []*node) {
	for _, n := range f.nodes {
		if n != but {
			list = append(list, n)
		}
	}
	return list
}

// firstTold is when the first of some nodes said so, in events after those numbers.
func firstTold(nodes []*node, after map[*node]uint64, word string) (at time.Time) {
	for _, n := range nodes {
		for _, e := range n.told(after[n], word) {
			if at.IsZero() || e.Time.Before(at) {
				at = e.Time
			}
		}
	}
	return at
}

func (f *faulty) marks() map[*node]uint64 {
	marks := make(map[*node]uint64)
	for _, n := range f.running() {
		marks[n] = n.newest()
	}
	return marks
}

// happenings renders what nodes told since.
func happenings(nodes []*node, after map[*node]uint64, since time.Time) string {
	var b strings.Builder
	for _, n := range nodes {
		events, err := n.events(after[n])
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", n.name, err)
		}
		for _, e := range events {
			fmt.Fprintf(&b, "%s %6d ms: %s (%s) %s\n", n.name, e.Time.Sub(since).Milliseconds(), e.What, e.Why, e.Took)
		}
	}
	return b.String()
}
