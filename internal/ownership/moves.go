package ownership

import (
	"maps"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// moveBuckets brings buckets to where they should be: those that this node has to others, and those
// that nobody has to this node.
func (m *Machine) moveBuckets() {
	if !m.stir || m.self().Stage != StageMember || !m.leased() {
		return
	}
	m.stir = false
	m.offer()
	m.claim()
	m.stay()
	m.settle()
}

// offer hands over what others should have. A peer has one offer at a time, and as long as its answer
// is unknown nobody else is offered the same.
func (m *Machine) offer() {
	if !m.keeps(ruleUnsure) {
		m.changeMind()
	}
	parts := m.misplaced()
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if m.Out[name] != nil || m.silent(name) || !m.agrees(name) || m.peer(name).RefusedAt == m.now {
			continue
		}
		for _, part := range parts[name] {
			m.Tokens[part.Domain].Held.RemoveAll(part.Set)
		}
		m.Offers++
		m.Out[name] = &move{
			Life: m.Known[name].Life, Number: m.Offers, Knowledge: m.fingerprint,
			Parts: parts[name], Others: m.witnessed(name, parts[name]), Kept: m.keptBy(name, parts[name]), Since: m.now,
		}
		m.changed = true
		m.sendOffer(name)
	}
}

func (m *Machine) sendOffer(to string) {
	mv := m.Out[to]
	mv.Sent = m.now
	m.send(to, Offer{m.Life, mv.Life, mv.Number, mv.Knowledge, mv.Parts, mv.Others})
}

// misplaced returns what this node holds and others should, by name. What nobody should have is
// given up.
func (m *Machine) misplaced() map[string][]Part {
	parts := make(map[string][]Part)
	for _, name := range m.domains() {
		d := m.Tokens[name]
		byOwner := make(map[int16]*Set)
		for b := range d.Held.Without(d.plan.mine).All() {
			owner := d.plan.owners[b]
			if byOwner[owner] == nil {
				byOwner[owner] = new(Set)
			}
			byOwner[owner].Add(b)
		}
		for owner, set := range byOwner {
			if owner == lb.NoNode {
				m.drop(d, *set)
				continue
			}
			peer := d.plan.nodes[owner].Name
			parts[peer] = append(parts[peer], Part{name, *set})
		}
	}
	return parts
}

// changeMind is what ruleUnsure forbids.
func (m *Machine) changeMind() {
	for name, mv := range m.Out {
		if mv.Knowledge != m.fingerprint {
			delete(m.Out, name)
			m.keep(mv.Parts)
		}
	}
}

// onOffer takes what is offered or refuses it, and says the same however often it is asked.
func (m *Machine) onOffer(from string, msg Offer) {
	if !m.current(from, msg.Life, msg.To) {
		return
	}
	p := m.peer(from)
	if p.Offered.Life != msg.Life {
		p.Offered = offered{Life: msg.Life}
	}
	switch {
	case msg.Number < p.Offered.Number:
		return
	case msg.Number > p.Offered.Number:
		p.Offered.Number = msg.Number
		p.Offered.Taken = m.accept(from, msg)
	}
	if p.Offered.Taken {
		m.send(from, Taken{m.Life, msg.Life, msg.Number})
	} else {
		m.send(from, Refused{m.Life, msg.Life, msg.Number, m.maybe()})
	}
}

// accept takes an offer if both know the same: then no third node can come by these buckets. If it
// does not, flows that were sent on may have reached the sockets here.
func (m *Machine) accept(from string, msg Offer) bool {
	sound := !slices.ContainsFunc(msg.Parts, func(part Part) bool { return part.Set.max() >= m.cfg.Buckets })
	if !sound {
		return false
	}
	ok := m.leased() && m.self().Stage == StageMember
	if m.keeps(ruleSameKnowledge) {
		ok = ok && msg.Knowledge == m.fingerprint
	}
	if !ok {
		for _, part := range msg.Parts {
			d := m.domain(part.Domain)
			m.drop(d, part.Set.Without(m.has(part.Domain)))
		}
		return false
	}
	for _, w := range msg.Others {
		m.hear(w)
	}
	if !m.keeps(ruleThreeWay) {
		m.keep(msg.Parts)
		return true
	}
	var kept []Part
	for _, part := range msg.Parts {
		d := m.domain(part.Domain)
		kept = append(kept, Part{part.Domain, d.Keep.And(part.Set)})
		m.regain(d, part.Set)
	}
	m.In[from] = append(m.In[from], &move{
		Life: msg.Life, Number: msg.Number, Knowledge: msg.Knowledge, Parts: msg.Parts, Kept: kept, Since: m.now, Sent: m.now,
	})
	m.changed = true
	return true
}

// onTaken lets go of what a peer took. If that was done before, the peer did not learn of it.
func (m *Machine) onTaken(from string, msg Taken) {
	if !m.current(from, msg.Life, msg.To) {
		return
	}
	out := m.Out[from]
	switch {
	case out != nil && msg.Number == out.Number:
		delete(m.Out, from)
		n := 0
		for _, part := range out.Parts {
			n += part.Set.Len()
			m.release(part.Domain, part.Set, byDomain(out.Kept)[part.Domain])
		}
		m.stir = true
		m.happened(Happening{Kind: HappeningHanded, Node: from, Buckets: n, Took: m.now - out.Since})
	case out != nil && msg.Number > out.Number:
		return
	}
	m.send(from, Released{m.Life, msg.Life, msg.Number, m.maybe()})
}

func (m *Machine) onRefused(from string, msg Refused) {
	out := m.Out[from]
	if !m.current(from, msg.Life, msg.To) || out == nil || msg.Number != out.Number {
		return
	}
	delete(m.Out, from)
	m.onMaybe(from, msg.Maybe)
	m.keep(out.Parts)
	m.peer(from).RefusedAt = m.now
	m.happened(Happening{Kind: HappeningRefused, Node: from, Buckets: count(out.Parts)})
}

// onReleased makes this node the only one that has what it took.
func (m *Machine) onReleased(from string, msg Released) {
	if !m.current(from, msg.Life, msg.To) {
		return
	}
	m.onMaybe(from, msg.Maybe)
	i := slices.IndexFunc(m.In[from], func(in *move) bool { return in.Number == msg.Number })
	if i < 0 {
		return
	}
	in := m.In[from][i]
	m.In[from] = slices.Delete(m.In[from], i, i+1)
	m.keep(in.Parts)
	m.happened(Happening{Kind: HappeningTaken, Node: from, Buckets: count(in.Parts), Took: m.now - in.Since})
}

// keep makes buckets this node's own.
func (m *Machine) keep(parts []Part) {
	for _, part := range parts {
		d := m.domain(part.Domain)
		d.Held.AddAll(part.Set)
		m.regain(d, part.Set)
	}
	m.stir, m.changed = true, true
}

// has returns the buckets of a domain of which this node has the token, or may have: it must not be
// made anew.
func (m *Machine) has(domain string) Set {
	all := m.taken(domain)
	for _, out := range m.Out {
		for _, part := range out.Parts {
			if part.Domain == domain {
				all.AddAll(part.Set)
			}
		}
	}
	return all
}

// taken returns the buckets of a domain that this node accepts.
func (m *Machine) taken(domain string) Set {
	all := m.unreleased(domain)
	all.AddAll(m.domain(domain).Held)
	return all
}

func count(parts []Part) int {
	n := 0
	for _, part := range parts {
		n += part.Set.Len()
	}
	return n
}

// settle notices when all buckets of this node are where they should be.
func (m *Machine) settle() {
	if m.settled || len(m.Out)+m.unconfirmed() > 0 || m.claiming != nil || !m.agreed() {
		return
	}
	n := 0
	for _, d := range m.Tokens {
		if !d.Held.Equal(d.plan.mine) {
			return
		}
		n += d.Held.Len()
	}
	m.settled = true
	m.happened(Happening{Kind: HappeningSettled, Node: m.cfg.Name, Buckets: n, Took: m.now - m.changedAt})
}

func (m *Machine) unconfirmed() int {
	n := 0
	for _, ins := range m.In {
		n += len(ins)
	}
	return n
}
