package member

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lbctl/lbctl/internal/ownership"
)

func TestANodeBeginsWithWhatItsPeersKnow(t *testing.T) {
	const deadAfter = 400 * time.Millisecond
	all := map[string]bool{"n2": true}
	for _, test := range []struct {
		what     string
		resumed  bool
		sights   map[string]sighting
		facts    map[string]Facts
		toldAll  map[string]bool
		ballots  map[string]ballot
		informed time.Duration
	}{
		{what: "nobody else lives", informed: deadAfter},
		{what: "the other one is dead", sights: map[string]sighting{"n2": {silent: true}}, informed: deadAfter},
		{what: "a life goes on", resumed: true, sights: map[string]sighting{"n2": {}}},
		{what: "a peer tells nothing", sights: map[string]sighting{"n2": {}}, informed: informTime},
		{
			what: "a peer decided more", sights: map[string]sighting{"n2": {}}, facts: map[string]Facts{"n2": {}},
			informed: informTime,
		},
		{
			what: "a peer told all", sights: map[string]sighting{"n2": {}}, facts: map[string]Facts{"n2": {}}, toldAll: all,
			informed: deadAfter,
		},
		{
			what:   "votes of a peer are on their way",
			sights: map[string]sighting{"n2": {}}, facts: map[string]Facts{"n2": {Voted: true}}, toldAll: all,
			informed: informTime,
		},
		{
			what:   "a peer told all, and its votes",
			sights: map[string]sighting{"n2": {}}, facts: map[string]Facts{"n2": {Voted: true}}, toldAll: all,
			ballots: map[string]ballot{"n2": {}}, informed: deadAfter,
		},
		{
			what:   "one of two peers told all",
			sights: map[string]sighting{"n2": {}, "n3": {says: true}}, facts: map[string]Facts{"n2": {}, "n3": {}}, toldAll: all,
			informed: informTime,
		},
	} {
		t.Run(test.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &Member{
					opts: Options{Machine: ownership.Config{DeadAfter: deadAfter}}, informed: make(chan struct{}), begun: time.Now(),
					resumed: test.resumed, sights: test.sights, facts: test.facts, toldAll: test.toldAll, ballots: test.ballots,
				}
				for m.inform(); !m.isInformed; m.inform() {
					time.Sleep(time.Millisecond)
				}
				<-m.Informed()
				if got := time.Since(m.begun); got != test.informed {
					t.Errorf("informed after %v, want %v", got, test.informed)
				}
			})
		})
	}
}
