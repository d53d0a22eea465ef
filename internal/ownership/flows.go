package ownership

import (
	"math"
	"slices"
)

// flows are buckets in which another node may have sockets although it does not own them, as of some
// statement of its life.
type flows struct {
	Life, Number uint64
	Parts        map[string]Set
	Kept         map[string]Set // whose UDP it decides about
}

// covers says whether f was said at the same time as a statement, or later.
func (f *flows) covers(life, number uint64) bool {
	return f.Life > life || f.Life == life && f.Number >= number
}

// never is the number of a statement that a life cannot make any more: only another life takes it back.
const never = math.MaxUint64

// drop gives buckets up. Our sockets may hold flows in them.
func (m *Machine) drop(d *domain, set Set) {
	if set.Empty() {
		return
	}
	d.Held.RemoveAll(set)
	d.Maybe.AddAll(set)
	d.MaybeAt = m.now
	m.maybeChanged()
}

// regain takes buckets out of those that were given up.
func (m *Machine) regain(d *domain, set Set) {
	if !d.Maybe.And(set).Empty() || !d.Keep.And(set).Empty() {
		d.Maybe.RemoveAll(set)
		d.Keep.RemoveAll(set)
		m.maybeChanged()
	}
}

func (m *Machine) maybeChanged() {
	m.MaybeNumber++
	m.maybeNews, m.changed = true, true
}

// drained forgets buckets without sockets. Flows that were sent on may still arrive soon after a
// bucket was given up.
func (m *Machine) drained(e Drained) {
	d := m.Tokens[e.Domain]
	if d != nil && m.now-d.MaybeAt > m.cfg.DeadAfter && !d.Maybe.And(e.Set).Empty() {
		d.Maybe.RemoveAll(e.Set)
		m.maybeChanged()
	}
}

// inherited adds what the life before left.
func (m *Machine) inherited(e Inherited) {
	if e.Set.max() < m.cfg.Buckets {
		m.drop(m.domain(e.Domain), e.Set.Without(m.has(e.Domain)))
	}
}

// maybe is what this node says about its sockets.
func (m *Machine) maybe() Maybe {
	msg := Maybe{Life: m.Life, Number: m.MaybeNumber}
	for _, name := range m.domains() {
		if d := m.Tokens[name]; !d.Maybe.Empty() {
			msg.Parts = append(msg.Parts, Part{name, slices.Clone(d.Maybe)})
		}
		if d := m.Tokens[name]; !d.Keep.Empty() {
			msg.Kept = append(msg.Kept, Part{name, slices.Clone(d.Keep)})
		}
	}
	return msg
}

// onMaybe learns what a peer says about its sockets.
func (m *Machine) onMaybe(from string, msg Maybe) {
	p := m.peer(from)
	if msg.Number == 0 || p.Flows.covers(msg.Life, msg.Number) {
		return
	}
	p.Flows = flows{msg.Life, msg.Number, byDomain(msg.Parts), byDomain(msg.Kept)}
	if p.Flows.covers(p.Ghost.Life, p.Ghost.Number) {
		p.Ghost = flows{}
	}
	m.changed = true
}

func byDomain(parts []Part) map[string]Set {
	sets := make(map[string]Set, len(parts))
	for _, part := range parts {
		sets[part.Domain] = part.Set
	}
	return sets
}

// witnessed is what this node knows of the flows of third nodes in buckets that go to a peer.
func (m *Machine) witnessed(to string, parts []Part) []Witnessed {
	var all []Witnessed
	for _, name := range m.others() {
		p := m.Peers[name]
		if name == to || p == nil {
			continue
		}
		for _, f := range []*flows{&p.Flows, &p.Ghost} {
			w := Witnessed{Name: name, Life: f.Life, Number: f.Number}
			for _, part := range parts {
				if both := part.Set.And(f.Parts[part.Domain]); !both.Empty() {
					w.Parts = append(w.Parts, Part{part.Domain, both})
				}
			}
			if len(w.Parts) > 0 {
				all = append(all, w)
			}
		}
	}
	return all
}

// hear believes what was witnessed of a third node, unless that said something newer itself.
func (m *Machine) hear(w Witnessed) {
	if w.Name == m.cfg.Name || m.Known[w.Name] == nil {
		return
	}
	if p := m.peer(w.Name); !p.Flows.covers(w.Life, w.Number) {
		m.haunt(p, w.Life, w.Number, w.Parts)
	}
}

// haunt remembers buckets in which a node may have flows although it did not tell this node.
func (m *Machine) haunt(p *peer, life, number uint64, parts []Part) {
	if p.Ghost.Parts == nil {
		p.Ghost.Parts = make(map[string]Set)
	}
	if !p.Ghost.covers(life, number) {
		p.Ghost.Life, p.Ghost.Number = life, number
	}
	for _, part := range parts {
		set := p.Ghost.Parts[part.Domain]
		set.AddAll(part.Set)
		p.Ghost.Parts[part.Domain] = set
	}
	m.changed = true
}

// hauntAll is for a life that ended: it may have flows everywhere but in what is this node's since
// before, of which it told. If it never told anything, there as well.
func (m *Machine) hauntAll(p *peer, life uint64) {
	for _, name := range m.domains() {
		set := m.everything()
		if p.Flows.Life >= life {
			set.RemoveAll(m.Tokens[name].Held)
		}
		m.haunt(p, life, never, []Part{{name, set}})
	}
}

// unsaid says whether a node did not say in its life where it may have flows.
func (m *Machine) unsaid(name string) bool {
	return name != m.cfg.Name && m.peer(name).Flows.Life < m.Known[name].Life
}

// hauntMade is for tokens that this node makes: dead nodes that never said anything to it may have
// flows there. Who hands a bucket over tells what he knows of them.
func (m *Machine) hauntMade(parts []Part) {
	for _, name := range m.others() {
		if p := m.peer(name); m.Known[name].Dead && m.unsaid(name) && !p.HostGone {
			m.haunt(p, m.Known[name].Life, never, parts)
		}
	}
}

func (m *Machine) everything() Set {
	var all Set
	for b := range m.cfg.Buckets {
		all.Add(b)
	}
	return all
}

// exorcise forgets the flows of a dead node whose machine is gone too: whoever talks to it gets a RST
// from now on.
func (m *Machine) exorcise(name string) {
	p, r := m.peer(name), m.Known[name]
	if r != nil && r.Dead && p.HostGone {
		p.Flows.Parts, p.Ghost = nil, flows{}
		m.changed = true
	}
}

// contested returns the buckets in which others may have flows.
func (m *Machine) contested(domain string) Set {
	var all Set
	if !m.keeps(ruleContested) {
		return nil
	}
	for name, p := range m.Peers {
		if name != m.cfg.Name {
			all.AddAll(p.Flows.Parts[domain])
			all.AddAll(p.Ghost.Parts[domain])
		}
		if m.Known.alive(name) && m.unsaid(name) {
			all.AddAll(m.everything())
		}
	}
	for _, name := range m.cfg.Expected {
		if m.Known[name] == nil && !m.peer(name).HostGone {
			all.AddAll(m.everything()) // its lbd may be down, and its flows live
		}
	}
	all.AddAll(m.unreleased(domain))
	return all
}
