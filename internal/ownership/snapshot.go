package ownership

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"time"
)

// A snapshot is a memory, and for which configuration.
type snapshot struct {
	Name        string
	Buckets     int
	Fingerprint uint64
	Memory      memory
}

// Snapshot returns what Restore needs. It is for the next process on this machine, whose clock is
// the same, and counts once.
func (m *Machine) Snapshot() []byte {
	var b bytes.Buffer
	s := snapshot{m.cfg.Name, m.cfg.Buckets, m.cfg.Fingerprint, m.memory}
	if err := gob.NewEncoder(&b).Encode(&s); err != nil {
		panic(err) // these types can be encoded, whatever they hold
	}
	return b.Bytes()
}

// Restore returns the Machine of a snapshot in the same life, if its leave of absence still lasts.
// Otherwise the driver begins a new life with New.
func Restore(cfg Config, data []byte, now time.Duration) (*Machine, error) {
	m, err := newMachine(cfg)
	if err != nil {
		return nil, err
	}
	var s snapshot
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&s); err != nil {
		return nil, fmt.Errorf("ownership: read a snapshot: %w", err)
	}
	switch l := s.Memory.Leave; {
	case s.Name != cfg.Name || s.Buckets != cfg.Buckets:
		return nil, fmt.Errorf("ownership: the snapshot is of %s with %d buckets", s.Name, s.Buckets)
	case s.Fingerprint != cfg.Fingerprint:
		return nil, errors.New("ownership: the configuration changed")
	case l == nil || !l.Taken || s.Memory.Known[cfg.Name] == nil:
		return nil, errors.New("ownership: the snapshot is of no leave of absence")
	case now < l.Asked || now >= s.Memory.Until:
		return nil, fmt.Errorf("ownership: the leave of absence is over since %v", now-s.Memory.Until)
	}
	m.memory = s.Memory
	m.now = now
	m.wake()
	return m, nil
}

// wake goes on after a leave. What was heard before says nothing about now.
func (m *Machine) wake() {
	m.Born, m.Began = m.now, m.now
	if m.Peers == nil {
		m.Peers = make(map[string]*peer)
	}
	if m.Tokens == nil {
		m.Tokens = make(map[string]*domain)
	}
	if m.Out == nil {
		m.Out = make(map[string]*move)
	}
	if m.In == nil {
		m.In = make(map[string][]*move)
	}
	for _, p := range m.Peers {
		p.Told, p.Silent, p.Heard = false, false, m.now
		p.Says, p.At = saidNothing, 0
		p.Opinion, p.OpinionAt = nil, 0
	}
	for name := range m.Known {
		m.news[name] = true
	}
	m.fingerprint = m.Known.fingerprint()
	m.stir, m.changed, m.changedAt = true, true, m.now
	m.replan()
	m.show()
	m.actions = Actions{}
}
