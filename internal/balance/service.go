package balance

import (
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/maglev"
)

// A Service is the state of one service's slots. It is not safe for concurrent use.
type Service struct {
	broken rule // by a test
	begun  bool
	now    time.Duration // of the last Update
	rules  Rules
	places []place
	seats  map[identity]int // places by what they stand for

	weights []maglev.Backend // what table was made of, by place
	table   []int16          // who should have each slot
	current []int16
	counts  []int  // slots by their current backends
	counted *int16 // the first of those that were
	moves   []move // by slot; the others are at rest
	choice  *lb.Choice
}

// New returns a Service without backends. What its first Update says is not a transition.
func New() *Service { return newService(lb.Slots) }

func newService(slots int) *Service {
	nobody := slices.Repeat([]int16{lb.NoBackend}, slots)
	return &Service{
		seats: make(map[identity]int), table: nobody, current: nobody, choice: &lb.Choice{Current: nobody},
	}
}

// Input is what a Service decides from.
type Input struct {
	Rules    Rules
	Backends []Backend
	// Applied says that the datapath does what the last Output said. While it does not, no time
	// passes for what only the datapath can see.
	Applied bool
	// Seen is what the datapath remembered of flows; nil when nobody looked since the last Update.
	Seen *Seen
}

// Seen is what the datapath remembered of a service's flows.
type Seen struct {
	Began time.Duration // when the look began, after the last Output was applied
	Slots []bool        // those with a flow that is not at its slot's current backend
	Flows []int         // of each place
}

// Output is what should be.
type Output struct {
	Places []Place // for lb.Service.Backends
	Choice *lb.Choice
	Moving int           // slots in transition
	Next   time.Duration // when to call Update again though no input changed; 0: not at all
}

// Update says what should be at a time, which never goes back. Rules of the service that it is given
// first may change, its backends' names are unique.
func (s *Service) Update(now time.Duration, in Input) Output {
	s.settle(in.Applied, now-s.now)
	s.now, s.rules = now, in.Rules

	seats := s.seat(in.Backends)
	s.begun = true
	s.share(in.Backends, seats)
	s.aim()
	s.step(in.Seen)
	s.choose()
	return s.output(in.Seen)
}

// Restore begins where another Service, of a process before this one, left the datapath, instead of
// with nothing. It comes before the first Update. Backends are by place, of address and port; a place
// without an address is free. Rules are those that the datapath had.
func (s *Service) Restore(now time.Duration, rules Rules, backends []lb.Backend, choice *lb.Choice) {
	if !s.keeps(ruleRestored) {
		return
	}
	s.begun, s.now, s.rules = true, now, rules
	s.current, s.choice = choice.Current, choice
	s.places = make([]place, len(backends))
	for i := range backends {
		if b := &backends[i]; b.Addr.IsValid() {
			s.places[i] = place{identity: identity{addr: b.Addr, port: b.Port}, since: grownUp, inUse: true}
			s.seats[s.places[i].identity] = i
		}
	}
	for slot, mark := range choice.Marks {
		m := move{
			slot: slot, previous: lb.NoBackend, changed: now, learnt: now + rules.TCPIdle + slack,
			mark: mark &^ lb.SlotNoting, // which begins anew
		}
		if choice.Previous != nil {
			m.previous = choice.Previous[slot]
		}
		if m.mark != 0 {
			s.moves = append(s.moves, m)
		}
	}
}

// aim makes the table of who should have each slot.
func (s *Service) aim() {
	weights := make([]maglev.Backend, len(s.places))
	for i := range s.places {
		if p := &s.places[i]; p.present {
			weights[i] = maglev.Backend{Name: p.name, Weight: p.share.weight}
		}
	}
	if !slices.Equal(weights, s.weights) {
		s.weights, s.table = weights, maglev.Build(len(s.current), weights)
	}
}

// step brings each slot as far as it may go.
func (s *Service) step(seen *Seen) {
	if len(s.moves) == 0 && &s.current[0] == &s.table[0] {
		return // all are where they should be
	}
	var moves []move
	current, before := s.current, s.moves
	for slot, wanted := range s.table {
		m := move{slot: slot, previous: lb.NoBackend}
		switch {
		case len(before) > 0 && before[0].slot == slot:
			m, before = before[0], before[1:]
		case wanted == s.current[slot]:
			continue
		}
		if next := s.advance(&m, s.current[slot], wanted); next != s.current[slot] {
			if &current[0] == &s.current[0] {
				current = slices.Clone(current) // the old one is in a Choice
			}
			current[slot] = next
		}
		s.end(&m, seen)
		if m.mark != 0 {
			moves = append(moves, m)
		}
	}
	s.current, s.moves = current, moves
	if len(moves) == 0 {
		s.current = s.table // which it equals
	}
}

// choose makes a new Choice, if it is another one.
func (s *Service) choose() {
	if len(s.moves) == 0 && s.choice.Marks == nil && &s.choice.Current[0] == &s.current[0] {
		return
	}
	c := &lb.Choice{Current: s.current}
	if len(s.moves) > 0 {
		c.Marks = make([]lb.SlotMark, len(s.current))
	}
	for i := range s.moves {
		m := &s.moves[i]
		c.Marks[m.slot] = m.mark
		if m.previous == lb.NoBackend {
			continue
		}
		if c.Previous == nil {
			c.Previous = slices.Repeat([]int16{lb.NoBackend}, len(s.current))
		}
		c.Previous[m.slot] = m.previous
	}
	if c.Marks == nil || !slices.Equal(c.Current, s.choice.Current) || !slices.Equal(c.Previous, s.choice.Previous) || !slices.Equal(c.Marks, s.choice.Marks) {
		s.choice = c
	}
}

func (s *Service) output(seen *Seen) Output {
	out := Output{Places: s.show(), Choice: s.choice, Moving: len(s.moves)}
	s.release(out.Places, seen)
	next := func(at time.Duration) {
		if at > s.now && (out.Next == 0 || at < out.Next) {
			out.Next = at
		}
	}
	for i := range s.moves {
		m := &s.moves[i]
		if m.mark&lb.SlotNoting != 0 {
			next(m.noted)
		}
		if m.mark&lb.SlotMoving != 0 {
			next(m.learnt)
		}
	}
	for i := range s.places {
		if p := &s.places[i]; p.share.grows > 0 {
			next(p.since + p.share.grows)
		}
	}
	return out
}
