package ownership

import (
	"maps"
	"slices"
	"time"
)

// Status returns what an operator may want to know.
func (m *Machine) Status(now time.Duration) Status {
	m.now = max(m.now, now)
	me := m.self()
	s := Status{
		Name: m.cfg.Name, Life: m.Life, Knowledge: m.fingerprint, Agreed: m.agreed(), Settled: m.settled,
		Lineage: me.Lineage, Lease: m.Until, Conflicts: slices.Sorted(maps.Keys(m.conflicts)),
	}
	if me.Waiting {
		s.Damped = m.damped()
	}
	for _, r := range m.Known.sorted() {
		s.Members = append(s.Members, m.member(r))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Out)) {
		mv := m.Out[name]
		s.Moving = append(s.Moving, Moving{name, true, mv.Number, count(mv.Parts), mv.Since})
	}
	for _, name := range slices.Sorted(maps.Keys(m.In)) {
		for _, mv := range m.In[name] {
			s.Moving = append(s.Moving, Moving{name, false, mv.Number, count(mv.Parts), mv.Since})
		}
	}
	return s
}

func (m *Machine) member(r *Record) Member {
	member := Member{
		Name: r.Name, Life: r.Life, Version: r.Version, Stage: r.Stage, Dead: r.Dead, Waiting: r.Waiting,
		Leaving: r.Leaving, Weights: r.Weights, Meta: r.Meta,
	}
	if r.Name == m.cfg.Name {
		member.Knowledge, member.Hears = m.fingerprint, true
		return member
	}
	p := m.peer(r.Name)
	member.Silent, member.Hears, member.Knowledge = m.silent(r.Name), p.Says == saidHeard, p.Fingerprint
	if m.excused(r.Name) {
		member.Absent = p.Absent.Until
	}
	return member
}

// finish ends the last life of a node that leaves for good, once it holds nothing.
func (m *Machine) finish() {
	me := m.self()
	if !me.Leaving || len(m.Out)+m.unconfirmed() > 0 {
		return
	}
	for _, d := range m.Tokens {
		if !d.Held.Empty() {
			return
		}
	}
	m.Gone = true
	m.amend(func(r *Record) { r.Dead, r.Stage = true, StageLeft })
	m.Until = 0
	m.happened(Happening{Kind: HappeningLeft, Node: m.cfg.Name})
}
