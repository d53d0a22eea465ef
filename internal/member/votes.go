package member

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/probe"
)

const (
	// voteEvery is how often votes are told again, in case that they did not get there.
	voteEvery = 5 * time.Second
	// voteTime is how long votes count that are not told again.
	voteTime = 3 * voteEvery
)

// Votes are what a director found out about backends.
type Votes map[probe.Subject]health.Vote

// A ballot is a message with all votes of a director.
type ballot struct {
	Number   uint64                            `json:"number"` // the highest is the newest
	Fine     map[string][]string               `json:"fine"`   // backends, by service, that have the vote health.Fine
	Unlike   map[string]map[string]health.Vote `json:"unlike"` // all others
	received time.Time
}

func (v Votes) ballot(number uint64) ballot {
	b := ballot{Number: number, Fine: make(map[string][]string), Unlike: make(map[string]map[string]health.Vote)}
	for about, vote := range v {
		if vote == health.Fine {
			b.Fine[about.Service] = append(b.Fine[about.Service], about.Backend)
			continue
		}
		if b.Unlike[about.Service] == nil {
			b.Unlike[about.Service] = make(map[string]health.Vote)
		}
		b.Unlike[about.Service][about.Backend] = vote
	}
	return b
}

// encode leaves the reasons out where they would make the message too long.
func (b *ballot) encode() ([]byte, error) {
	body, err := json.Marshal(b)
	if err == nil && len(body) >= cluster.MaxMessage {
		for _, backends := range b.Unlike {
			for name, vote := range backends {
				vote.Reason = ""
				backends[name] = vote
			}
		}
		body, err = json.Marshal(b)
	}
	if err != nil {
		return nil, fmt.Errorf("encode votes: %w", err)
	}
	return frame(kindVotes, body), nil
}

func (b *ballot) votes() Votes {
	votes := make(Votes)
	for service, backends := range b.Fine {
		for _, name := range backends {
			votes[probe.Subject{Service: service, Backend: name}] = health.Fine
		}
	}
	for service, backends := range b.Unlike {
		for name, vote := range backends {
			votes[probe.Subject{Service: service, Backend: name}] = vote
		}
	}
	return votes
}

// Vote tells the other directors what this one found out.
func (m *Member) Vote(v Votes) {
	m.mu.Lock()
	same := len(v) == 0 && m.votes == nil || m.votes != nil && maps.Equal(v, m.votes)
	if same {
		m.mu.Unlock()
		return
	}
	m.votes = maps.Clone(v)
	m.mu.Unlock()
	m.cast("")
}

// cast sends our votes to a peer, or to all.
func (m *Member) cast(to string) {
	m.mu.Lock()
	m.ballotNumber++
	b := m.votes.ballot(m.ballotNumber)
	if to == "" {
		m.votedAt = time.Now()
	}
	m.mu.Unlock()
	message, err := b.encode()
	if err != nil {
		m.opts.Log.Error("what this director found out is not told", "err", err)
		return
	}
	_ = m.cluster.Send(to, message) // told again
}

// castAgain repeats our votes when it is time.
func (m *Member) castAgain() {
	m.mu.Lock()
	due := m.votes != nil && time.Since(m.votedAt) >= voteEvery
	m.mu.Unlock()
	if due {
		m.cast("")
	}
}

// voted takes the votes of a peer.
func (m *Member) voted(from string, payload []byte) error {
	var b ballot
	if err := json.Unmarshal(payload, &b); err != nil {
		return fmt.Errorf("votes: %w", err)
	}
	b.received = time.Now()
	m.mu.Lock()
	old, known := m.ballots[from]
	fresh := !known || b.Number > old.Number || b.received.Sub(old.received) >= voteTime
	changed := fresh && (!known || !maps.Equal(b.votes(), old.votes()))
	if fresh {
		m.ballots[from] = b
	}
	m.mu.Unlock()
	if changed && m.opts.Voted != nil {
		m.opts.Voted()
	}
	return nil
}

// VotesByNode returns what each director that lives found out, this one included.
func (m *Member) VotesByNode(ctx context.Context) (map[string]Votes, error) {
	alive := make(map[string]bool)
	err := m.within(ctx, func() {
		for _, member := range m.status.Members {
			alive[member.Name] = !member.Dead && member.Stage != ownership.StageLeft
		}
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]Votes{m.opts.Machine.Name: maps.Clone(m.votes)}
	for name, b := range m.ballots {
		if alive[name] && time.Since(b.received) < voteTime {
			all[name] = b.votes()
		}
	}
	return all, err
}
