package e2e

import (
	"syscall"
	"testing"
	"time"
)

// An lbd that hangs is replaced, and when it goes on it finds that it holds nothing: the kernel has
// stopped before others began.
func TestAnLbdThatHungNeverAcceptsWhatOthersTook(t *testing.T) {
	f := newFaulty(t, options{tuning: slowPulse})
	n3 := f.nodes[2]
	f.callers.hold(t, heldFlows)
	survivors := f.others(n3)
	marks, began := f.marks(), time.Now()
	check(t, n3.cmd.Process.Signal(syscall.SIGSTOP))
	list := f.callers.attempts(began, began.Add(lasting(5*time.Second, 30*time.Second)))
	check(t, n3.cmd.Process.Signal(syscall.SIGCONT))
	went := time.Now()
	var took time.Duration
	for _, a := range unanswered(list) {
		took = a.began.Add(newEvery).Sub(began)
	}
	t.Logf("others took over after %s", ms(took))
	if took == 0 || took > 3*deadForSure {
		t.Errorf("others took over after %s", ms(took))
	}
	if last := nodesOf(list[len(list)*3/4:]); last[n3.name] > 0 || len(last) != 2 {
		t.Errorf("while it hung: %v", last)
	}
	f.callers.wantHeld(t) // its host answers, and so do its connections
	f.wire.wantOneAcceptor(t)

	settled := f.agree(t)
	t.Logf("it served again %s after it went on", ms(settled))
	list = f.callers.attempts(went, time.Now().Add(500*time.Millisecond))
	if lost := unanswered(list); len(lost) > 0 {
		t.Errorf("%d of %d SYNs were lost after it went on", len(lost), len(list))
	}
	if served := nodesOf(list); len(served) != 3 {
		t.Errorf("after it went on: %v", served)
	}
	f.callers.wantHeld(t)
	f.wire.wantOneAcceptor(t)
	if t.Failed() {
		t.Logf("events since:\n%s", happenings(append(survivors, n3), marks, began))
	}
}
