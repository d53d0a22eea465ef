package member_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/nettest"
)

func TestADrainHandsEverythingOverAndBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.form(t)
	begin := datapath.Monotonic()
	l.nodes[2].ask(t, "drain n1", "done") // any node may be told
	took := l.shared(t, 15*time.Second, "n2", "n3") - begin
	l.nodes[1].ask(t, "undrain n1", "done")
	l.shared(t, 15*time.Second, "n1", "n2", "n3")
	t.Logf("drained after %s", took.Round(time.Millisecond))
	l.neverTwo(t, 0)
	l.neverNone(t, begin)
}

func TestALeaveOfAbsenceChangesNoOwner(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.form(t)
	begin := datapath.Monotonic()
	before := l.shares("nodes")
	for _, p := range l.nodes {
		life := p.ask(t, "status", "status").Life
		p.ask(t, "absence", "absent")
		p.ends(t)
		time.Sleep(p.deadAfter() * 5 / 4) // the others would have found it dead
		p.start(t)
		// its lease is one that peers renew, no more that of its leave
		nettest.Eventually(t, time.Minute, func() error { return p.renewed() })
		if now := p.ask(t, "status", "status").Life; now != life {
			t.Errorf("%s: life %d, was %d", p.Name, now, life)
		}
	}
	if diff := cmp.Diff(before, l.shares("nodes")); diff != "" {
		t.Errorf("shares (-before +after):\n%s", diff)
	}
	l.unmoved(t, begin)
	l.neverTwo(t, 0)
	l.neverNone(t, begin)
}

func TestWhatADeadNodeHadIsTakenOver(t *testing.T) {
	t.Parallel()
	most, beat := 600*time.Millisecond, normal
	if slowed {
		most, beat = 5*time.Second, calm
	}
	for _, c := range []struct {
		name string
		cut  bool // the machine goes with its lbd
	}{{"lbd killed", false}, {"machine gone", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3, func(c *child) { c.Beat = beat })
			l.form(t)
			victim := l.nodes[2]
			var took []time.Duration
			// A busy machine takes longer now and then, not each time.
			for len(took) < 3 || len(took) < 10 && slices.Min(took) > most {
				begin := datapath.Monotonic()
				if c.cut {
					if err := l.sw.Host.Down(victim.port()); err != nil {
						t.Fatal(err)
					}
				}
				victim.kill(t)
				took = append(took, l.shared(t, 20*time.Second, "n1", "n2")-begin)
				if c.cut {
					if err := l.sw.Host.Up(victim.port()); err != nil {
						t.Fatal(err)
					}
				}
				victim.start(t)
				l.shared(t, 20*time.Second, "n1", "n2", "n3")
			}
			t.Logf("taken over after %v", took)
			if slices.Min(took) > most {
				t.Errorf("never within %s", most)
			}
			l.neverTwo(t, 0)
		})
	}
}

func TestWhoHasAnotherKeyIsNoMember(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, func(c *child) {
		if c.Name == "n3" {
			c.Key = cluster.GenerateKey()
		} else {
			c.Nodes = []string{"n1", "n2"} // they need not wait for it
		}
	})
	for _, p := range l.nodes {
		p.start(t)
	}
	var members [3]string
	nettest.Eventually(t, time.Minute, func() error {
		if shares := l.shares("nodes"); shares["n1"]+shares["n2"] != 1<<16 || shares["n1"] == 0 || shares["n2"] == 0 {
			return fmt.Errorf("%v", shares)
		}
		return nil
	})
	time.Sleep(2 * l.nodes[0].deadAfter()) // as long as it would take
	for i, p := range l.nodes {
		members[i] = strings.Join(p.ask(t, "status", "status").Members, " ")
	}
	if diff := cmp.Diff([3]string{"n1 n2", "n1 n2", "n3"}, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}
