package member_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/nettest"
)

// voters waits until a node knows these votes about web/b1, by node; each voted for dns/b2, too.
func (p *process) voters(t *testing.T, within time.Duration, votes ...string) {
	t.Helper()
	var all []string
	for _, vote := range votes {
		node, up, _ := strings.Cut(vote, " ")
		all = append(all, node+" dns/b2 true", node+" web/b1 "+up)
	}
	want := strings.Join(all, ", ")
	nettest.Eventually(t, within, func() error {
		if got := p.ask(t, "votes", "votes").Votes; got != want {
			return fmt.Errorf("%s knows %q, want %q", p.Name, got, want)
		}
		return nil
	})
}

func TestDirectorsKnowWhatTheOthersFoundOut(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.form(t)
	for n, vote := range []string{"vote up", "vote down", "vote up"} {
		l.nodes[n].ask(t, vote, "done")
	}
	for _, p := range l.nodes {
		p.voters(t, 2*time.Second, "n1 true", "n2 false", "n3 true")
	}
	l.nodes[0].ask(t, "vote down", "done")
	for _, p := range l.nodes {
		p.voters(t, 2*time.Second, "n1 false", "n2 false", "n3 true")
	}
	l.nodes[2].kill(t)
	for _, p := range l.nodes[:2] {
		p.voters(t, 5*time.Second, "n1 false", "n2 false")
	}
	l.nodes[2].start(t)
	l.nodes[2].voters(t, 3*time.Second, "n1 false", "n2 false")
	l.nodes[2].ask(t, "vote down", "done")
	for _, p := range l.nodes {
		p.voters(t, 5*time.Second, "n1 false", "n2 false", "n3 false")
	}
}
