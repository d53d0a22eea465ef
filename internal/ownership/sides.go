package ownership

import (
	"cmp"
	"maps"
	"slices"
)

// A Side is one part of a cluster that was cut, as one of its nodes sees it.
type Side struct {
	Members int // that live
	Lineage Lineage
	First   string // of them, by name
}

// side returns the part of the cluster that this node is in.
func (m *Machine) side() Side {
	s := Side{Lineage: m.self().Lineage, First: m.cfg.Name}
	for name, r := range m.Known {
		if !r.Dead && r.Stage == StageMember {
			s.Members++
			s.First = min(s.First, name)
		}
	}
	return s
}

// outranks says which of two sides goes on where they meet again: that with more members; of equals the
// older one; else that with the name that comes first.
func (s Side) outranks(other Side) bool {
	return cmp.Or(cmp.Compare(other.Members, s.Members), s.Lineage.Compare(other.Lineage),
		cmp.Compare(s.First, other.First)) < 0
}

// disputes says whether what a node says does not count, because its life is over for this one. If it
// only does not know that, it is told. If it believes the same of this node, both went on after a
// cut, and the side that is outranked begins as after a boot: what it knows would kill the other.
func (m *Machine) disputes(from string, msg State) bool {
	r := m.Known[from]
	if r == nil || !r.Dead || r.Life != msg.Life {
		return false
	}
	mutual := slices.ContainsFunc(msg.Records, func(r Record) bool {
		return r.Name == m.cfg.Name && r.Life == m.Life && r.Dead
	})
	if mutual && msg.Side.outranks(m.side()) {
		m.forget()
		m.loseLife("the other side of a cut goes on")
		return false
	}
	m.send(from, m.state(slices.Sorted(maps.Keys(m.Known))))
	return true
}

// yieldTo ends this life when somebody became a member of its group without asking it, which takes a cut: of
// the lives that began on both sides none was declared dead by the other, and each has tokens. Who is
// outranked, or cannot tell any more, yields.
func (m *Machine) yieldTo(msg State) {
	if m.self().Stage != StageMember || !m.keeps(ruleJoinedElsewhere) || m.side().outranks(msg.Side) {
		return
	}
	for i := range msg.Records {
		r := &msg.Records[i]
		old := m.Known[r.Name]
		if r.Name == m.cfg.Name || r.Dead || r.Lineage != m.self().Lineage || old != nil && old.Life >= r.Life {
			continue
		}
		if m.cfg.Verify == nil || m.cfg.Verify(r.Name, r.appendSigned(nil), r.Signature) {
			m.forget()
			m.loseLife("the other side of a cut goes on")
			return
		}
	}
}

// forget leaves this node as little as a boot does.
func (m *Machine) forget() {
	self := m.self()
	m.Known = knowledge{m.cfg.Name: self}
	for _, p := range m.Peers {
		p.Fingerprint, p.Opinion, p.OpinionAt = 0, nil, 0
		p.Says, p.At = saidNothing, 0
	}
}
