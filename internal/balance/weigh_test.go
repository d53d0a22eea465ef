package balance

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// verdict is a share as the tables below write it.
type verdict struct {
	Weight int // in units of configuration
	State  State
	Why    string
	Dead   bool
}

func verdicts(rules Rules, backends []Backend) []verdict {
	var list []verdict
	for _, s := range weigh(rules, backends, func(int) time.Duration { return time.Hour }) {
		list = append(list, verdict{s.weight / weightUnit, s.state, s.why, s.dead})
	}
	return list
}

func TestWhoGetsFlows(t *testing.T) {
	up := Backend{Weight: 100, Reachable: true, Healthy: true}
	with := func(change func(*Backend)) Backend {
		b := up
		change(&b)
		return b
	}
	sick := with(func(b *Backend) { b.Healthy, b.Why = false, "check http is down" })
	lost := with(func(b *Backend) { b.Reachable, b.Why = false, "no neighbour" })
	drained := with(func(b *Backend) { b.Weight, b.Why = 0, "drained by hand" })
	disabled := with(func(b *Backend) { b.Disabled, b.Why = true, "disabled by hand" })
	light := with(func(b *Backend) { b.Weight = 7 })
	backup := with(func(b *Backend) { b.Tier = TierBackup })
	sickBackup := with(func(b *Backend) { b.Tier, b.Healthy = TierBackup, false })
	sorry := with(func(b *Backend) { b.Tier = TierSorry })

	failing := with(func(b *Backend) { b.Failing, b.Why = true, "passive: 5 fails in 10s" })
	tried := with(func(b *Backend) { b.Failing, b.Tried, b.Weight, b.Why = true, true, 10, "tried again" })
	failingBackup := with(func(b *Backend) { b.Failing, b.Tier = true, TierBackup })
	sickToo := with(func(b *Backend) { b.Failing, b.Healthy, b.Why = true, false, "check http is down" })

	isUp := verdict{100, StateUp, "", false}
	isSick := verdict{0, StateDown, "check http is down", true}
	isLost := verdict{0, StateDown, "no neighbour", true}
	standsBy := verdict{0, StateStandby, "the others are up", false}
	isFailing := verdict{0, StateFailing, "passive: 5 fails in 10s", false}
	isUsed := verdict{100, StateFailing, "passive: 5 fails in 10s; used all the same, as too few are up", false}
	for _, test := range []struct {
		name     string
		least    int
		backends []Backend
		want     []verdict
	}{
		{"all by their weights", 0, []Backend{up, light}, []verdict{isUp, {7, StateUp, "", false}}},
		{"not the sick, the lost, the disabled and the drained", 0,
			[]Backend{up, sick, lost, disabled, drained},
			[]verdict{isUp, isSick, isLost, {0, StateDisabled, "disabled by hand", true}, {0, StateDrained, "drained by hand", false}}},
		{"backups wait", 0, []Backend{up, sick, backup, sorry}, []verdict{isUp, isSick, standsBy, standsBy}},
		{"backups when no other is up", 0, []Backend{sick, drained, backup, sorry},
			[]verdict{isSick, {0, StateDrained, "drained by hand", false}, isUp, standsBy}},
		{"backups besides those that are too few", 2, []Backend{up, sick, backup}, []verdict{isUp, isSick, isUp}},
		{"backups not while there are enough", 2, []Backend{up, up, sick, backup}, []verdict{isUp, isUp, isSick, standsBy}},
		{"sorry when nobody is up", 0, []Backend{sick, sickBackup, sorry}, []verdict{isSick, {0, StateDown, "", true}, isUp}},
		{"sorry rather than the sick", 1, []Backend{sick, sorry}, []verdict{isSick, isUp}},
		{"nobody when all are sick", 0, []Backend{sick, sick}, []verdict{isSick, isSick}},
		{"the sick when all are, and there is a minimum", 1, []Backend{sick, sick, lost, sickBackup},
			[]verdict{
				{100, StateDown, "check http is down; used all the same, as fewer than 1 are up", false},
				{100, StateDown, "check http is down; used all the same, as fewer than 1 are up", false},
				isLost, {0, StateDown, "", true},
			}},
		{"the sick besides the healthy, when these are too few", 2, []Backend{up, sick, disabled},
			[]verdict{
				isUp, {100, StateDown, "check http is down; used all the same, as fewer than 2 are up", false},
				{0, StateDisabled, "disabled by hand", true},
			}},
		{"not who fails, and it keeps its flows", 0, []Backend{up, failing}, []verdict{isUp, isFailing}},
		{"a part for who is tried again", 0, []Backend{up, tried}, []verdict{isUp, {10, StateFailing, "tried again", false}}},
		{"who is tried again is not up yet", 0, []Backend{failing, tried}, []verdict{isUsed, {10, StateFailing, "tried again; used all the same, as too few are up", false}}},
		{"backups for who fails", 0, []Backend{failing, backup}, []verdict{isFailing, isUp}},
		{"sorry for who fails", 0, []Backend{failing, sorry}, []verdict{isFailing, isUp}},
		{"who fails besides the healthy, when these are too few", 2, []Backend{up, failing}, []verdict{isUp, isUsed}},
		{"all that fail, when nobody else is up", 0, []Backend{failing, sick, failingBackup},
			[]verdict{isUsed, isSick, {100, StateFailing, "used all the same, as too few are up", false}}},
		{"who is sick as well is dead", 0, []Backend{up, sickToo}, []verdict{isUp, isSick}},
	} {
		if diff := cmp.Diff(test.want, verdicts(Rules{MinBackends: test.least}, test.backends)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAWeightGrowsInSteps(t *testing.T) {
	type step struct {
		Age    time.Duration
		Weight int // of 256
		State  State
		Grows  time.Duration
	}
	for _, test := range []struct {
		slow   time.Duration
		weight int
		want   []step
	}{
		{100 * time.Second, 10, []step{
			{0, 256, StateStarting, 10 * time.Second},
			{9 * time.Second, 256, StateStarting, 10 * time.Second},
			{19 * time.Second, 256, StateStarting, 20 * time.Second},
			{20 * time.Second, 512, StateStarting, 30 * time.Second},
			{99 * time.Second, 9 * 256, StateStarting, 100 * time.Second},
			{100 * time.Second, 10 * 256, StateUp, 0},
		}},
		{3 * time.Second, 1, []step{
			{0, 85, StateStarting, time.Second}, {2 * time.Second, 170, StateStarting, 3 * time.Second}, {3 * time.Second, 256, StateUp, 0},
		}},
		{time.Second / 2, 1, []step{{0, 256, StateStarting, time.Second / 2}, {time.Second / 2, 256, StateUp, 0}}},
		{0, 1, []step{{0, 256, StateUp, 0}}},
	} {
		b := Backend{Weight: test.weight, SlowStart: test.slow, Reachable: true, Healthy: true}
		var got []step
		for _, s := range test.want {
			share := weigh(Rules{}, []Backend{b}, func(int) time.Duration { return s.Age })[0]
			got = append(got, step{s.Age, share.weight, share.state, share.grows})
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.slow, diff)
		}
	}
}
