package ownership

import (
	"maps"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// shown is what the kernel does with the buckets of a domain.
type shown struct {
	plan      *plan
	accept    Set
	delegate  map[string]Set // by peer
	maybe     Set
	contested Set
	noted     Set
	kept      Set
	away      Set
}

// show tells the driver which buckets changed.
func (m *Machine) show() {
	if !m.changed {
		return
	}
	m.changed = false
	for _, name := range m.domains() {
		d := m.Tokens[name]
		next := m.look(name)
		if changed := next.differs(d.shown); !changed.Empty() {
			m.actions.Changed = append(m.actions.Changed, Change{name, changed})
		}
		d.shown = next
	}
}

// look returns what the kernel should do.
func (m *Machine) look(name string) *shown {
	d := m.Tokens[name]
	s := &shown{plan: d.plan, accept: m.taken(name), delegate: make(map[string]Set)}
	s.maybe.AddAll(d.Maybe)
	s.contested = m.contested(name).And(s.accept)
	for peer, out := range m.Out {
		for _, part := range out.Parts {
			if part.Domain == name {
				s.delegate[peer] = part.Set
				s.noted.AddAll(part.Set)
				// of a bucket that is about to go, our sockets may have flows, as before
				s.contested.AddAll(m.contested(name).And(part.Set))
			}
		}
	}
	away := m.away(name)
	for _, out := range m.Out {
		away.AddAll(byDomain(out.Kept)[name])
	}
	s.away = away.And(s.accept)
	s.away.AddAll(away.And(s.noted))
	s.noted = s.noted.Without(away)
	if d.kept {
		s.kept.AddAll(d.Keep)
	} else {
		s.noted.AddAll(d.Keep)
	}
	return s
}

// differs returns the buckets in which s is not what was shown before.
func (s *shown) differs(before *shown) Set {
	if before == nil {
		before = &shown{plan: new(plan)}
	}
	var changed Set
	add := func(a, b Set) {
		changed.AddAll(a.Without(b))
		changed.AddAll(b.Without(a))
	}
	add(s.accept, before.accept)
	add(s.maybe, before.maybe)
	add(s.contested, before.contested)
	add(s.noted, before.noted)
	add(s.kept, before.kept)
	add(s.away, before.away)
	for _, peer := range slices.Collect(maps.Keys(s.delegate)) {
		add(s.delegate[peer], before.delegate[peer])
	}
	for peer, set := range before.delegate {
		add(set, s.delegate[peer])
	}
	if s.plan != before.plan {
		s.moved(before, &changed)
	}
	return changed
}

// moved adds the buckets whose owner has another name.
func (s *shown) moved(before *shown, changed *Set) {
	for b, owner := range s.plan.owners {
		if b >= len(before.plan.owners) || s.plan.name(owner) != before.plan.name(before.plan.owners[b]) {
			changed.Add(b)
		}
	}
}

// name returns the name of an owner, "" for none.
func (p *plan) name(owner int16) string {
	if owner == lb.NoNode {
		return ""
	}
	return p.nodes[owner].Name
}

// Domains returns the domains that this node serves or served, sorted.
func (m *Machine) Domains() []string { return m.domains() }

// Table returns what the kernel must do in a domain, as of the last event.
func (m *Machine) Table(domain string) View {
	d := m.Tokens[domain]
	if d == nil || d.shown == nil {
		return m.emptyView()
	}
	s := d.shown
	v := View{
		Owners: slices.Clone(s.plan.owners), Verbs: make([]Verb, m.cfg.Buckets),
		MaybeLocal: s.maybe.Without(s.accept), Contested: s.contested,
		UDPNoted: s.noted, UDPKept: s.kept, UDPAway: s.away,
	}
	for _, n := range s.plan.nodes {
		v.Nodes = append(v.Nodes, n.Name)
	}
	me := int16(slices.Index(v.Nodes, m.cfg.Name))
	for b := range s.accept.All() {
		v.Owners[b], v.Verbs[b] = me, Accept
	}
	for peer, set := range s.delegate {
		to := slices.Index(v.Nodes, peer)
		if to < 0 { // dead, which takes the offer back
			continue
		}
		for b := range set.All() {
			v.Owners[b], v.Verbs[b] = int16(to), Delegate
		}
	}
	return v
}

func (m *Machine) emptyView() View {
	v := View{Nodes: []string{m.cfg.Name}, Owners: make([]int16, m.cfg.Buckets), Verbs: make([]Verb, m.cfg.Buckets)}
	for b := range v.Owners {
		v.Owners[b] = lb.NoNode
	}
	return v
}
