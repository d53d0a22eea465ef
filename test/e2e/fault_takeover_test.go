package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

const (
	// watched is how long new connections are watched after a fault: a take-over, and the second in
	// which clients of the dead node must be told.
	watched = 2500 * time.Millisecond
	// resetWithin is how long after a take-over the clients of a dead node may have to wait for a reset:
	// the time between two tries of theirs.
	resetWithin = 2 * time.Second
	heldFlows   = 60
)

// A takeover is what a death cost.
type takeover struct {
	took     time.Duration // until the last SYN of a client was lost
	declared time.Duration // until a survivor said that the node is dead
	reset    time.Duration // from then to the last reset of a client of the dead node
}

// kill lets a node die, watches, and brings it back.
func (f *faulty) kill(t testing.TB, fault fault, victim *node) takeover {
	t.Helper()
	survivors := f.others(victim)
	f.callers.hold(t, heldFlows)
	marks := f.marks()
	began := time.Now()
	fault.begin(f, victim)
	ended := began.Add(watched)
	list := f.callers.attempts(began, ended)
	var cost takeover
	for _, a := range unanswered(list) {
		cost.took = a.began.Add(newEvery).Sub(began)
	}
	declared := firstTold(survivors, marks, victim.name+" is dead")
	if declared.IsZero() {
		t.Errorf("no survivor says that %s died", victim.name)
	}
	cost.declared = declared.Sub(began)
	cost.took = max(cost.took, cost.declared) // on a busy machine there may be no attempt in between
	restored := began.Add(cost.took)
	after := slices.DeleteFunc(slices.Clone(list), func(a attempt) bool { return a.began.Before(restored.Add(newEvery)) })
	wantServed(t, after)
	served := nodesOf(after)
	if served[victim.name] > 0 || len(served) != len(survivors) {
		t.Errorf("after the take-over: %v", served)
	}
	if fault.hostLives {
		f.callers.wantHeld(t)
	} else {
		f.callers.wantHeld(t, victim.name)
		cost.reset = f.wantResets(t, victim, began, declared, restored)
	}
	f.wire.wantOneAcceptor(t)
	if t.Failed() {
		t.Logf("%+v; events since:\n%s", cost, happenings(survivors, marks, began))
	}

	fault.end(f, victim)
	settled := f.agree(t)
	f.wantEverybody(t, fmt.Sprint(ms(settled), " after it came back"))
	return cost
}

// wantEverybody fails the test when from now on a new connection is not served, or a node serves none.
func (f *faulty) wantEverybody(t testing.TB, when string) {
	t.Helper()
	began := time.Now()
	for {
		time.Sleep(150 * time.Millisecond)
		list := f.callers.attempts(began, time.Now())
		if len(list) < 20 && time.Since(began) < 10*time.Second {
			continue
		}
		wantServed(t, list)
		served := nodesOf(list)
		if len(served) == len(f.nodes) || t.Failed() {
			return
		}
		if len(list) > 300 {
			t.Errorf("%s: %v", when, served)
			return
		}
	}
}

// wantResets fails the test when a client of the dead node was not told in time, or too early: before
// the node was dead for the others, its connections might live.
func (f *faulty) wantResets(t testing.TB, victim *node, began, declared, restored time.Time) (latest time.Duration) {
	t.Helper()
	clients := 0
	for _, h := range f.callers.heldNow() {
		if h.node != victim.name {
			continue
		}
		clients++
		at := f.wire.resetsOf(h.caller, began)
		switch {
		case len(at) == 0:
			t.Errorf("port %d (IPv6 %t): its node died, and nobody tells: %v", h.port, h.v6, h.err)
		case at[0].Before(declared):
			t.Errorf("port %d (IPv6 %t): reset %s before its node was declared dead", h.port, h.v6, declared.Sub(at[0]))
		case at[0].Sub(restored) > resetWithin:
			t.Errorf("port %d (IPv6 %t): reset %s after the take-over", h.port, h.v6, at[0].Sub(restored))
		default:
			latest = max(latest, at[0].Sub(restored))
		}
	}
	if clients == 0 {
		t.Errorf("%s served nobody", victim.name)
	}
	return latest
}

// A node that goes without a word is replaced in time, and never too early, and nobody else notices.
func TestOthersTakeTheBucketsOfADeadNode(t *testing.T) {
	for _, setting := range []struct {
		name   string
		tuning []string
		runs   int           // of each death in a quick run
		within time.Duration // p99 of the full run
	}{
		{"default", nil, 2, 600 * time.Millisecond},
		{"tuned", tuned, 1, 350 * time.Millisecond},
	} {
		t.Run(setting.name, func(t *testing.T) {
			f := newFaulty(t, options{tuning: setting.tuning})
			runs := setting.runs
			if fullFaults() {
				runs = 30
			}
			for _, name := range slices.Sorted(maps.Keys(deaths)) {
				within := setting.within
				if !fullFaults() {
					within = 2 * time.Second // machines that test do much else
				}
				whole := true
				t.Run(name, func(t *testing.T) { whole = f.measure(t, deaths[name], runs, within) })
				if !whole {
					return // what is left of the cluster proves nothing
				}
			}
		})
	}
}

// measure kills one node after the other, and says whether all was well but the time.
func (f *faulty) measure(t *testing.T, fault fault, runs int, within time.Duration) bool {
	var took, resets []time.Duration
	for i := range runs {
		victim := f.nodes[i%len(f.nodes)]
		cost := f.kill(t, fault, victim)
		if t.Failed() {
			return false
		}
		t.Logf("%s: new connections after %s, declared after %s, last reset %s later",
			victim.name, ms(cost.took), ms(cost.declared), ms(cost.reset))
		took, resets = append(took, cost.took), append(resets, cost.reset)
	}
	worst := percentile(took, 99)
	t.Logf("%d runs: new connections after median %s, p99 %s; resets p99 %s later", runs, ms(percentile(took, 50)), ms(worst), ms(percentile(resets, 99)))
	if worst > within {
		t.Errorf("new connections after %s, want %s", ms(worst), within)
	}
	return true
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// percentile returns the smallest value that so many of a hundred do not exceed.
func percentile(of []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[(len(sorted)*percent+99)/100-1]
}
