package health

import (
	"slices"
	"time"
)

// A State is what a check says.
type State uint8

// The states.
const (
	Unknown State = iota // nothing yet
	Up
	Down
)

var stateNames = [...]string{Unknown: "unknown", Up: "up", Down: "down"}

// String returns the word that the configuration uses.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "invalid"
}

// A Result is what one probe found.
type Result struct {
	At     time.Time     // when the probe began
	OK     bool          // the service is as it should be
	Took   time.Duration // until that was known
	Detail string        // one line: what was found, or what went wrong
	Agent  *Reply        // what an agent said; nil for other kinds, and when it said nothing
}

const (
	// FlapWindow is how far back changes count as flapping.
	FlapWindow = 10 * time.Minute

	maxChanges = 64 // more within FlapWindow are one every ten seconds: enough to see
)

// A Machine is the state of one check. It is not safe for concurrent use.
type Machine struct {
	rule    Rule
	state   State
	since   time.Time
	streak  int         // results in a row that contradict the state
	sure    bool        // a result said the same as the state
	why     string      // detail of the result that made the state
	results []Result    // the newest is last
	changes []time.Time // between up and down, the newest is last
}

// New returns a machine in the rule's start state. Fields of the rule that are zero get their
// defaults.
func New(rule Rule, now time.Time) *Machine {
	rule = rule.complete()
	return &Machine{rule: rule, state: rule.Start, since: now}
}

// Successor returns a machine for another probe of the same thing: it goes on in the state that m
// is in, so that a new path or port in the configuration does not take a service down, and knows
// none of the old results.
func (m *Machine) Successor(rule Rule) *Machine {
	return &Machine{rule: rule.complete(), state: m.state, since: m.since, changes: slices.Clone(m.changes)}
}

// SetRule goes on under another rule, with the same state and results. Start has no effect any
// more.
func (m *Machine) SetRule(rule Rule) {
	m.rule = rule.complete()
	m.trim()
}

// Rule returns the rule in force, with its defaults.
func (m *Machine) Rule() Rule { return m.rule }

// State returns what the check says.
func (m *Machine) State() State { return m.state }

// Record takes in the newest result and says whether it changed the state.
func (m *Machine) Record(now time.Time, r Result) (changed bool) {
	m.results = append(m.results, r)
	m.trim()
	says, needed := Down, m.rule.Fall
	if r.OK {
		says, needed = Up, m.rule.Rise
	}
	if says == m.state {
		if !m.sure {
			m.why = r.Detail
		}
		m.streak, m.sure = 0, true
		return false
	}
	m.streak++
	if m.state != Unknown && m.streak < needed {
		return false
	}
	if m.state != Unknown {
		m.changes = append(m.changes, now)
		m.changes = m.changes[max(0, len(m.changes)-maxChanges):]
	}
	m.state, m.since, m.streak, m.sure, m.why = says, now, 0, true, r.Detail
	return true
}

// Why is the detail of the result that made the state. It stays while the state does, however details
// change; empty while the state is not sure.
func (m *Machine) Why() string { return m.why }

// Sure says whether the state is what probes found. It is false while it is what the rule starts with,
// or what was before the probe became another one.
func (m *Machine) Sure() bool { return m.sure }

func (m *Machine) trim() {
	if surplus := len(m.results) - m.rule.Keep; surplus > 0 {
		m.results = slices.Delete(m.results, 0, surplus)
	}
}

// Interval returns how long after the start of a probe the next one begins: FastInterval while the
// state may be about to change, also before the first result.
func (m *Machine) Interval() time.Duration {
	if m.streak > 0 || len(m.results) == 0 {
		return m.rule.FastInterval
	}
	return m.rule.Interval
}

// A Snapshot is a machine for people to look at.
type Snapshot struct {
	State   State
	Since   time.Time
	Streak  int      // results in a row that contradict the state
	Needed  int      // as many of them change it
	Flaps   int      // changes between up and down within FlapWindow, 64 at most
	Results []Result // the newest is first
}

// Snapshot returns a copy of what the machine knows.
func (m *Machine) Snapshot(now time.Time) Snapshot {
	s := Snapshot{State: m.state, Since: m.since, Streak: m.streak, Results: slices.Clone(m.results)}
	slices.Reverse(s.Results)
	switch m.state {
	case Up:
		s.Needed = m.rule.Fall
	case Down:
		s.Needed = m.rule.Rise
	case Unknown:
		s.Needed = 1
	}
	for _, at := range m.changes {
		if now.Sub(at) < FlapWindow {
			s.Flaps++
		}
	}
	return s
}
