package health

import (
	"crypto/sha256"
	"math/rand/v2"
	"time"
)

// A Schedule spreads the probes of a check. Without it all nodes of a cluster, started by one
// command, would ask their common services at the same moment for ever. The same seed gives the
// same times. It is not safe for concurrent use.
type Schedule struct{ random *rand.Rand }

// NewSchedule returns the schedule of a seed, which should be different for each check of each
// node: the three names together.
func NewSchedule(seed string) *Schedule {
	return &Schedule{rand.New(rand.NewChaCha8(sha256.Sum256([]byte(seed))))}
}

// First returns how long to wait before the first probe: anything from zero to below an interval,
// all equally likely.
func (s *Schedule) First(interval time.Duration) time.Duration {
	return time.Duration(s.random.Int64N(int64(max(1, interval))))
}

// jitter is the part of an interval by which a probe comes earlier or later at most, so that
// checks that happen to meet part again.
const jitter = 20

// Next returns how long after the start of a probe the next one begins: the interval, on average,
// and at most a twentieth more or less.
func (s *Schedule) Next(interval time.Duration) time.Duration {
	most := int64(interval / jitter)
	return interval + time.Duration(s.random.Int64N(2*most+1)-most)
}
