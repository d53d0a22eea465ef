package ownership

import (
	"slices"
	"time"
)

func (m *Machine) heardBy(e HeardBy) {
	p := m.peer(e.Peer)
	p.Heard = m.now
	p.Says = saidUnheard
	if e.Hears {
		p.At = max(p.At, min(e.At, m.now))
		if m.now-e.At <= m.cfg.HintTime {
			p.Says = saidHeard
		}
	}
}

// witness takes in what the witnesses say. Who was out of their sight until its lease was over was out of
// everybody's: the answer of a witness may come before the first frame of those who went on meanwhile.
func (m *Machine) witness(e Witness) {
	if e.Answers && !m.Witnessed && !m.leased() && m.keeps(ruleBackInSight) {
		m.Began = m.now
	}
	m.Witnessed = e.Answers
}

// renewLease extends the lease while the policy's condition holds. The first one is had only by who
// is ready: a node in the stage StageUp has to be asked by everybody.
func (m *Machine) renewLease() {
	if m.alone() {
		if m.Ready {
			m.Until = Forever
		}
		if m.onLeave() {
			m.Leave = nil
		}
		return
	}
	until := m.lease()
	switch {
	case m.Until == Forever:
		// A peer came. From now on it may come to believe that this node is dead.
		m.Until = max(until, m.now+m.cfg.LeaseTime)
	case m.onLeave():
		if m.back(until) {
			m.Until = until
			m.endLeave()
		}
	case m.Ready && (m.Until != 0 || until >= m.now+m.cfg.LeaseTime/2):
		m.Until = max(m.Until, until) // the first one is worth having
	}
	if m.Until <= m.now && m.self().Stage == StageDown {
		m.Until = 0
	}
}

// alone says whether there is nobody who could do the same. Who does not see the witness cannot know.
func (m *Machine) alone() bool {
	if m.cfg.quorum() > 1 || m.cfg.Policy == PolicyWitness && !m.Witnessed {
		return false
	}
	for name := range m.Known {
		if name != m.cfg.Name && m.Known.alive(name) {
			return false
		}
	}
	return true
}

// lease returns the time until which the policy lets this node go on, 0 if not at all. It starts
// from times that were read before what is checked here came about.
func (m *Machine) lease() time.Duration {
	if !m.keeps(ruleBeingHeard) {
		return m.now + m.cfg.LeaseTime
	}
	switch m.cfg.Policy {
	case PolicyMajority:
		return m.majorityLease()
	case PolicyWitness:
		if !m.Witnessed {
			return 0
		}
	case PolicyAny:
	}
	// Who hears a peer that does not hear it will be believed dead. Not by one that comes back from
	// leave, and did not hear anybody yet.
	for name, p := range m.Peers {
		r := m.Known[name]
		if r != nil && !r.Dead && r.Stage != StageDown && p.Says == saidUnheard && !m.silent(name) && !m.excused(name) {
			return 0
		}
	}
	return m.now + m.cfg.LeaseTime
}

// majorityLease begins when the peers that make up the majority last heard this node.
func (m *Machine) majorityLease() time.Duration {
	need := m.cfg.quorum() - 1
	if need == 0 {
		return m.now + m.cfg.LeaseTime
	}
	var heard []time.Duration
	for name, p := range m.Peers {
		if m.cfg.expects(name) && m.Known.alive(name) && p.At > 0 {
			heard = append(heard, p.At)
		}
	}
	if len(heard) < need {
		return 0
	}
	slices.Sort(heard)
	return heard[len(heard)-need] + m.cfg.LeaseTime
}

// Confirms says whether this node's heartbeat may say that it hears a peer in that life. It may not
// once that life is known to be over, even if its frames arrive: others act upon its death.
func (m *Machine) Confirms(peer string, life uint64) bool {
	r := m.Known[peer]
	return r == nil || life > r.Life || life == r.Life && !r.Dead
}
