package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Store is one node's copy of the cluster's state. Its methods may be called in parallel, and
// reading never waits for the disk.
type Store struct {
	path, node string
	disk       *disk

	writing sync.Mutex // one change at a time, from reading the old to publishing the new

	mu      sync.RWMutex // of what follows
	entries map[string]Entry
	digest  uint64
	last    Stamp // the highest seen
	refused uint64
	changed chan struct{}
}

// Open opens the file at path, or makes it in its directory, for the node of that name. Only one
// process can have it open.
//
// A damaged file is never repaired or replaced: the error wraps [ErrCorrupt] and says what to do.
func Open(path, node string) (*Store, error) {
	if err := checkText("node name", node, MaxNode); err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	d, entries, err := openDisk(path)
	switch {
	case errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("store %s: %w; move it away and start again: the other nodes know what was in it "+
			"(without any, drains and weights have to be set anew)", path, err)
	case err != nil:
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	s := &Store{path: path, node: node, disk: d, entries: entries, changed: make(chan struct{})}
	for _, e := range entries {
		s.digest ^= e.hash()
		s.last = max(s.last, e.Stamp)
	}
	return s, nil
}

// Close releases the file. What Set, Delete, Merge and NewLife acknowledged is in it already.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.disk.db.Close(); err != nil {
		return fmt.Errorf("store %s: %w", s.path, err)
	}
	return nil
}

// NewLife returns a number that is higher than all it returned before, and is on the disk: it tells
// apart the lives (incarnations) of a node. It never falls below the seconds since 1970, so that a
// node that lost its file does not come back with numbers its peers have seen already.
func (s *Store) NewLife() (uint64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	life, err := s.disk.newLife(uint64(max(0, time.Now().Unix())))
	if err != nil {
		return 0, fmt.Errorf("store %s: new life: %w", s.path, err)
	}
	return life, nil
}

// Set writes a value. When it returns nil, the value is on this node's disk.
func (s *Store) Set(key string, value []byte) error {
	return s.write(Entry{Key: key, Value: append([]byte{}, value...)})
}

// Delete removes a key, here and wherever this node's entries come to. A key that was never there
// is no error: another node may have it.
func (s *Store) Delete(key string) error {
	return s.write(Entry{Key: key, Deleted: true})
}

func (s *Store) write(e Entry) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	e.Node, e.Stamp = s.node, s.last.after(time.Now())
	if err := e.check(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if _, known := s.entries[e.Key]; !known && len(s.entries) >= MaxKeys {
		return fmt.Errorf("store: key %s: %w: there are %d", e.Key, ErrFull, len(s.entries))
	}
	return s.put([]Entry{e})
}

// put writes entries of different keys to the disk and publishes them; s.writing is held.
func (s *Store) put(entries []Entry) error {
	if err := s.disk.put(entries); err != nil {
		return fmt.Errorf("store %s: %w", s.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if old, known := s.entries[e.Key]; known {
			s.digest ^= old.hash()
		}
		s.digest ^= e.hash()
		s.last = max(s.last, e.Stamp)
		s.entries[e.Key] = e
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Get returns the value of a key and whether it has one. The value must not be changed.
func (s *Store) Get(key string) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, known := s.entries[key]
	return e.Value, known && !e.Deleted
}

// All returns the entries that have a value and a key with the prefix, in ascending order of keys.
// Values must not be changed.
func (s *Store) All(prefix string) []Entry {
	return slices.DeleteFunc(s.Entries(), func(e Entry) bool {
		return e.Deleted || !strings.HasPrefix(e.Key, prefix)
	})
}

// Entries returns all there is to exchange with other nodes, deleted keys too, in ascending order
// of keys. Values must not be changed.
func (s *Store) Entries() []Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.entries), byKey)
}

func byKey(a, b Entry) int {
	return strings.Compare(a.Key, b.Key)
}

// Digest returns a number that is the same on all nodes that have the same entries.
func (s *Store) Digest() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.digest
}

// Changed returns a channel that is closed at the next change. Take it before reading: what is
// written after the reading closes it.
func (s *Store) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

// Stats says how a store is doing.
type Stats struct {
	Keys    int // with a value
	Deleted int
	// Refused counts entries that Merge did not take because their writer's clock is wrong, or ours.
	Refused uint64
	// Ahead is how far the newest entry lies ahead of this machine's clock; 0 in health. Past
	// [MaxAhead] either that entry was written by a wrong clock or this one was set back.
	Ahead time.Duration
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Refused: s.refused}
	for _, e := range s.entries {
		if e.Deleted {
			st.Deleted++
		} else {
			st.Keys++
		}
	}
	st.Ahead = s.last.ahead(time.Now())
	return st
}
