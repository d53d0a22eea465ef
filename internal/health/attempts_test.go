package health

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A traffic is what is added in each half second, for a while.
type traffic struct {
	lasts time.Duration
	Counts
	part bool // the counts of a director are missing
}

// An attemptsRun feeds a judge every half second.
type attemptsRun struct {
	*Attempts
	now time.Time
}

func newAttemptsRun(fails int) *attemptsRun {
	start := time.Unix(1000, 0)
	return &attemptsRun{NewAttempts(AttemptRule{MaxFails: fails, FailTimeout: 10 * time.Second}, start), start}
}

func (r *attemptsRun) feed(all ...traffic) {
	for _, t := range all {
		for range t.lasts / (500 * time.Millisecond) {
			r.now = r.now.Add(500 * time.Millisecond)
			r.Record(r.now, t.Counts, !t.part)
		}
	}
}

func TestOnlyFailuresWithoutAnAnswerTakeABackendOut(t *testing.T) {
	healthy := traffic{lasts: 5 * time.Second, Counts: Counts{Opened: 10, Answered: 10}}
	idle := func(lasts time.Duration) traffic { return traffic{lasts: lasts} }
	one := func(c Counts) traffic { return traffic{lasts: 500 * time.Millisecond, Counts: c} }
	for _, c := range []struct {
		name    string
		fails   int
		traffic []traffic
		failing bool
	}{
		{"all is answered", 1, []traffic{healthy}, false},
		{"nobody comes", 1, []traffic{healthy, idle(time.Minute)}, false},
		{"its process is gone", 5, []traffic{healthy, one(Counts{Opened: 5, Refused: 5})}, true},
		{"it refused fewer", 5, []traffic{healthy, one(Counts{Opened: 4, Refused: 4}), idle(9 * time.Second)}, false},
		{"it refused fewer, and later more", 5, []traffic{healthy, one(Counts{Opened: 4, Refused: 4}), idle(9 * time.Second), one(Counts{Opened: 1, Refused: 1})}, true},
		{"what it refused is too long ago", 5, []traffic{healthy, one(Counts{Opened: 4, Refused: 4}), idle(10 * time.Second), one(Counts{Opened: 1, Refused: 1})}, false},
		{"it answered one of many", 5, []traffic{healthy, one(Counts{Opened: 1000, Refused: 999, Answered: 1})}, false},
		{"it answered one in between", 5, []traffic{one(Counts{Opened: 4, Refused: 4}), one(Counts{Opened: 1, Answered: 1}), one(Counts{Opened: 4, Refused: 4})}, false},
		{"its cable is out", 5, []traffic{healthy, {lasts: 6 * time.Second, Counts: Counts{Opened: 1}}}, true},
		{"its cable is out, not for long", 5, []traffic{healthy, {lasts: 3 * time.Second, Counts: Counts{Opened: 1}}}, false},
		{"few come, and none is answered", 5, []traffic{healthy, idle(2 * time.Second), one(Counts{Opened: 4}), idle(20 * time.Second)}, false},
		{"just enough come, and none is answered", 5, []traffic{healthy, idle(2 * time.Second), one(Counts{Opened: 5}), idle(2 * time.Second)}, true},
		{"just enough come, and none is answered yet", 5, []traffic{healthy, idle(2 * time.Second), one(Counts{Opened: 5}), idle(1500 * time.Millisecond)}, false},
		{"a flood, of which it answers a little", 5, []traffic{{lasts: time.Minute, Counts: Counts{Opened: 500_000, Answered: 20}}}, false},
		{"a flood, and its answers are heard of first", 5, []traffic{one(Counts{Answered: 100}), one(Counts{Opened: 100}), one(Counts{Opened: 100}), idle(time.Minute)}, false},
		{"what a director counted is not known", 5, []traffic{healthy, {lasts: time.Minute, Counts: Counts{Opened: 10}, part: true}}, false},
	} {
		r := newAttemptsRun(c.fails)
		r.feed(c.traffic...)
		if got := r.Vote().Failing; got != c.failing {
			t.Errorf("%s: failing %v, want %v", c.name, got, c.failing)
		}
	}
}

func TestABackendThatFailsIsTriedAgain(t *testing.T) {
	failing := Vote{Healthy: true, Failing: true, Percent: 100, Reason: "passive: 5 fails in 10s"}
	tried := Vote{Healthy: true, Failing: true, Tried: true, Percent: triedPercent, Reason: "passive: 5 fails in 10s, tried again"}
	r := newAttemptsRun(5)
	expect := func(when string, want Vote, back time.Duration) {
		t.Helper()
		if diff := cmp.Diff(want, r.Vote()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		if got := r.Back(r.now); got != back {
			t.Errorf("%s: back in %s, want %s", when, got, back)
		}
	}
	tick := traffic{lasts: 500 * time.Millisecond}
	refuses := func(n uint64) traffic {
		return traffic{lasts: tick.lasts, Counts: Counts{Opened: n, Refused: n}}
	}
	expect("at the start", Fine, 0)
	r.feed(refuses(5))
	expect("after five", failing, 10*time.Second)
	r.feed(traffic{lasts: 7 * time.Second, Counts: Counts{Opened: 1, Refused: 1}})
	expect("whatever comes meanwhile", failing, 3*time.Second)
	r.feed(traffic{lasts: 3 * time.Second})
	expect("then", tried, 0)
	r.feed(refuses(1))
	failing.Reason = "passive: 5 fails in 10s, and 1 more since"
	expect("after one more", failing, 10*time.Second)
	r.feed(traffic{lasts: 10 * time.Second})
	tried.Reason = "passive: 5 fails in 10s, and 1 more since, tried again"
	expect("then, for the second time", tried, 0)
	r.feed(refuses(2))
	failing.Reason = "passive: 5 fails in 10s, and 3 more since"
	expect("after two more", failing, 10*time.Second)
	r.feed(traffic{lasts: 10 * time.Second}, traffic{lasts: tick.lasts, Counts: Counts{Opened: 2, Answered: 1}})
	expect("after an answer", Fine, 0)
	r.feed(refuses(4))
	expect("from the beginning", Fine, 0)
	r.feed(refuses(2))
	failing.Reason = "passive: 6 fails in 10s"
	expect("after as many as it takes", failing, 10*time.Second)
}

func TestAnAnswerBringsABackBeforeItsTime(t *testing.T) {
	r := newAttemptsRun(1)
	r.feed(traffic{lasts: time.Second, Counts: Counts{Refused: 1}})
	if !r.Record(r.now, Counts{Answered: 1}, true) || r.Vote() != Fine {
		t.Errorf("%+v, want %+v", r.Vote(), Fine)
	}
}

func TestCountsThatBeginAnewAreAdded(t *testing.T) {
	for _, c := range []struct{ before, after, want Counts }{
		{Counts{}, Counts{3, 2, 1}, Counts{3, 2, 1}},
		{Counts{3, 2, 1}, Counts{5, 3, 1}, Counts{2, 1, 0}},
		{Counts{30, 20, 10}, Counts{5, 30, 11}, Counts{5, 30, 11}},
	} {
		if got := c.after.Since(c.before); got != c.want {
			t.Errorf("%+v after %+v: %+v, want %+v", c.after, c.before, got, c.want)
		}
	}
	if got, want := (Counts{1, 2, 3}).Add(Counts{4, 5, 6}), (Counts{5, 7, 9}); got != want {
		t.Errorf("sum %+v, want %+v", got, want)
	}
}

func TestABackendFailsWhenEnoughDirectorsSaySo(t *testing.T) {
	failing := Vote{Healthy: true, Failing: true, Percent: 100, Reason: "passive: 5 fails in 10s"}
	down := Vote{Percent: 100, Reason: "check tcp is down"}
	for _, c := range []struct {
		name    string
		votes   map[string]Vote
		percent int
		want    Vote
	}{
		{"all", map[string]Vote{"n1": failing, "n2": failing}, 50, failing},
		{"half of them", map[string]Vote{"n1": failing, "n2": Fine}, 50, Fine},
		{"more than half", map[string]Vote{"n1": Fine, "n2": failing, "n3": failing}, 50, failing},
		{"half, where all must find it well", map[string]Vote{"n1": Fine, "n2": failing}, 100, failing},
		{"half of them try it again", map[string]Vote{"n2": failing, "n1": {Healthy: true, Failing: true, Tried: true, Percent: 10}}, 50,
			Vote{Healthy: true, Failing: true, Tried: true, Percent: 10}},
		{"the other half does", map[string]Vote{"n1": failing, "n2": {Healthy: true, Failing: true, Tried: true, Percent: 10}}, 50, failing},
		{"whatever checks say", map[string]Vote{"n1": failing.And(down), "n2": failing}, 50, Vote{
			Healthy: true, Failing: true, Percent: 100, Reason: "1 of 2 directors find it unhealthy; n1: check tcp is down",
		}},
	} {
		if diff := cmp.Diff(c.want, Agree(c.votes, c.percent)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestTwoFindingsAddUp(t *testing.T) {
	half := Vote{Healthy: true, Percent: 50, Reason: "agent a wants 50 % of the weight"}
	tenth := Vote{Healthy: true, Failing: true, Tried: true, Percent: 10, Reason: "passive: tried again"}
	down := Vote{Percent: 100, Reason: "check tcp is down"}
	failing := Vote{Healthy: true, Failing: true, Percent: 100, Reason: "passive: 5 fails in 10s"}
	for _, c := range []struct {
		name string
		a, b Vote
		want Vote
	}{
		{"nothing is special", Fine, Fine, Fine},
		{"parts of a weight", half, tenth, Vote{Healthy: true, Failing: true, Tried: true, Percent: 5, Reason: half.Reason}},
		{"a check says more", down, failing, Vote{Failing: true, Percent: 100, Reason: down.Reason}},
		{"in whichever order", failing, down, Vote{Failing: true, Percent: 100, Reason: down.Reason}},
		{"attempts alone", Fine, failing, failing},
	} {
		if diff := cmp.Diff(c.want, c.a.And(c.b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
