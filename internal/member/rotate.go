package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
)

const (
	// keyPatience is how long each step of a rotation waits for nodes that are up.
	keyPatience = 5 * time.Second
	askKeysAt   = 200 * time.Millisecond // and again
)

// A Rotation says how far a rotation of the cluster's key got.
type Rotation struct {
	Key   cluster.KeyID // that shall be the only one; zero: nothing was begun
	Done  bool          // it is, on all nodes
	Nodes []KeyHolder   // of the configuration, by name
}

// A KeyHolder is how far a node got.
type KeyHolder struct {
	Node string
	Step KeyStep
	Why  string // it did not get further: "down", or what it answered
}

// A KeyStep is how far a node is with a new key.
type KeyStep string

// The steps, in their order.
const (
	KeyUnknown KeyStep = "unknown" // the node was not heard
	KeyMissing KeyStep = "missing" // it does not have the new key
	KeyAdded   KeyStep = "added"   // it reads with both, and writes with the old one
	KeyUsed    KeyStep = "used"    // it reads with both, and writes with the new one
	KeyAlone   KeyStep = "alone"   // it has the new one only
)

// ErrRotating refuses a second rotation that the same node shall lead.
var ErrRotating = errors.New("a rotation is under way")

// A KeyConflict refuses a rotation because of another one.
type KeyConflict struct{ reason string }

func (e KeyConflict) Error() string { return e.reason }

// RotateKeys gives the cluster a new key, or goes on with a rotation that did not end; or takes such
// a one back to the key that this node writes with. In three steps the new key is added on all nodes,
// then used by all, then the others are dropped. No step begins before each node of the configuration
// has done the one before: when a node is down or does not answer, the rotation stands still, which
// harms nobody, and the old key stays.
func (m *Member) RotateKeys(ctx context.Context, back bool) (Rotation, error) {
	k := m.keys
	if k.path == "" {
		return Rotation{}, errNoKeys
	}
	if !k.rotating.TryLock() {
		return Rotation{}, ErrRotating
	}
	defer k.rotating.Unlock()
	names, err := m.configured(ctx)
	if err != nil {
		return Rotation{}, err
	}
	if err := m.noStrangers(names); err != nil {
		return Rotation{}, err
	}
	r := newRound(m, names)
	k.lead(r)
	defer k.lead(nil)
	if !r.step(ctx, func(keyMessage) bool { return true }, func(keyMessage) (keyMessage, error) {
		return keyMessage{Ask: askTell}, nil
	}) {
		return r.report(k.now().Next, false), ctx.Err()
	}
	key, err := r.choose(k.now(), back)
	if err != nil {
		return Rotation{}, err
	}
	return r.rotate(ctx, key)
}

// noStrangers refuses to cut off who takes part without being configured, and to give him the key.
func (m *Member) noStrangers(names []string) error {
	for _, p := range m.cluster.Peers() {
		if p.Alive && !slices.Contains(names, p.Name) {
			return KeyConflict{fmt.Sprintf("node %s takes part and is not in the configuration of this node: add it, or stop its lbd", p.Name)}
		}
	}
	return nil
}

func (k *keeper) lead(r *round) {
	k.roundMu.Lock()
	defer k.roundMu.Unlock()
	k.round = r
}

// A round asks all nodes until they have answered what is wanted.
type round struct {
	member *Member
	names  []string
	news   chan struct{}

	mu     sync.Mutex
	number uint64
	heard  map[string]keyMessage // the last answer of each node, of any step
	failed map[string]string     // why a node does not do this step
}

func newRound(m *Member, names []string) *round {
	return &round{
		member: m, names: names, news: make(chan struct{}, 1),
		number: uint64(time.Now().UnixNano()), heard: make(map[string]keyMessage),
	}
}

// take notes an answer. One to an earlier step says what is not so any more.
func (r *round) take(from string, answer keyMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if answer.Round != r.number || !slices.Contains(r.names, from) {
		return
	}
	if answer.No != "" {
		r.failed[from] = answer.No
	} else {
		r.heard[from] = answer
	}
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// step asks each node until done is true of what it answered to this step, or it is down, or says no,
// or time is over. It says whether done is true of all.
func (r *round) step(ctx context.Context, done func(keyMessage) bool, ask func(last keyMessage) (keyMessage, error)) bool {
	r.mu.Lock()
	r.number++
	r.failed = make(map[string]string)
	number := r.number
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, keyPatience)
	defer cancel()
	again := time.NewTicker(askKeysAt)
	defer again.Stop()
	r.askAll(number, done, ask)
	for {
		if open, whole := r.open(number, done); !open {
			return whole
		}
		select {
		case <-ctx.Done():
			_, whole := r.open(number, done)
			return whole
		case <-r.news:
		case <-again.C:
			r.askAll(number, done, ask)
		}
	}
}

// open says whether a node that is up has still to answer, and whether all have done the step.
func (r *round) open(number uint64, done func(keyMessage) bool) (open, whole bool) {
	alive := r.alive()
	r.mu.Lock()
	defer r.mu.Unlock()
	whole = true
	for _, name := range r.names {
		if last := r.heard[name]; last.Round == number && done(last) {
			continue
		}
		whole = false
		open = open || alive[name] && r.failed[name] == ""
	}
	return open, whole
}

func (r *round) askAll(number uint64, done func(keyMessage) bool, ask func(keyMessage) (keyMessage, error)) {
	for _, name := range r.names {
		r.mu.Lock()
		last, failed := r.heard[name], r.failed[name]
		r.mu.Unlock()
		if last.Round == number && done(last) || failed != "" {
			continue
		}
		question, err := ask(last)
		if err != nil {
			continue // its box is not known; it is asked for the first
		}
		question.Round = number
		r.member.keys.send(name, question)
	}
}

func (r *round) alive() map[string]bool {
	alive := make(map[string]bool)
	for _, p := range r.member.cluster.Peers() {
		alive[p.Name] = p.Alive
	}
	return alive
}

// choose finds which key the rotation leads to: the one of a rotation that did not end, or a new one.
func (r *round) choose(ring cluster.Ring, back bool) (cluster.Key, error) {
	if back {
		return ring.Keys[0], nil
	}
	next := ring.Next
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.names {
		there := r.heard[name].Next
		switch {
		case there == cluster.KeyID{} || there == next:
		case next != cluster.KeyID{}:
			return cluster.Key{}, KeyConflict{fmt.Sprintf("node %s is rotating to key %s, and others to %s: go back first, with --back", name, there, next)}
		default:
			next = there
		}
	}
	if next == (cluster.KeyID{}) {
		if len(ring.Keys) > 1 {
			return cluster.Key{}, KeyConflict{"the key file has several keys, and no rotation is under way: end what was begun by hand, or go back to the first one with --back"}
		}
		return cluster.GenerateKey(), nil
	}
	key, known := ring.Key(next)
	if !known {
		return cluster.Key{}, KeyConflict{fmt.Sprintf("node %s is rotating to a key that this node does not have: go on there", r.leader(next))}
	}
	return key, nil
}

// leader is a node that has the key of a rotation; the lock is held.
func (r *round) leader(next cluster.KeyID) string {
	i := slices.IndexFunc(r.names, func(name string) bool { return r.heard[name].Next == next })
	return r.names[i]
}

// rotate takes the steps as far as all nodes follow. This node goes first: what it can't do, it asks
// nobody else for.
func (r *round) rotate(ctx context.Context, key cluster.Key) (Rotation, error) {
	id, k := key.ID(), r.member.keys
	for _, step := range []struct {
		own  func(cluster.Ring) (cluster.Ring, error)
		done func(keyMessage) bool
		ask  func(keyMessage) (keyMessage, error)
	}{
		{
			func(ring cluster.Ring) (cluster.Ring, error) { return ring.Add(key) },
			func(a keyMessage) bool { return slices.Contains(a.Keys, id) && a.Next == id || isAlone(a, id) },
			func(last keyMessage) (keyMessage, error) {
				sealed, err := cluster.SealKey(last.Box, key)
				return keyMessage{Ask: askAdd, Sealed: sealed}, err
			},
		},
		{
			func(ring cluster.Ring) (cluster.Ring, error) { return ring.Use(id) },
			func(a keyMessage) bool { return len(a.Keys) > 0 && a.Keys[0] == id },
			func(keyMessage) (keyMessage, error) { return keyMessage{Ask: askUse, Key: id}, nil },
		},
		{
			func(ring cluster.Ring) (cluster.Ring, error) { return ring.Only(id) },
			func(a keyMessage) bool { return isAlone(a, id) },
			func(keyMessage) (keyMessage, error) { return keyMessage{Ask: askOnly, Key: id}, nil },
		},
	} {
		if err := k.change(step.own); err != nil {
			return r.report(id, false), err
		}
		if !r.step(ctx, step.done, step.ask) {
			return r.report(id, false), ctx.Err()
		}
	}
	return r.report(id, true), nil
}

func isAlone(a keyMessage, id cluster.KeyID) bool {
	return len(a.Keys) == 1 && a.Keys[0] == id
}

// report says how far each node is, our own included.
func (r *round) report(id cluster.KeyID, done bool) Rotation {
	own := r.member.keys.now()
	alive := r.alive()
	report := Rotation{Key: id, Done: done, Nodes: []KeyHolder{
		{Node: r.member.opts.Machine.Name, Step: keyStep(own.IDs(), id)},
	}}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.names {
		h := KeyHolder{Node: name, Step: keyStep(r.heard[name].Keys, id), Why: r.failed[name]}
		if h.Why == "" && !done && !alive[name] {
			h.Why = "down"
		}
		report.Nodes = append(report.Nodes, h)
	}
	slices.SortFunc(report.Nodes, func(a, b KeyHolder) int { return strings.Compare(a.Node, b.Node) })
	return report
}

func keyStep(keys []cluster.KeyID, id cluster.KeyID) KeyStep {
	switch i := slices.Index(keys, id); {
	case len(keys) == 0:
		return KeyUnknown
	case i < 0:
		return KeyMissing
	case len(keys) == 1:
		return KeyAlone
	case i == 0:
		return KeyUsed
	}
	return KeyAdded
}
