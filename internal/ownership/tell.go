package ownership

import (
	"maps"
	"slices"
)

// tell spreads what is new: to everybody, also to the dead, who may not know it.
func (m *Machine) tell() {
	if len(m.news) > 0 {
		state := m.state(slices.Sorted(maps.Keys(m.news)))
		for _, name := range m.audience() {
			m.send(name, state)
		}
		clear(m.news)
	}
	if m.maybeNews && m.Ready {
		m.maybeNews = false
		m.sendMaybe()
	}
	if opinion := m.opinion(); !slices.Equal(opinion, m.opined) {
		m.sendOpinion(opinion)
	}
}

// audience is everybody who may be there: a node that was never heard of may know nobody either.
func (m *Machine) audience() []string {
	names := append(m.others(), m.cfg.Expected...)
	names = slices.AppendSeq(names, maps.Keys(m.Peers))
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == m.cfg.Name })
}

// repeat says again what got no answer, and now and then everything.
func (m *Machine) repeat() {
	again := m.now - 2*m.cfg.Tick
	for _, name := range slices.Sorted(maps.Keys(m.Out)) {
		if m.Out[name].Sent <= again {
			m.sendOffer(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.In)) {
		for _, in := range m.In[name] {
			if in.Sent <= again {
				in.Sent = m.now
				m.send(name, Taken{m.Life, in.Life, in.Number})
			}
		}
	}
	if c := m.claiming; c != nil && c.sent <= again {
		m.askClaim()
	}
	if l := m.Leave; l != nil && !l.Taken && l.Sent <= again {
		m.sendAbsent()
	}
	if len(m.opined) > 0 && m.opinedAt <= again {
		m.sendOpinion(m.opined)
	}
	if m.toldAt+m.cfg.Refresh <= m.now {
		m.toldAt = m.now
		m.maybeNews = true
		m.sendOpinion(m.opinion())
		for name := range m.Known {
			m.news[name] = true
		}
	}
}

// state is a message about some nodes.
func (m *Machine) state(names []string) State {
	s := State{Life: m.Life, Number: m.number(), Knowledge: m.fingerprint, Side: m.side(), Absences: m.absences()}
	for _, name := range names {
		s.Records = append(s.Records, *m.Known[name])
	}
	return s
}

func (m *Machine) sendMaybe() {
	maybe := m.maybe()
	for _, name := range m.others() {
		if m.Known.alive(name) {
			m.send(name, maybe)
		}
	}
}

// sendOpinion tells the others whom this node misses.
func (m *Machine) sendOpinion(silent []Ref) {
	m.opined, m.opinedAt = silent, m.now
	opinion := Opinion{m.Life, m.number(), silent}
	for _, name := range m.others() {
		if m.Known.alive(name) {
			m.send(name, opinion)
		}
	}
}
