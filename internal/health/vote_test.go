package health

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAVoteIsWhatChecksAndAgentsSay(t *testing.T) {
	half, much, none := 50, 20000, 0
	for _, c := range []struct {
		name string
		s    Service
		want Vote
	}{
		{"nothing is checked", Service{}, Fine},
		{"all is well", Service{Checks: map[string]State{"tcp": Up}}, Fine},
		{"what people decided does not count", Service{Admin: AdminDrain, Weight: 7}, Fine},
		{"a check failed", Service{Checks: map[string]State{"tcp": Down}}, Vote{Percent: 100, Reason: "check tcp is down"}},
		{
			"a check failed for a reason", Service{Checks: map[string]State{"tcp": Down}, Why: map[string]string{"tcp": "connect: timeout"}},
			Vote{Percent: 100, Reason: "check tcp is down: connect: timeout"},
		},
		{
			"an agent wants half", Service{Agents: map[string]Agent{"a": {Percent: &half}}},
			Vote{Healthy: true, Percent: 50, Reason: "agent a wants 50 % of the weight"},
		},
		{
			"an agent wants too much", Service{Agents: map[string]Agent{"a": {Percent: &much}}},
			Vote{Healthy: true, Percent: 256, Reason: "agent a wants 20000 % of the weight"},
		},
		{
			"an agent wants nothing", Service{Agents: map[string]Agent{"a": {Percent: &none}}},
			Vote{Healthy: true, Percent: 0, Reason: "agent a wants 0 % of the weight"},
		},
		{
			"an agent drains", Service{Agents: map[string]Agent{"a": {Admin: AdminDrain}}},
			Vote{Healthy: true, Percent: 0, Reason: "drain by agent a"},
		},
	} {
		if diff := cmp.Diff(c.want, c.s.Vote()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAVoteLeavesAWeightOfOneAtLeast(t *testing.T) {
	for _, c := range []struct{ percent, weight, want int }{
		{100, 100, 100}, {50, 100, 50}, {1, 10, 1}, {0, 100, 0}, {100, 0, 0}, {256, 200, 256}, {256, 100, 256},
	} {
		if got := (Vote{Healthy: true, Percent: c.percent}).Weight(c.weight); got != c.want {
			t.Errorf("%d %% of %d: %d, want %d", c.percent, c.weight, got, c.want)
		}
	}
}

func TestABackendIsUpWhenEnoughDirectorsSaySo(t *testing.T) {
	down := Vote{Percent: 100, Reason: "check tcp is down"}
	for _, c := range []struct {
		name    string
		votes   map[string]Vote
		percent int
		want    Vote
	}{
		{"one for it", map[string]Vote{"n1": Fine}, 100, Fine},
		{"one against it", map[string]Vote{"n1": down}, 1, down},
		{
			"half is enough", map[string]Vote{"n1": down, "n2": Fine}, 50,
			Vote{Healthy: true, Percent: 100, Reason: "1 of 2 directors find it unhealthy; n1: check tcp is down"},
		},
		{
			"half is too few", map[string]Vote{"n1": down, "n2": Fine}, 51,
			Vote{Percent: 100, Reason: "1 of 2 directors find it unhealthy; n1: check tcp is down"},
		},
		{
			"a third is too few", map[string]Vote{"n3": Fine, "n2": down, "n1": down}, 50,
			Vote{Percent: 100, Reason: "2 of 3 directors find it unhealthy; n1: check tcp is down"},
		},
		{
			"a third is enough", map[string]Vote{"n3": Fine, "n2": down, "n1": down}, 33,
			Vote{Healthy: true, Percent: 100, Reason: "2 of 3 directors find it unhealthy; n1: check tcp is down"},
		},
		{
			"agents differ", map[string]Vote{
				"n2": {Healthy: true, Percent: 25, Reason: "agent a wants 25 % of the weight"},
				"n1": {Healthy: true, Percent: 75, Reason: "agent a wants 75 % of the weight"},
			}, 50, Vote{Healthy: true, Percent: 75, Reason: "agent a wants 75 % of the weight"},
		},
		{
			"the weight is of those who are heard", map[string]Vote{"n1": {Percent: 0, Reason: "agent a says down"}, "n2": {Healthy: true, Percent: 75}}, 50,
			Vote{Healthy: true, Percent: 75, Reason: "1 of 2 directors find it unhealthy; n1: agent a says down"},
		},
	} {
		if diff := cmp.Diff(c.want, Agree(c.votes, c.percent)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
