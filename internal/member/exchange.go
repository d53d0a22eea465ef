package member

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

// tellEvery is how often a node tells the others about itself.
const tellEvery = time.Second

// tell sends facts once a second, until ctx ends.
func (m *Member) tell(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.count(ctx)
			if err := m.describe(""); err != nil {
				return err
			}
			m.castAgain()
		}
	}
}

// describe sends our facts to a peer, or to all.
func (m *Member) describe(to string) error {
	m.mu.Lock()
	facts := m.own
	facts.Voted = m.votes != nil
	m.mu.Unlock()
	facts.Digest = m.opts.Store.Digest()
	message, err := encodeFacts(facts)
	if err != nil {
		return err
	}
	_ = m.cluster.Send(to, message) // counted there; the next one says more
	return nil
}

// greet tells a peer that came, or began a new life, what we found out and who we are.
func (m *Member) greet(p cluster.Peer) {
	if !p.Alive {
		return
	}
	m.mu.Lock()
	voted := m.votes != nil
	m.mu.Unlock()
	if voted {
		m.cast(p.Name)
	}
	if err := m.describe(p.Name); err != nil {
		m.opts.Log.Error("a peer is not told of this node", "node", p.Name, "err", err)
	}
}

// fact takes what a peer tells. One whose store differs gets ours; it sends its own when it hears of
// ours in turn.
func (m *Member) fact(from string, payload []byte) error {
	var facts Facts
	if err := json.Unmarshal(payload, &facts); err != nil {
		return fmt.Errorf("facts: %w", err)
	}
	m.mu.Lock()
	m.facts[from] = facts
	m.mu.Unlock()
	if facts.Digest == m.opts.Store.Digest() {
		m.toldAllBy(from)
	} else {
		m.share(from)
	}
	return nil
}

// share sends all that the store has to a peer, or to all.
func (m *Member) share(to string) {
	_ = m.cluster.Send(to, frame(kindStore, store.Encode(m.opts.Store.Entries()))) // repeated by fact
}

// merge takes what a peer's store has. What is news wakes the loop, which shares it.
func (m *Member) merge(from string, payload []byte) error {
	entries, err := store.Decode(payload)
	if err != nil {
		return err
	}
	if _, err = m.opts.Store.Merge(entries); err == nil {
		m.toldAllBy(from)
	}
	return err
}

// A letter is a message of the machine, as it is sent.
type letter struct {
	to      string
	message []byte
	offer   bool // of buckets
}

// letters writes messages down. It is for the goroutine that owns the machine: they share its memory,
// which the next event changes.
func (m *Member) letters(envelopes []ownership.Envelope) []letter {
	var letters []letter
	for _, e := range envelopes {
		message, err := e.Message.MarshalBinary()
		if err != nil {
			m.opts.Log.Error("a message cannot be written", "node", e.To, "err", err)
			continue
		}
		_, offer := e.Message.(ownership.Offer)
		letters = append(letters, letter{e.To, frame(kindOwnership, message), offer})
	}
	return letters
}

func (m *Member) post(l letter) {
	if err := m.cluster.Send(l.to, l.message); err != nil {
		m.opts.Log.Debug("a message was not sent; the machine repeats it", "node", l.to, "err", err)
	}
}
