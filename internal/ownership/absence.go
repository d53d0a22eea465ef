package ownership

import (
	"slices"
	"strings"
	"time"
)

// A leave of absence of this node: asked for, then taken.
type leave struct {
	Number     uint64
	Begun      time.Duration
	Asked, For time.Duration
	Sent       time.Duration
	Granted    map[string]uint64 // peers, and their lives
	Taken      bool
}

// absence is the leave that a peer has.
type absence struct {
	Life, Number uint64
	Until        time.Duration
}

// askPatience is how often DeadAfter fits into the time that peers have to grant a leave.
const askPatience = 5

// askLeave asks for a leave. A node without peers needs nobody's word.
func (m *Machine) askLeave(d time.Duration) {
	if m.Leave == nil {
		m.Leave = &leave{Begun: m.now, For: min(d, m.cfg.BootTimeout)}
		m.askAgain()
	}
}

// askAgain begins to ask all the living. The leave counts from here.
func (m *Machine) askAgain() {
	l := m.Leave
	l.Number, l.Asked, l.Granted = m.number(), m.now, make(map[string]uint64)
	m.sendAbsent()
}

// ungranted returns the living who have not granted this node's leave.
func (m *Machine) ungranted() []string {
	return slices.DeleteFunc(m.others(), func(name string) bool {
		return !m.Known.alive(name) || m.Leave.Granted[name] == m.Known[name].Life
	})
}

func (m *Machine) sendAbsent() {
	m.Leave.Sent = m.now
	for _, name := range m.ungranted() {
		m.send(name, Absent{m.Life, m.Leave.Number, m.Leave.For})
	}
}

// onAbsent lets a peer go. Its own clock ends the leave before ours does.
func (m *Machine) onAbsent(from string, msg Absent) {
	if !m.Known.is(from, msg.Life) {
		return
	}
	m.allow(Leaves{from, msg.Life, msg.Number, msg.For})
	m.send(from, AbsentGranted{m.Life, msg.Life, msg.Number})
}

// allow notes a leave, ours to give or given by others. The highest number of a life counts.
func (m *Machine) allow(l Leaves) {
	r := m.Known[l.Name]
	if l.Name == m.cfg.Name || r == nil || r.Life != l.Life {
		return
	}
	p := m.peer(l.Name)
	if p.Absent.Life == l.Life && p.Absent.Number >= l.Number {
		return
	}
	d := min(l.For, m.cfg.BootTimeout)
	p.Absent = absence{l.Life, l.Number, m.now + d + d/20}
}

// excused says whether a peer has leave.
func (m *Machine) excused(name string) bool {
	p, r := m.peer(name), m.Known[name]
	return m.keeps(ruleLeave) && r != nil && p.Absent.Life == r.Life && m.now < p.Absent.Until
}

func (m *Machine) onAbsentGranted(from string, msg AbsentGranted) {
	if l := m.Leave; l != nil && m.current(from, msg.Life, msg.To) && msg.Number == l.Number {
		l.Granted[from] = msg.Life
	}
}

// goAway takes the leave once all the living have granted it, or gives up.
func (m *Machine) goAway() {
	l := m.Leave
	if l == nil || l.Taken {
		return
	}
	switch ungranted := m.ungranted(); {
	case len(ungranted) == 0 && m.leased() && m.now-l.Asked > l.For/4:
		m.askAgain() // too much of it is gone
	case len(ungranted) == 0 && m.leased():
		l.Taken, m.frozen = true, true
		m.Until = max(m.Until, l.Asked+l.For)
		m.happened(Happening{Kind: HappeningAbsent, Node: m.cfg.Name, Took: m.now - l.Begun})
	case m.now-l.Begun > askPatience*m.cfg.DeadAfter:
		m.Leave = nil
		reason := "without a lease there is nothing to keep"
		if len(ungranted) > 0 {
			reason = "no answer from " + strings.Join(ungranted, ", ")
		}
		m.happened(Happening{Kind: HappeningAbsenceRefused, Node: m.cfg.Name, Reason: reason})
	}
}

// back says whether a leave that was taken can end: those who can be heard hear this node again.
func (m *Machine) back(until time.Duration) bool {
	if until <= m.now {
		return false
	}
	for name, r := range m.Known {
		if name != m.cfg.Name && !r.Dead && r.Stage != StageDown && !m.missing(name) && !m.excused(name) &&
			m.peer(name).Says != saidHeard {
			return false
		}
	}
	return true
}

// endLeave tells the peers that this node is here again, from now on with everything that it says.
// Until they know, they do not mind that it does not hear them; so it waits to miss anybody.
func (m *Machine) endLeave() {
	m.Leave, m.Ended, m.Began = nil, m.number(), m.now
	m.news[m.cfg.Name] = true
}

func (m *Machine) onLeave() bool { return m.Leave != nil && m.Leave.Taken }

// absences are the leaves that are told to those who come, and the end of the last one of this node.
func (m *Machine) absences() []Leaves {
	var all []Leaves
	if m.Ended != 0 {
		all = append(all, Leaves{m.cfg.Name, m.Life, m.Ended, 0})
	}
	for _, name := range m.others() {
		if p := m.peer(name); m.excused(name) {
			all = append(all, Leaves{name, p.Absent.Life, p.Absent.Number, p.Absent.Until - m.now})
		}
	}
	return all
}
