package member

import (
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/probe"
)

func about(backend string) probe.Subject { return probe.Subject{Service: "web", Backend: backend} }

func TestCountsAreToldWhenTheyChangeAndNowAndThen(t *testing.T) {
	var teller AttemptTeller
	counts := map[probe.Subject]health.Counts{about("b1"): {Opened: 1}, about("b2"): {}}
	told := make(map[string]int)
	for n := range 10 * attemptsRecalled {
		if n == 3*attemptsRecalled/2 {
			counts[about("b1")] = health.Counts{Opened: 2}
		}
		for backend := range teller.report(Attempts{Services: map[string]uint64{"web": 1}, Counts: counts}).Changed["web"] {
			told[backend]++
		}
	}
	want := map[string]int{"b1": 2*attemptsRepeated + 1 + 8, "b2": attemptsRepeated + 10}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("times told (-want +got):\n%s", diff)
	}
}

func TestWhatAPeerCountedIsKnownFromAllItsReports(t *testing.T) {
	m := &Member{opts: Options{Log: slog.New(slog.DiscardHandler)}, attempts: make(map[string]attemptReport)}
	hear := func(number uint64, services []string, changed map[string]health.Counts) {
		r := attemptReport{Number: number, Services: make(map[string]uint64), Changed: map[string]map[string]health.Counts{"web": changed}}
		for _, s := range services {
			r.Services[s] = 1
		}
		body, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		m.received("n2", frame(kindAttempts, body))
	}
	expect := func(when string, want map[probe.Subject]health.Counts) {
		t.Helper()
		if diff := cmp.Diff(want, m.attempts["n2"].known); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	type known = map[probe.Subject]health.Counts
	hear(10, []string{"web"}, map[string]health.Counts{"b1": {Opened: 1}, "b2": {Answered: 2}})
	hear(12, []string{"web"}, map[string]health.Counts{"b1": {Opened: 5, Refused: 1}})
	expect("after two", known{about("b1"): {Opened: 5, Refused: 1}, about("b2"): {Answered: 2}})
	hear(11, []string{"web"}, map[string]health.Counts{"b1": {Opened: 3}})
	expect("after one that was overtaken", known{about("b1"): {Opened: 5, Refused: 1}, about("b2"): {Answered: 2}})
	m.received("n2", append([]byte{kindAttempts}, "{"...))
	expect("after one that is cut off", known{about("b1"): {Opened: 5, Refused: 1}, about("b2"): {Answered: 2}})
	hear(13, nil, nil)
	expect("when it does not watch any more", known{})
}
