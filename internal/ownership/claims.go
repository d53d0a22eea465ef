package ownership

import (
	"maps"
	"slices"
	"time"
)

// A claim asks everybody who is asked under the same knowledge for leave to make tokens.
type claim struct {
	number  uint64
	parts   []Part
	waiting map[string]uint64 // peers that did not answer, and their lives
	sent    time.Duration
}

// claim asks for the buckets that this node should have and has not: the holder, if there is one,
// says so and offers them.
func (m *Machine) claim() {
	if m.claiming != nil {
		m.makeTokens()
		return
	}
	if m.claimedFor == m.fingerprint && m.now < m.claimedAt+m.cfg.Refresh {
		return
	}
	var parts []Part
	for _, name := range m.domains() {
		missing := m.Tokens[name].plan.mine.Without(m.Tokens[name].Held)
		if missing.Empty() {
			continue
		}
		if missing = missing.Without(m.unreleased(name)); !missing.Empty() {
			parts = append(parts, Part{name, missing})
		}
	}
	if len(parts) == 0 {
		return
	}
	c := &claim{number: m.number(), parts: parts, waiting: make(map[string]uint64)}
	for name, r := range m.Known {
		if name != m.cfg.Name && !r.Dead && r.Stage != StageDown && m.keeps(ruleAskAll) {
			c.waiting[name] = r.Life
		}
	}
	m.claiming = c
	m.askClaim()
	m.makeTokens()
}

// askClaim asks those who did not answer yet.
func (m *Machine) askClaim() {
	c := m.claiming
	c.sent = m.now
	for _, name := range slices.Sorted(maps.Keys(c.waiting)) {
		m.send(name, Claim{m.Life, c.number, m.fingerprint, c.parts})
	}
}

// onClaim grants under equal knowledge. Not while somebody is heard whose life is over for us: he may
// not know it yet.
func (m *Machine) onClaim(from string, msg Claim) {
	if !m.Known.is(from, msg.Life) || msg.Knowledge != m.fingerprint && m.keeps(ruleSameKnowledge) {
		return
	}
	if m.hearsDead() {
		return
	}
	var held []Part
	for _, part := range msg.Parts {
		if both := part.Set.And(m.has(part.Domain)); !both.Empty() {
			held = append(held, Part{part.Domain, both})
		}
	}
	m.send(from, Grant{m.Life, msg.Life, msg.Number, msg.Knowledge, held, m.maybe()})
}

// hearsDead says whether a dead node is heard that did not say itself that its life is over.
func (m *Machine) hearsDead() bool {
	if !m.keeps(ruleGrantSilent) {
		return false
	}
	for name, r := range m.Known {
		if r.Dead && r.Stage != StageLeft && name != m.cfg.Name && !m.silent(name) {
			return true
		}
	}
	return false
}

// onGrant counts an answer. A claim does not outlive the knowledge that it was made under.
func (m *Machine) onGrant(from string, msg Grant) {
	c := m.claiming
	if !m.current(from, msg.Life, msg.To) {
		return
	}
	m.onMaybe(from, msg.Maybe)
	if c == nil || msg.Number != c.number || msg.Knowledge != m.fingerprint && m.keeps(ruleSameKnowledge) {
		return
	}
	if c.waiting[from] != msg.Life {
		return
	}
	delete(c.waiting, from)
	for _, held := range msg.Held {
		for i := range c.parts {
			if c.parts[i].Domain == held.Domain {
				c.parts[i].Set = c.parts[i].Set.Without(held.Set)
			}
		}
	}
	m.makeTokens()
}

// makeTokens makes what nobody has, once everybody has answered.
func (m *Machine) makeTokens() {
	c := m.claiming
	if c == nil || len(c.waiting) > 0 || m.self().Stage != StageMember || !m.leased() || m.hearsDead() {
		return
	}
	m.claiming, m.claimedFor, m.claimedAt = nil, m.fingerprint, m.now
	for i := range c.parts {
		// what came by an offer in the meantime is not made twice
		c.parts[i].Set = c.parts[i].Set.Without(m.has(c.parts[i].Domain))
	}
	if n := count(c.parts); n > 0 {
		m.keep(c.parts)
		m.hauntMade(c.parts)
		m.happened(Happening{Kind: HappeningMade, Node: m.cfg.Name, Buckets: n, Took: m.now - m.changedAt})
	}
}
