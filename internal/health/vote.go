package health

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Vote is what one director found out about a backend, without what people decided and what the
// configuration says: those are the same everywhere, and this is not.
type Vote struct {
	Healthy bool   `json:",omitempty"`
	Failing bool   `json:",omitempty"` // connections of clients to it fail: it is to get no new ones
	Tried   bool   `json:",omitempty"` // but a part of them, to see whether they still do
	Percent int    `json:",omitempty"` // of its weight, as its agents want: 0..lb.MaxWeight, 100 without any
	Reason  string `json:",omitempty"` // why it is not healthy, or has another percentage; empty: nothing is special
}

// Fine is the vote for a backend that nobody complains about.
var Fine = Vote{Healthy: true, Percent: 100}

// Vote returns what checks and agents add up to.
func (s Service) Vote() Vote {
	s.Admin, s.Weight = AdminReady, Fine.Percent
	v := s.Verdict()
	return Vote{Healthy: v.Healthy, Percent: v.Weight, Reason: v.Reason}
}

// And is what two findings about one backend add up to.
func (v Vote) And(other Vote) Vote {
	sum := Vote{Healthy: v.Healthy && other.Healthy, Failing: v.Failing || other.Failing, Tried: v.Tried || other.Tried, Reason: v.Reason}
	if sum.Reason == "" || v.Healthy && !other.Healthy {
		sum.Reason = other.Reason
	}
	sum.Percent = other.Weight(v.Percent)
	return sum
}

// Weight is what a vote leaves of a weight: at least 1, unless there is to be nothing.
func (v Vote) Weight(weight int) int {
	if v.Percent == 0 || weight == 0 {
		return 0
	}
	return min(max(weight*v.Percent/Fine.Percent, 1), lb.MaxWeight)
}

// Agree is what directors with the same votes take a backend for, by name of the director: healthy
// if at least that percentage of them found it so, and failing if fewer found that it is not. Its
// percentage and reason are those of the first by name who found the same. There is at least one vote.
func Agree(votes map[string]Vote, percent int) Vote {
	up, working := 0, 0
	for _, v := range votes {
		if v.Healthy {
			up++
		}
		if !v.Failing {
			working++
		}
	}
	agreed := Vote{Healthy: 100*up >= percent*len(votes), Failing: 100*working < percent*len(votes)}
	names := slices.Sorted(maps.Keys(votes))
	alike := func(name string) bool { return votes[name].Healthy == agreed.Healthy }
	first := slices.IndexFunc(names, func(name string) bool { return alike(name) && votes[name].Failing == agreed.Failing })
	if first < 0 {
		first = slices.IndexFunc(names, alike)
	}
	agreed.Percent, agreed.Reason = votes[names[first]].Percent, votes[names[first]].Reason
	agreed.Tried = agreed.Failing && votes[names[first]].Tried
	if up == 0 || up == len(votes) {
		return agreed
	}
	worst := slices.IndexFunc(names, func(name string) bool { return !votes[name].Healthy })
	agreed.Reason = fmt.Sprintf("%d of %d directors find it unhealthy; %s: %s",
		len(votes)-up, len(votes), names[worst], votes[names[worst]].Reason)
	return agreed
}
