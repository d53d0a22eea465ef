package ownership

import "slices"

// UDP has no sockets that say whose a flow is, so its flows go by notes: who gave a bucket up goes on
// deciding about its UDP. At first it takes all of it and notes the flows, for Config.UDPIdle; then it
// keeps those that it noted and sends the others on; and when none of them is left it stops. Until it
// said so, the owner takes only what is sent on to it.

// release gives up a bucket that another node took, except for its UDP. That is somebody else's if this
// node itself does not decide about it yet, or if the taker decided about it all the time.
func (m *Machine) release(domain string, set, kept Set) {
	d := m.domain(domain)
	keep := set.Without(m.away(domain)).Without(kept)
	m.drop(d, set)
	if !keep.Empty() {
		d.Keep.AddAll(keep)
		d.KeepAt, d.kept = m.now, false
	}
}

// quiet stops deciding about UDP of buckets without flows. Not while anybody is on leave: an owner that
// does not run would go on leaving new flows to this node until it is back.
func (m *Machine) quiet(e Quiet) {
	d := m.Tokens[e.Domain]
	if slices.ContainsFunc(m.others(), m.excused) {
		return
	}
	if d != nil && d.kept && !d.Keep.And(e.Set).Empty() {
		d.Keep.RemoveAll(e.Set)
		m.maybeChanged()
	}
}

// noteLongEnough lets new flows of UDP go to their owner, once all that lived have been noted.
func (m *Machine) noteLongEnough() {
	for _, d := range m.Tokens {
		if !d.kept && !d.Keep.Empty() && m.now-d.KeepAt > m.cfg.UDPIdle {
			d.kept, m.changed = true, true
		}
	}
}

// away returns the buckets of which another living node decides about UDP.
func (m *Machine) away(domain string) Set {
	var all Set
	for name, p := range m.Peers {
		if m.Known.is(name, p.Flows.Life) {
			all.AddAll(p.Flows.Kept[domain])
		}
	}
	taken := m.unreleased(domain)
	for _, ins := range m.In {
		for _, in := range ins {
			taken.RemoveAll(byDomain(in.Kept)[domain])
		}
	}
	all.AddAll(taken)
	return all
}

// unreleased returns the buckets that this node took from others who do not know that yet.
func (m *Machine) unreleased(domain string) Set {
	var all Set
	for _, ins := range m.In {
		for _, in := range ins {
			for _, part := range in.Parts {
				if part.Domain == domain {
					all.AddAll(part.Set)
				}
			}
		}
	}
	return all
}

// keptBy returns the buckets about whose UDP a peer decides although it gave them up. It goes on when it
// gets them back, and no longer says so: as of the offer, it is not this node that decides.
func (m *Machine) keptBy(name string, parts []Part) []Part {
	p := m.peer(name)
	if !m.Known.is(name, p.Flows.Life) {
		return nil
	}
	var kept []Part
	for _, part := range parts {
		if both := part.Set.And(p.Flows.Kept[part.Domain]); !both.Empty() {
			kept = append(kept, Part{part.Domain, both})
		}
	}
	return kept
}
