package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/lbctl/lbctl/internal/cluster"
)

// A keeper holds the keys of this node: in the file, for gossip and for heartbeats.
type keeper struct {
	member *Member
	path   string // empty: the cluster has no key
	box    *cluster.Box
	asked  chan question

	mu   sync.Mutex
	ring cluster.Ring

	rotating sync.Mutex // held while this node leads a rotation
	roundMu  sync.Mutex
	round    *round // nil: this node leads none
}

// A question is from a peer that leads a rotation.
type question struct {
	from    string
	message keyMessage
}

// maxQuestions is how many wait for the disk; who gets no answer asks again.
const maxQuestions = 16

// What a node that leads a rotation asks for.
const (
	askTell = "tell" // which keys do you have?
	askAdd  = "add"
	askUse  = "use"
	askOnly = "only"
)

// A keyMessage is a question about keys, or the answer: what the node has after it did what it was
// asked for. To ask again does no harm.
type keyMessage struct {
	Round  uint64        `json:"round"` // that the answer belongs to
	Ask    string        `json:"ask,omitempty"`
	Key    cluster.KeyID `json:"key,omitzero"`
	Sealed []byte        `json:"sealed,omitempty"` // the key to add

	Keys []cluster.KeyID `json:"keys,omitempty"` // of an answer: the first encrypts
	Next cluster.KeyID   `json:"next,omitzero"`  // to which a rotation is under way there
	Box  []byte          `json:"box,omitempty"`  // to seal keys for
	No   string          `json:"no,omitempty"`   // why not
}

func newKeeper(m *Member, path string, ring cluster.Ring) (*keeper, error) {
	box, err := cluster.NewBox()
	if err != nil {
		return nil, err
	}
	return &keeper{member: m, path: path, ring: ring, box: box, asked: make(chan question, maxQuestions)}, nil
}

// run answers questions until ctx ends. It is a goroutine of its own because the disk may take long.
func (k *keeper) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-k.asked:
			answer := k.answer(ctx, q)
			answer.Round = q.message.Round
			k.send(q.from, answer)
		}
	}
}

func (k *keeper) send(to string, message keyMessage) {
	body, err := json.Marshal(message)
	if err == nil {
		err = k.member.cluster.Send(to, frame(kindKeys, body))
	}
	if err != nil {
		k.member.opts.Log.Debug("a message about keys was not sent; it is repeated", "node", to, "err", err)
	}
}

// received takes a question or an answer; it is called from the goroutine of gossip.
func (k *keeper) received(from string, payload []byte) error {
	var message keyMessage
	if err := json.Unmarshal(payload, &message); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if message.Ask == "" {
		k.roundMu.Lock()
		defer k.roundMu.Unlock()
		if k.round != nil {
			k.round.take(from, message)
		}
		return nil
	}
	select {
	case k.asked <- question{from, message}:
	default:
	}
	return nil
}

// answer does what is asked for and tells what this node has then. Only nodes of the configuration
// are obeyed: whoever has the old key may call himself a node.
func (k *keeper) answer(ctx context.Context, q question) keyMessage {
	names, err := k.member.configured(ctx)
	switch {
	case err != nil:
		return keyMessage{No: err.Error()}
	case !slices.Contains(names, q.from):
		return keyMessage{No: fmt.Sprintf("%s is not in its configuration", q.from)}
	}
	if err := k.obey(q.message); err != nil {
		k.member.opts.Log.Error("the keys are not changed", "asked_by", q.from, "err", err)
		return keyMessage{No: err.Error()}
	}
	ring := k.now()
	return keyMessage{Keys: ring.IDs(), Next: ring.Next, Box: k.box.Public()}
}

func (k *keeper) obey(q keyMessage) error {
	switch q.Ask {
	case askTell:
		return nil
	case askAdd:
		key, err := k.box.OpenKey(q.Sealed)
		if err != nil {
			return nil // it was for the process before this one; the answer has the new box
		}
		return k.change(func(r cluster.Ring) (cluster.Ring, error) { return r.Add(key) })
	case askUse:
		return k.change(func(r cluster.Ring) (cluster.Ring, error) { return r.Use(q.Key) })
	case askOnly:
		return k.change(func(r cluster.Ring) (cluster.Ring, error) { return r.Only(q.Key) })
	}
	return fmt.Errorf("%q is no question", q.Ask)
}

func (k *keeper) now() cluster.Ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ring
}

var errNoKeys = errors.New("the cluster has no key: cluster.membership.insecure")

// change takes a step: the file first, so that no restart goes back behind it.
func (k *keeper) change(step func(cluster.Ring) (cluster.Ring, error)) error {
	if k.path == "" {
		return errNoKeys
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh, err := step(k.ring)
	if err != nil || fresh.Equal(k.ring) {
		return err
	}
	if err := fresh.Write(k.path); err != nil {
		return err
	}
	return k.use(fresh)
}

// reload takes over what somebody wrote to the file.
func (k *keeper) reload() error {
	if k.path == "" {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh, err := cluster.ReadRing(k.path)
	if err != nil || fresh.Equal(k.ring) {
		return err
	}
	return k.use(fresh)
}

// use makes gossip and heartbeats follow; the lock is held.
func (k *keeper) use(fresh cluster.Ring) error {
	secrets := make([][]byte, len(fresh.Keys))
	for i := range fresh.Keys {
		secrets[i] = fresh.Keys[i][:]
	}
	err := k.member.cluster.ReplaceKeys(fresh.Keys)
	for _, link := range k.member.links {
		err = errors.Join(err, link.ReplaceKeys(secrets))
	}
	k.ring = fresh
	k.member.opts.Log.Info("cluster keys changed", "keys", fresh.IDs(), "rotating_to", fresh.Next)
	return err
}

// ReloadKeys reads the key file again, which somebody may have changed.
func (m *Member) ReloadKeys() error { return m.keys.reload() }

// configured returns the names of the nodes of the configuration but for our own.
func (m *Member) configured(ctx context.Context) (names []string, err error) {
	err = m.within(ctx, func() {
		for i := range m.opts.Nodes {
			if name := m.opts.Nodes[i].Name; name != m.opts.Machine.Name {
				names = append(names, name)
			}
		}
	})
	return names, err
}
