package daemon

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/probe"
)

// A director is what one of several counts, as the others hear it.
type counting struct {
	member.Attempts
	adds health.Counts // each half second, of web/b1
}

func (c *counting) pass() member.Attempts {
	counts := map[probe.Subject]health.Counts{web("b1"): c.Counts[web("b1")].Add(c.adds)}
	c.Counts = counts
	return c.Attempts
}

// judged runs the judge of n1 for a while, with what n1 and n2 count.
func judged(lasts time.Duration, n1, n2 *counting) (w *attemptWatch, failing bool) {
	w = &attemptWatch{}
	rules := map[probe.Subject]health.AttemptRule{web("b1"): {MaxFails: 5, FailTimeout: 10 * time.Second}}
	for range lasts / attemptsEvery {
		time.Sleep(attemptsEvery)
		now := time.Now()
		w.use(rules, now)
		all := map[string]member.Attempts{"n1": n1.pass()}
		if n2 != nil {
			all["n2"] = n2.pass()
		}
		w.judge(now, n1.Services, all)
	}
	return w, w.judges[web("b1")].Vote().Failing
}

// SYNs go to a backend by all directors, and its answers come back by one.
func TestDirectorsAddUpWhatTheyCountBeforeTheyJudge(t *testing.T) {
	same, other := map[string]uint64{"web": 7}, map[string]uint64{"web": 8}
	for _, c := range []struct {
		name    string
		n1, n2  *counting
		failing bool
	}{
		{"the other one sees the answers",
			&counting{member.Attempts{Services: same}, health.Counts{Opened: 10}}, &counting{member.Attempts{Services: same}, health.Counts{Opened: 10, Answered: 20}}, false},
		{"the other one sees that there is none",
			&counting{member.Attempts{Services: same}, health.Counts{Opened: 10}}, &counting{member.Attempts{Services: same}, health.Counts{}}, true},
		{"the other one sees the refusals",
			&counting{member.Attempts{Services: same}, health.Counts{Opened: 10}}, &counting{member.Attempts{Services: same}, health.Counts{Refused: 10}}, true},
		{"neither sees enough, and both together do",
			&counting{member.Attempts{Services: same}, health.Counts{Opened: 1}}, &counting{member.Attempts{Services: same}, health.Counts{Opened: 2}}, true},
		{"the other one has another configuration",
			&counting{member.Attempts{Services: same}, health.Counts{Opened: 10}}, &counting{member.Attempts{Services: other}, health.Counts{}}, false},
		{"there is no other one",
			&counting{member.Attempts{Services: same}, health.Counts{Opened: 10}}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, failing := judged(6*time.Second, c.n1, c.n2); failing != c.failing {
					t.Errorf("failing %v, want %v", failing, c.failing)
				}
			})
		})
	}
}

func TestADirectorThatWasNotHeardOfMayHaveSeenAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &attemptWatch{}
		services := map[string]uint64{"web": 7}
		w.use(map[probe.Subject]health.AttemptRule{web("b1"): {MaxFails: 1, FailTimeout: 10 * time.Second}}, time.Now())
		opened := uint64(0)
		for range 60 {
			time.Sleep(attemptsEvery)
			opened += 10
			own := member.Attempts{Services: services, Counts: map[probe.Subject]health.Counts{web("b1"): {Opened: opened}}}
			if w.judge(time.Now(), services, map[string]member.Attempts{"n1": own, "n2": {}}) {
				t.Fatal("it judged")
			}
		}
	})
}

func TestWhatIsCountedHasTheNamesOfTheConfiguration(t *testing.T) {
	at := func(n byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), port)
	}
	fails := config.Fails{Max: 3, Timeout: 10 * time.Second}
	cfg := &config.Config{Services: []config.Service{
		{Name: "web", Forward: lb.ForwardNAT, Backends: []config.Backend{
			{Name: "b1", Address: at(1, 0).Addr(), Port: 8080, Fails: fails}, {Name: "b2", Address: at(2, 0).Addr(), Fails: fails},
			{Name: "b3", Address: at(3, 0).Addr(), Fails: config.Fails{}}, {Name: "b4", Address: at(4, 0).Addr(), Fails: fails, Down: true},
		}},
		{Name: "dns", Forward: lb.ForwardNAT, Backends: []config.Backend{{Name: "b1", Address: at(1, 0).Addr()}}},
	}}
	got := attemptsOf(cfg, []datapath.Attempt{
		{Service: "web", Backend: at(1, 8080), Opened: 3, Answered: 2, Refused: 1}, {Service: "web", Backend: at(2, 0), Opened: 9},
		{Service: "web", Backend: at(9, 0), Opened: 1}, {Service: "gone", Backend: at(1, 8080), Opened: 1},
	})
	want := map[probe.Subject]health.Counts{web("b1"): {Opened: 3, Answered: 2, Refused: 1}, web("b2"): {Opened: 9}}
	if diff := cmp.Diff(want, got.Counts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.Services) != 1 || got.Services["web"] == 0 {
		t.Errorf("services: %v, want web and no other", got.Services)
	}
	cfg.Services[0].Backends[1].Fails.Max = 0
	if again := attemptsOf(cfg, nil); again.Services["web"] == got.Services["web"] {
		t.Error("whoever watches other backends has the same fingerprint")
	}
	wantRules := map[probe.Subject]health.AttemptRule{web("b1"): {MaxFails: 3, FailTimeout: 10 * time.Second}}
	if diff := cmp.Diff(wantRules, attemptRules(cfg), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestPeopleSeeWhenABackendIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, failing := judged(6500*time.Millisecond, &counting{Attempts: member.Attempts{Services: map[string]uint64{"web": 7}}, adds: health.Counts{Opened: 1}}, nil)
		if !failing {
			t.Fatal("it does not fail")
		}
		time.Sleep(3 * time.Second)
		for why, want := range map[string]string{
			"passive: 5 fails in 10s": "passive: 5 fails in 10s, back in 7s",
			"passive: 5 fails in 10s; used all the same, as too few are up": "passive: 5 fails in 10s, back in 7s; used all the same, as too few are up",
		} {
			if got := w.back("web", "b1", why); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if got := w.back("web", "b2", "drained"); got != "drained" {
			t.Errorf("%q of a backend that is not watched", got)
		}
	})
}
