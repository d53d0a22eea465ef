package e2e

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/lbctl/lbctl/internal/nettest"
)

const exitLast = 7

// What an operator tells one director all of them do, also after a restart, and the last backend is
// taken from a service only by force.
func TestDecisionsAboutBackendsHoldOnAllDirectors(t *testing.T) {
	f := newFarm(t, farmOptions{forward: "dr", directors: 2, weights: []int{100, 100}})
	for _, b := range f.backends {
		b.serve()
	}
	n1, n2 := f.nodes[0], f.nodes[1]
	wantAll := func(from int, name string) {
		t.Helper()
		if answers := f.connections(t, vip4, from, 200); answers[name] != 200 {
			t.Errorf("%v, want all of %s", answers, name)
		}
	}
	for i, decision := range []struct{ do, undo, state string }{
		{"drain web/b1", "undrain web/b1", "draining"},
		{"disable web/b1", "enable web/b1", "disabled"},
		{"weight web/b1 0", "weight web/b1 config", "draining"},
	} {
		n1.lbctl(t, "backends "+decision.do).want(t, exitOK)
		f.awaitWeb(t, "b1", decision.state)
		wantAll(20000+1000*i, "b2")
		for _, last := range []string{"drain web/b2", "disable web/b2", "weight web/b2 0"} {
			n2.lbctl(t, "backends "+last).want(t, exitLast, "the last one", "--force")
		}
		n2.restart(syscall.SIGTERM)
		f.agree(t)
		f.awaitWeb(t, "b1", decision.state)
		wantAll(20500+1000*i, "b2")
		n2.lbctl(t, "backends "+decision.undo).want(t, exitOK)
		f.awaitWeb(t, "b1", "up")
	}
	n1.lbctl(t, "backends disable web/b2 --force").want(t, exitOK)
	n1.lbctl(t, "backends disable web/b1 --force").want(t, exitOK)
	f.awaitWeb(t, "b1", "disabled")
	n2.lbctl(t, "status").want(t, exitDegraded, "service web: no backend takes new flows")
	n2.lbctl(t, "backends enable web/b1").want(t, exitOK)
	f.awaitWeb(t, "b1", "up")
	wantAll(30000, "b1")
	n1.lbctl(t, "backends web").want(t, exitOK, "b1", "b2", "disabled", "100.0%", " on eth0")
	n1.lbctl(t, "events").want(t, exitOK, "backend web/b1 drains: decided by hand", "backend web/b1 is up")
	n1.lbctl(t, "backends drain web/b3").want(t, exitFailed, "no such backend")
	n1.lbctl(t, "backends drain ssh/b1").want(t, exitFailed, "no such service")
}

// awaitWeb waits until all directors say so of a backend of the service web.
func (f *farm) awaitWeb(t testing.TB, name, state string) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		for _, n := range f.nodes {
			if b := n.backendsOf(t, "web")[name]; b.State != state {
				return fmt.Errorf("%s: %s is %s, want %s: %+v", n.name, name, b.State, state, b)
			}
		}
		return nil
	})
}
