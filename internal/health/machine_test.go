package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// feed records a result a second, + for a success and - for a failure, and returns the state after
// each: U up, D down, ? unknown.
func feed(m *Machine, results string) string {
	var states strings.Builder
	for i, c := range results {
		before := m.State()
		changed := m.Record(epoch.Add(time.Duration(i)*time.Second), Result{OK: c == '+'})
		if changed != (m.State() != before) {
			return "Record lies about a change"
		}
		states.WriteByte("?UD"[m.State()])
	}
	return states.String()
}

func TestResultsInARowChangeTheState(t *testing.T) {
	for _, c := range []struct {
		name       string
		rise, fall int
		start      State
		results    string
		states     string
	}{
		{"started up, it goes down with the third failure", 2, 3, Up, "---", "UUD"},
		{"started up, it never was anything else", 2, 3, Up, "+++", "UUU"},
		{"started down, it comes up with the second success", 2, 3, Down, "++", "DU"},
		{"started unknown, the first success decides", 2, 3, Unknown, "+--", "UUU"},
		{"started unknown, the first failure decides", 2, 3, Unknown, "-++", "DDU"},
		{"a success between failures starts the count anew", 2, 3, Up, "--+--+---", "UUUUUUUUD"},
		{"a failure between successes starts the count anew", 2, 3, Down, "+-+-++", "DDDDDU"},
		{"rise and fall of 1 follow every result", 1, 1, Up, "-+-+", "DUDU"},
		{"back after a fall takes the whole rise", 3, 1, Up, "-++-+++", "DDDDDDU"},
	} {
		m := New(Rule{Rise: c.rise, Fall: c.fall, Start: c.start}, epoch)
		if got := feed(m, c.results); got != c.states {
			t.Errorf("%s: %s gives %s, want %s", c.name, c.results, got, c.states)
		}
	}
}

func TestTheLastResultsAreKept(t *testing.T) {
	m := New(Rule{Keep: 2, Start: Up}, epoch)
	for i, detail := range []string{"one", "two", "three"} {
		m.Record(epoch.Add(time.Duration(i)*time.Second), Result{Detail: detail})
	}
	want := Snapshot{
		State: Down, Since: epoch.Add(2 * time.Second), Needed: DefaultRise, Flaps: 1,
		Results: []Result{{Detail: "three"}, {Detail: "two"}},
	}
	if diff := cmp.Diff(want, m.Snapshot(epoch.Add(time.Minute))); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func TestASnapshotIsACopy(t *testing.T) {
	m := New(Rule{}, epoch)
	m.Record(epoch, Result{Detail: "one"})
	m.Snapshot(epoch).Results[0].Detail = "changed"
	if got := m.Snapshot(epoch).Results[0].Detail; got != "one" {
		t.Errorf("detail is %q", got)
	}
}

func TestOnlyChangesOfTheLastMinutesAreFlaps(t *testing.T) {
	m := New(Rule{Rise: 1, Fall: 1, Start: Unknown}, epoch)
	feed(m, "+-+-") // to be known is no flap
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{3 * time.Second, 3}, {FlapWindow + 1500*time.Millisecond, 2}, {FlapWindow + 3*time.Second, 0}} {
		if got := m.Snapshot(epoch.Add(c.after)).Flaps; got != c.want {
			t.Errorf("after %s: %d flaps, want %d", c.after, got, c.want)
		}
	}
	feed(m, strings.Repeat("+-", 1000))
	if got := len(m.changes); got != maxChanges {
		t.Errorf("%d changes are kept", got)
	}
}

func TestProbesAreFastWhileTheStateMayChange(t *testing.T) {
	m := New(Rule{Interval: 10 * time.Second, FastInterval: time.Second, Rise: 2, Fall: 2, Start: Up}, epoch)
	got := []time.Duration{m.Interval()}
	for _, ok := range []bool{true, false, false, true, true, true} {
		m.Record(epoch, Result{OK: ok})
		got = append(got, m.Interval())
	}
	slow, fast := 10*time.Second, time.Second
	want := []time.Duration{fast /* nothing is known */, slow, fast, slow /* is down */, fast, slow /* is up */, slow}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("intervals (-want +got):\n%s", diff)
	}
}

func TestASuccessorGoesOnInTheStateWithoutResults(t *testing.T) {
	old := New(Rule{Start: Down, Rise: 2}, epoch)
	feed(old, "++-")
	m := old.Successor(Rule{Start: Down})
	want := Snapshot{State: Up, Since: epoch.Add(time.Second), Needed: DefaultFall, Flaps: 1}
	if diff := cmp.Diff(want, m.Snapshot(epoch)); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
}

func TestANewRuleAppliesToTheResultsThatCome(t *testing.T) {
	m := New(Rule{Start: Up, Fall: 5}, epoch)
	feed(m, "---")
	m.SetRule(Rule{Fall: 4, Keep: 2, Start: Down})
	if m.State() != Up || len(m.results) != 2 {
		t.Fatalf("state %s, %d results", m.State(), len(m.results))
	}
	if got := feed(m, "-"); got != "D" {
		t.Errorf("the fourth failure gives %s", got)
	}
}

func TestZeroIsTheDefault(t *testing.T) {
	want := Rule{
		Interval: DefaultInterval, FastInterval: DefaultInterval, Timeout: DefaultTimeout,
		Rise: DefaultRise, Fall: DefaultFall, Keep: DefaultKeep,
	}
	for _, rule := range []Rule{{}, {Interval: -1, FastInterval: -1, Timeout: -1, Rise: -1, Fall: -1, Keep: -1}} {
		if diff := cmp.Diff(want, New(rule, epoch).Rule()); diff != "" {
			t.Errorf("rule (-want +got):\n%s", diff)
		}
	}
}

func TestAStateIsSureOnceAProbeFoundIt(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		start   State
		results string
		want    string // of each result: is the state sure after it?
		why     string // number and kind of the result that made the state
	}{
		{Up, "+", "y", "0+"}, {Up, "-+", "ny", "1+"}, {Up, "---", "nny", "2-"}, {Up, "---++-", "nnyyyy", "4+"},
		{Up, "--+-", "nnyy", "2+"}, {Up, "--", "nn", ""}, {Down, "-", "y", "0-"}, {Down, "---", "yyy", "0-"},
		{Down, "++", "ny", "1+"}, {Unknown, "-", "y", "0-"}, {Unknown, "+", "y", "0+"},
	} {
		m := New(Rule{Start: c.start, Rise: 2, Fall: 3}, now)
		if m.Sure() {
			t.Errorf("%s: sure at the start", c.start)
		}
		got := ""
		for i, r := range c.results {
			m.Record(now, Result{OK: r == '+', Detail: fmt.Sprintf("%d%c", i, r)})
			got += map[bool]string{true: "y", false: "n"}[m.Sure()]
		}
		if got != c.want {
			t.Errorf("%s, %s: %s, want %s", c.start, c.results, got, c.want)
		}
		if got := m.Why(); got != c.why {
			t.Errorf("%s, %s: because %q, want %q", c.start, c.results, got, c.why)
		}
		if m.Successor(Rule{}).Sure() {
			t.Errorf("%s: another probe is sure from its start", c.start)
		}
	}
}
