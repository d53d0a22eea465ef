package balance

import (
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

const (
	// Opening is how long a connection may take from its SYN to its next segment and is still found
	// at the backend that it was opened at. The datapath remembers a SYN for as long.
	Opening = time.Minute
	// slack is for what passes between an Update and the datapath doing what it said.
	slack = 2 * time.Second
)

// A move is a slot in transition.
type move struct {
	slot     int
	mark     lb.SlotMark
	previous int16         // SlotMoving: where unknown connections are; lb.NoBackend if it died
	noted    time.Duration // SlotNoting: when all flows are known
	learnt   time.Duration // SlotMoving: when all flows are known that are at the previous backend
	changed  time.Duration // since when exceptions only become fewer
	fresh    bool          // the datapath may not do so yet
}

// advance brings a slot as far to the wanted backend as it may go and returns its current one.
func (s *Service) advance(m *move, current, wanted int16) int16 {
	if m.mark&lb.SlotMoving != 0 && m.previous != lb.NoBackend && s.dead(m.previous) {
		// What was unknown died with it. What is being opened now is still to be remembered.
		m.previous = lb.NoBackend
		m.learnt = min(m.learnt, s.now+Opening+slack)
		m.fresh = true
	}
	switch {
	case wanted == current:
		m.mark &^= lb.SlotNoting
	case s.dead(current):
		current = s.turn(m, wanted)
	case s.rules.UDPIdle > 0 && m.mark&lb.SlotNoting == 0 && s.keeps(ruleNoted):
		m.mark |= lb.SlotNoting
		m.noted, m.fresh = s.now+s.rules.UDPIdle+slack, true
	case s.rules.UDPIdle == 0 || s.now >= m.noted || !s.keeps(ruleNoted):
		s.keep(m, current, wanted)
		current = s.turn(m, wanted)
	}
	if m.mark&lb.SlotMoving != 0 && s.now >= m.learnt {
		m.mark &^= lb.SlotMoving
		m.previous = lb.NoBackend
		m.except(s.now)
	}
	return current
}

// turn gives the slot to another backend. What was noted before, was noted with the old one.
func (s *Service) turn(m *move, wanted int16) int16 {
	m.mark &^= lb.SlotNoting
	m.changed, m.fresh = s.now, true
	return wanted
}

// keep sees to it that flows of a living backend that the slot is about to leave stay there.
func (s *Service) keep(m *move, current, wanted int16) {
	learnt := s.now + s.rules.TCPIdle + slack
	opened := s.now + Opening + slack
	switch {
	case !s.keeps(ruleKept):
	case s.rules.TCPIdle == 0:
		m.except(s.now) // all are noted
	case m.mark&lb.SlotMoving == 0:
		m.mark |= lb.SlotMoving
		m.previous, m.learnt = current, learnt
		if !s.keeps(ruleLearnt) {
			m.learnt = opened
		}
	case !s.keeps(ruleOldest):
		m.previous, m.learnt = current, learnt
	case wanted == m.previous:
		// It is where unknown connections are: nothing is left to learn but who is being opened.
		m.learnt = opened
	case current == m.previous && s.keeps(ruleLearntAgain):
		m.learnt = learnt // there is, again
	case s.keeps(ruleOpened):
		m.learnt = max(m.learnt, opened)
	}
}

// except marks that some flows are where the datapath remembers them.
func (m *move) except(now time.Duration) {
	m.mark |= lb.SlotExceptions
	m.changed, m.fresh = now, true
}

// end takes the slot to rest when the datapath remembers nothing any more that is elsewhere. A flow
// that was seen once is remembered when it is seen again, so there may be new ones for a while.
func (s *Service) end(m *move, seen *Seen) {
	switch {
	case m.mark != lb.SlotExceptions:
	case !s.keeps(ruleExceptions):
		m.mark = 0
	case s.lookedSince(m.changed, seen) && (!seen.Slots[m.slot] || !s.keeps(ruleSeen)):
		m.mark = 0
	}
}

// lookedSince says whether somebody looked when all flows had been seen twice since a time.
func (s *Service) lookedSince(at time.Duration, seen *Seen) bool {
	if s.keeps(ruleSeenTwice) {
		at += max(s.rules.TCPIdle, s.rules.UDPIdle, Opening) + slack
	}
	return seen != nil && seen.Began > at
}

// settle lets no time pass for what the datapath does not do yet.
func (s *Service) settle(applied bool, passed time.Duration) {
	for i := range s.moves {
		m := &s.moves[i]
		if !m.fresh {
			continue
		}
		m.fresh = !applied
		if !applied && s.keeps(ruleApplied) {
			m.noted += passed
			m.learnt += passed
			m.changed += passed
		}
	}
	for i := range s.places {
		p := &s.places[i]
		p.unheard = p.unheard && !applied
		if !p.fresh {
			continue
		}
		p.fresh = !applied
		if !applied && s.keeps(ruleApplied) {
			p.left += passed
		}
	}
}

func (s *Service) dead(backend int16) bool {
	return backend == lb.NoBackend || s.places[backend].share.dead
}
