package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
)

const gossipPort = 7946

// slowPulse are times that a busy machine keeps: these tests ask what happens, and not how soon.
var slowPulse = []string{"heartbeat: 100ms"}

// deadForSure is how long the dead are dead for sure, at those times.
const deadForSure = 2 * time.Second

// between are faults of all frames that go from one of some nodes to one of some others.
func between(from, to []*node, kind nettest.Fault) (faults []nettest.Fault) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				kind.From, kind.To = a.port(), b.port()
				faults = append(faults, kind)
			}
		}
	}
	return faults
}

// bothWays are faults between two groups.
func bothWays(a, b []*node) []nettest.Fault {
	return append(between(a, b, nettest.Fault{}), between(b, a, nettest.Fault{})...)
}

// placed returns what each node takes new flows of, in buckets, and in which life.
func (f *faulty) placed(t testing.TB) map[string]string {
	t.Helper()
	placed := make(map[string]string)
	for _, n := range f.nodes {
		status, err := n.status()
		check(t, err)
		m := memberOf(status, n.name)
		placed[n.name] = fmt.Sprintf("%d buckets in life %d", m.Held, m.Life)
	}
	return placed
}

// heal takes all faults back and waits for one cluster, in which everybody serves.
func (f *faulty) heal(t testing.TB) time.Duration {
	t.Helper()
	start := time.Now()
	nettest.SetFaults(t, f.sw)
	nettest.Eventually(t, agreeWithin, func() error {
		statuses, err := askAll(f.nodes, (*node).status)
		if err != nil {
			return err
		}
		return disagreement(statuses)
	})
	took := time.Since(start)
	if took > damped/2 {
		t.Errorf("one cluster only %s after the cut: a node was damped", took)
	}
	f.wantEverybody(t, fmt.Sprint(ms(took), " after the cut"))
	return took
}

// wantSaid waits until every node's status names a problem as often as that.
func (f *faulty) wantSaid(t testing.TB, problem string, times int) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		statuses, err := askAll(f.nodes, (*node).status)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			said := 0
			for _, p := range s.Problems {
				if strings.Contains(p, problem) {
					said++
				}
			}
			if said != times {
				return fmt.Errorf("%s says %d times, not %d, that %s: %q", s.Node, said, times, problem, s.Problems)
			}
		}
		return nil
	})
}

// A part of the network that is cut is no reason to move anything.
func TestGossipOrHeartbeatsAloneMoveNothing(t *testing.T) {
	f := newFaulty(t, options{tuning: slowPulse})
	for _, cut := range []struct {
		name   string
		faults []nettest.Fault
		said   string // by all, of the others
	}{
		{"gossip", []nettest.Fault{{Port: gossipPort}}, "its heartbeats come, and no gossip"},
		{"heartbeats", []nettest.Fault{{Ethertype: heartbeat.EtherType}}, "its gossip comes, and no heartbeat"},
	} {
		t.Run(cut.name, func(t *testing.T) {
			f.callers.hold(t, heldFlows)
			before, marks, began := f.placed(t), f.marks(), time.Now()
			nettest.SetFaults(t, f.sw, cut.faults...)
			ended := began.Add(lasting(deadForSure+time.Second, 30*time.Second))
			list := f.callers.attempts(began, ended)
			if nettest.Lost(t, f.sw) == 0 {
				t.Error("nothing was lost: the test proves nothing")
			}
			wantServed(t, list)
			if diff := cmp.Diff(before, f.placed(t)); diff != "" {
				t.Errorf("buckets (-before +after):\n%s", diff)
			}
			f.wantSaid(t, cut.said, len(f.nodes)-1)
			f.callers.wantHeld(t)
			f.wire.wantOneAcceptor(t)
			if t.Failed() {
				t.Logf("events since:\n%s", happenings(f.nodes, marks, began))
			}
			f.heal(t)
			f.wantSaid(t, cut.said, 0) // one alone holds the cluster together until then
			if diff := cmp.Diff(before, f.placed(t)); diff != "" {
				t.Errorf("buckets after it (-before +after):\n%s", diff)
			}
		})
	}
}

// Who goes on when all of the network is cut between n3 and the others. Where one side has to stop, the
// client reaches both, so that it would notice. With "any" it reaches the greater one.
func TestASideOfAFullCutGoesOnAsThePolicySays(t *testing.T) {
	for _, test := range []struct {
		policy string
		tuning []string
		beside []nettest.Fault
		held   int // buckets of n3 then, of two tables
	}{
		{"any", nil, []nettest.Fault{{From: "n3-eth0"}, {To: "n3-eth0"}}, 2 * lb.Buckets},
		{"majority", nil, nil, 0},
		{"witness", []string{"witness: [" + clientAddr(vip4).String() + "]"}, []nettest.Fault{{From: "n3-eth0", Protocol: unix.IPPROTO_ICMP}}, 0},
	} {
		t.Run(test.policy, func(t *testing.T) {
			f := newFaulty(t, options{tuning: append(append(slices.Clone(slowPulse), "partition: "+test.policy), test.tuning...)})
			n3 := f.nodes[2]
			f.callers.hold(t, heldFlows)
			marks, began := f.marks(), time.Now()
			nettest.SetFaults(t, f.sw, append(bothWays([]*node{n3}, f.nodes[:2]), test.beside...)...)
			time.Sleep(deadForSure)
			now := time.Now()
			list := f.callers.attempts(now, now.Add(lasting(500*time.Millisecond, 10*time.Second)))
			wantServed(t, list)
			if served := nodesOf(list); served["n1"] == 0 || served["n2"] == 0 || served["n3"] > 0 {
				t.Errorf("the greater side does not take all: %v", served)
			}
			status, err := n3.status()
			check(t, err)
			if held := memberOf(status, n3.name).Held; held != test.held {
				t.Errorf("n3, alone, takes new flows of %d buckets, want %d", held, test.held)
			}
			f.callers.wantHeld(t, n3.name) // nobody can know whether it lives
			f.wire.wantOneAcceptor(t)

			healed := time.Now()
			took := f.heal(t)
			// under "any" both sides hold everything until they hear of each other
			grace := map[string]time.Duration{"any": time.Second}[test.policy]
			if late := f.wire.acceptedAfter(healed.Add(grace)); len(late) > 0 {
				t.Errorf("%d SYNs were accepted by two nodes %s after the cut: %v", len(late), grace, first(late))
			}
			t.Logf("one cluster %s after the cut", ms(took))
			if t.Failed() {
				t.Logf("events since:\n%s", happenings(f.nodes, marks, began))
			}
		})
	}
}

// Frames from one node to another are lost, and not those that go back.
func TestNoOneWayCutMakesTwoAcceptors(t *testing.T) {
	f := newFaulty(t, options{tuning: slowPulse})
	for _, from := range f.nodes {
		for _, to := range f.nodes {
			if from == to {
				continue
			}
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				f.callers.hold(t, heldFlows)
				marks, began := f.marks(), time.Now()
				nettest.SetFaults(t, f.sw, between([]*node{from}, []*node{to}, nettest.Fault{})...)
				list := f.callers.attempts(began, began.Add(lasting(deadForSure, 20*time.Second)))
				if nettest.Lost(t, f.sw) == 0 {
					t.Error("nothing was lost: the test proves nothing")
				}
				late := list[len(list)*9/10:]
				t.Logf("%d of %d new connections failed, %d of the last %d", len(unanswered(list)), len(list), len(unanswered(late)), len(late))
				f.callers.wantHeld(t)
				took := f.heal(t)
				f.wire.wantOneAcceptor(t)
				t.Logf("one cluster %s after the cut", ms(took))
				if t.Failed() {
					t.Logf("events since:\n%s", happenings(f.nodes, marks, began))
				}
			})
		}
	}
}

// A cable that comes and goes must not take the cluster with it.
func TestAFlappingLinkIsDamped(t *testing.T) {
	f := newFaulty(t, options{tuning: slowPulse})
	n3 := f.nodes[2]
	f.callers.hold(t, heldFlows)
	marks, began := f.marks(), time.Now()
	for time.Since(began) < lasting(20*time.Second, time.Minute) {
		nettest.SetFaults(t, f.sw, apart(n3)...)
		time.Sleep(deadForSure)
		nettest.SetFaults(t, f.sw)
		time.Sleep(deadForSure)
	}
	f.callers.wantHeld(t, n3.name)
	f.wire.wantOneAcceptor(t)
	for _, n := range f.nodes[:2] {
		if changes := n.viewChanges(marks[n]); changes > 3 {
			t.Errorf("%s changed its mind %d times in %s", n.name, changes, ms(time.Since(began)))
		} else {
			t.Logf("%s changed its mind %d times in %s", n.name, changes, ms(time.Since(began)))
		}
	}
	if t.Failed() {
		t.Logf("events since:\n%s", happenings(f.nodes, marks, began))
	}
	now := time.Now()
	list := f.callers.attempts(now, now.Add(500*time.Millisecond))
	wantServed(t, list)
}

// viewChanges counts how often a node moved buckets since an event.
func (n *node) viewChanges(after uint64) (changes int) {
	n.t.Helper()
	for _, word := range []string{"taken over", "came from", "went to"} {
		changes += len(n.told(after, word))
	}
	return changes
}

// Loss is no death, up to five percent; beyond that, whatever happens happens to one node at a time.
func TestLossMakesNoTwoAcceptors(t *testing.T) {
	var opts options
	if !fullFaults() {
		opts.tuning = slowPulse
	}
	f := newFaulty(t, opts)
	for _, percent := range []int{5, 20} {
		t.Run(fmt.Sprint(percent, " percent"), func(t *testing.T) {
			f.callers.hold(t, heldFlows)
			before, marks, began := f.placed(t), f.marks(), time.Now()
			var faults []nettest.Fault
			for _, n := range f.nodes {
				faults = append(faults, nettest.Fault{From: n.port(), Percent: percent})
			}
			nettest.SetFaults(t, f.sw, faults...)
			for until := time.Now().Add(lasting(12*time.Second, 10*time.Minute)); time.Now().Before(until); {
				time.Sleep(time.Second)
			}
			deaths := make(map[string]int)
			for _, n := range f.nodes {
				deaths[n.name] = len(n.told(marks[n], " is dead")) + len(n.told(marks[n], "begins anew"))
			}
			t.Logf("%d frames lost; deaths as the nodes saw them: %v", nettest.Lost(t, f.sw), deaths)
			if percent <= 5 && (slices.Max(slices.Collect(maps.Values(deaths))) > 0 || !cmp.Equal(before, f.placed(t))) {
				t.Errorf("loss of %d %% moved buckets:\n%s", percent, cmp.Diff(before, f.placed(t)))
			}
			f.wire.wantOneAcceptor(t)
			if t.Failed() {
				t.Logf("events since:\n%s", happenings(f.nodes, marks, began))
			}
			t.Logf("one cluster %s after the loss", ms(f.heal(t)))
			f.callers.wantHeld(t)
		})
	}
}
