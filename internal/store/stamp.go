package store

import "time"

// A Stamp is a hybrid logical time: milliseconds since 1970 in the upper 48 bits, a counter that
// orders what happened within one of them in the lower 16. A counter that overflows carries into
// the milliseconds, which is what a clock that is a little ahead looks like.
type Stamp uint64

const counterBits = 16

// stampAt returns the first stamp of a moment. A clock before 1970 was never set: it counts as 1970.
func stampAt(t time.Time) Stamp {
	return Stamp(max(0, t.UnixMilli())) << counterBits
}

// after returns the stamp of something that happens at t and after all that bear s or less.
func (s Stamp) after(t time.Time) Stamp {
	return max(s+1, stampAt(t))
}

// Time returns the wall clock in the stamp.
func (s Stamp) Time() time.Time {
	return time.UnixMilli(int64(s >> counterBits))
}

// ahead returns how far the stamp lies in the future, rounded down to milliseconds.
func (s Stamp) ahead(now time.Time) time.Duration {
	return max(0, s.Time().Sub(now.Truncate(time.Millisecond)))
}
