package health

import (
	"fmt"
	"time"
)

// Counts are what directors saw of the connections that clients open to a backend.
type Counts struct {
	Opened   uint64 `json:"o,omitempty"` // SYNs that were sent to it
	Answered uint64 `json:"a,omitempty"` // SYNs that it acknowledged
	Refused  uint64 `json:"r,omitempty"` // those that it, or a router before it, refused
}

// Since returns what was added to counts that were before. What is less than before began anew.
func (c Counts) Since(before Counts) Counts {
	if c.Opened < before.Opened || c.Answered < before.Answered || c.Refused < before.Refused {
		return c
	}
	return Counts{c.Opened - before.Opened, c.Answered - before.Answered, c.Refused - before.Refused}
}

// Add returns the sum.
func (c Counts) Add(d Counts) Counts {
	return Counts{c.Opened + d.Opened, c.Answered + d.Answered, c.Refused + d.Refused}
}

// An AttemptRule says when attempts take a backend out, in nginx's words.
type AttemptRule struct {
	MaxFails    int           // that many failed attempts ...
	FailTimeout time.Duration // within so long take it out, and for so long
}

const (
	// CountsLag is how late what one director counted may be known to another. Attempts that began
	// sooner after an answer may have been answered.
	CountsLag = 1500 * time.Millisecond
	// answerTime is how long an attempt may go without an answer, CountsLag included.
	answerTime = 2 * time.Second
	// triedPercent is what a backend gets of its weight while it is tried again.
	triedPercent = 10
)

// Attempts judges a backend by the connections that clients open to it, as all directors together see
// them. It fails when MaxFails attempts within FailTimeout were refused or not answered, and none was
// answered in between. Then it gets no new flows for FailTimeout, and after that a part of them: the
// first attempt that is answered brings it back, the first that fails takes it out again.
//
// That any answer counts for more than all failures is what makes it safe: what clients send can be
// made up by anyone. A backend that is flooded answers what it can, and is not taken out because of
// the rest.
//
// It is not safe for concurrent use.
type Attempts struct {
	rule  AttemptRule
	state attemptState
	until time.Time // it fails, and then it is tried again
	fails int       // that took it out
	more  int       // since then, of those it was tried with
	heard time.Time // of an answer; nothing before counts
	ticks []tick    // since then, the newest is last
}

type attemptState uint8

const (
	attemptsFine attemptState = iota
	attemptsFail
	attemptsTried
)

// A tick is what was added at a time.
type tick struct {
	at time.Time
	Counts
}

// NewAttempts judges nothing that was before now.
func NewAttempts(rule AttemptRule, now time.Time) *Attempts { return &Attempts{rule: rule, heard: now} }

// SetRule goes on under another rule.
func (a *Attempts) SetRule(rule AttemptRule) { a.rule = rule }

// Record takes in what was added since it was called last, and says whether that changed the verdict.
// If it is not all, because the counts of a director are missing, there may have been an answer.
func (a *Attempts) Record(now time.Time, added Counts, all bool) (changed bool) {
	switch {
	case added.Answered > 0:
		changed = a.state != attemptsFine
		a.forget(now)
		a.state = attemptsFine
	case a.state == attemptsFail:
		a.forget(now)
		if changed = !now.Before(a.until); changed {
			a.state = attemptsTried
		}
	case !all:
		a.forget(now)
	default:
		a.ticks = append(a.ticks, tick{now, added})
		a.trim(now)
		changed = a.judge(now)
	}
	return changed
}

// forget begins anew.
func (a *Attempts) forget(now time.Time) { a.heard, a.ticks = now, nil }

// trim drops what is too old to count.
func (a *Attempts) trim(now time.Time) {
	for len(a.ticks) > 0 && now.Sub(a.ticks[0].at) >= a.rule.FailTimeout+answerTime {
		a.ticks = a.ticks[1:]
	}
}

// judge takes the backend out if too many attempts failed.
func (a *Attempts) judge(now time.Time) (failed bool) {
	var refused, silent uint64
	for _, t := range a.ticks {
		age := now.Sub(t.at)
		if age < a.rule.FailTimeout {
			refused += t.Refused
		}
		if age >= answerTime && t.at.Sub(a.heard) > CountsLag {
			silent += t.Opened // those that were refused, too
		}
	}
	fails, needed := int(max(refused, silent)), a.rule.MaxFails
	if a.state == attemptsTried {
		needed = 1
	}
	if fails < needed {
		return false
	}
	if a.state == attemptsTried {
		a.more += fails
	} else {
		a.fails, a.more = fails, 0
	}
	a.state, a.until = attemptsFail, now.Add(a.rule.FailTimeout)
	a.forget(now)
	return true
}

// Vote is what attempts add up to.
func (a *Attempts) Vote() Vote {
	v := Fine
	switch a.state {
	case attemptsFine:
	case attemptsFail:
		v.Failing, v.Reason = true, a.why()
	case attemptsTried:
		v.Failing, v.Tried, v.Percent, v.Reason = true, true, triedPercent, a.why()+", tried again"
	}
	return v
}

func (a *Attempts) why() string {
	text := fmt.Sprintf("passive: %d fails in %s", a.fails, a.rule.FailTimeout)
	if a.more > 0 {
		text += fmt.Sprintf(", and %d more since", a.more)
	}
	return text
}

// Back is how long it is until the backend is tried again; 0 if it does not fail.
func (a *Attempts) Back(now time.Time) time.Duration {
	if a.state != attemptsFail {
		return 0
	}
	return max(a.until.Sub(now), time.Second)
}
