package balance

import (
	"fmt"
	"time"
)

const (
	// weightUnit is a weight of 1 as maglev counts, so that small weights can grow, too.
	weightUnit = 256
	// A weight grows in at most so many steps, each of a second or longer: every step moves some
	// slots between others.
	slowSteps = 10
)

// A share is what a backend gets.
type share struct {
	weight int // in units of maglev
	state  State
	why    string
	dead   bool
	grows  time.Duration // the age at which the weight is another one; 0: never
}

// out says whether a backend has yet to come up.
func (s *share) out() bool { return s.dead || s.state == StateFailing }

// weigh decides what each backend gets. age says for how long each is not dead.
func weigh(rules Rules, backends []Backend, age func(i int) time.Duration) []share {
	shares := make([]share, len(backends))
	var alive tiers
	for i := range backends {
		shares[i] = judge(&backends[i])
		if shares[i].state == StateUp {
			alive[backends[i].Tier]++
		}
	}
	used, heedless := alive.use(rules.MinBackends)
	alone := alive == tiers{}
	for i := range backends {
		b, s := &backends[i], &shares[i]
		switch {
		case s.state == StateFailing && (alone || heedless && b.Tier == TierMain):
			s.weight = b.Weight * weightUnit
			s.why = because(b.Why, "used all the same, as too few are up")
		case s.state == StateFailing && b.Tried:
			s.weight = b.Weight * weightUnit
		case heedless && s.state == StateDown && b.Reachable && b.Tier == TierMain:
			s.dead, s.weight = false, b.Weight*weightUnit
			s.why = because(b.Why, fmt.Sprintf("used all the same, as fewer than %d are up", rules.MinBackends))
		case s.state != StateUp:
		case !used[b.Tier]:
			s.state, s.why = StateStandby, because(b.Why, "the others are up")
		default:
			s.grow(b, age(i))
		}
	}
	return shares
}

// judge says what a backend is, whoever else is there.
func judge(b *Backend) share {
	switch {
	case b.Disabled:
		return share{state: StateDisabled, why: b.Why, dead: true}
	case !b.Reachable, !b.Healthy:
		return share{state: StateDown, why: b.Why, dead: true}
	case b.Weight == 0:
		return share{state: StateDrained, why: b.Why}
	case b.Failing:
		return share{state: StateFailing, why: b.Why}
	}
	return share{state: StateUp, why: b.Why}
}

// tiers counts backends that are up.
type tiers [TierSorry + 1]int

// use says which tiers get flows, and whether the health of the main ones is ignored.
func (alive tiers) use(least int) (used [TierSorry + 1]bool, heedless bool) {
	main, both := alive[TierMain], alive[TierMain]+alive[TierBackup]
	switch {
	case main >= max(1, least):
		used[TierMain] = true
	case both >= max(1, least):
		used[TierMain], used[TierBackup] = true, true
	case both == 0 && alive[TierSorry] > 0:
		used[TierSorry] = true
	default:
		used[TierMain], used[TierBackup] = true, true
		heedless = least > 0
	}
	return used, heedless
}

// grow gives a share its weight, or as much of it as its age allows.
func (s *share) grow(b *Backend, age time.Duration) {
	s.weight = b.Weight * weightUnit
	if age >= b.SlowStart {
		return
	}
	steps := min(max(b.SlowStart/time.Second, 1), slowSteps)
	step := age * steps / b.SlowStart
	s.state = StateStarting
	s.weight = max(1, s.weight*int(max(step, 1))/int(steps))
	s.grows = (b.SlowStart*(step+1) + steps - 1) / steps // rounded up, or it would not be reached
}

// because puts a reason behind another, if there is one.
func because(why, more string) string {
	if why == "" {
		return more
	}
	return why + "; " + more
}
