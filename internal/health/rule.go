package health

import (
	"cmp"
	"time"
)

// The defaults of a Rule. With them a broken service is noticed within 3 intervals and a timeout:
// 7 s, and back after 4 s.
const (
	DefaultInterval = 2 * time.Second
	DefaultTimeout  = time.Second
	DefaultRise     = 2
	DefaultFall     = 3
	DefaultKeep     = 20
)

// A Rule says how often a check is probed and how its results become a state. A field that is zero
// or less has its default.
type Rule struct {
	Interval     time.Duration // between the starts of two probes, on average
	FastInterval time.Duration // while the state may be about to change; Interval by default
	Timeout      time.Duration // of a probe; one that takes longer failed
	Rise         int           // successes in a row that bring the check up
	Fall         int           // failures in a row that take it down
	Start        State         // before there are results
	Keep         int           // results to remember
}

func (r Rule) complete() Rule {
	r.Interval = cmp.Or(max(0, r.Interval), DefaultInterval)
	r.FastInterval = cmp.Or(max(0, r.FastInterval), r.Interval)
	r.Timeout = cmp.Or(max(0, r.Timeout), DefaultTimeout)
	r.Rise = cmp.Or(max(0, r.Rise), DefaultRise)
	r.Fall = cmp.Or(max(0, r.Fall), DefaultFall)
	r.Keep = cmp.Or(max(0, r.Keep), DefaultKeep)
	return r
}
