package member

import "time"

// informTime is how long a node that begins waits for what its peers know; one that does not tell in
// that time does not keep it from serving.
const informTime = 3 * time.Second

// Informed returns a channel that is closed when this node knows what its living peers knew when it
// began: what people decided of nodes and backends, and what
// directors found out. Before that, others serve better than this node would.
func (m *Member) Informed() <-chan struct{} { return m.informed }

// inform closes that channel when it is time. It is for the goroutine that owns the machine.
func (m *Member) inform() {
	if m.isInformed {
		return
	}
	listened := time.Since(m.begun)
	if !m.resumed && listened < informTime && (listened < m.opts.Machine.DeadAfter || !m.heardOut()) {
		return
	}
	m.isInformed = true
	close(m.informed)
}

// heardOut says whether every peer that lives has told all it knows.
func (m *Member) heardOut() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.sights {
		if s.silent {
			continue
		}
		facts, known := m.facts[name]
		_, voted := m.ballots[name]
		if !known || !m.toldAll[name] || facts.Voted && !voted {
			return false
		}
	}
	return true
}

// toldAllBy notes that a peer knows nothing that this node does not.
func (m *Member) toldAllBy(peer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.toldAll[peer] = true
}
