package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// outboxSize is how many messages may wait for one peer. One that does not answer holds each
	// up for the stream timeout.
	outboxSize = 64
	// inboxSize is how many messages may wait for Options.Received.
	inboxSize = 1024
)

// Errors of Send.
var (
	ErrUnknownPeer = errors.New("unknown peer")           // gossip never brought that name
	ErrBusy        = errors.New("too many messages wait") // for that peer
	ErrNotRunning  = errors.New("cluster is not running")
)

// Send queues a message of up to MaxMessage bytes for a peer, or for all that are alive when to
// is "". It does not wait. Messages to one peer are sent one after the other, but may overtake
// each other on the way, and are lost when the peer cannot be reached, dies, or begins another
// life: who needs an answer repeats the question.
func (c *Cluster) Send(to string, message []byte) error {
	if len(message) > MaxMessage {
		return fmt.Errorf("message of %d bytes: at most %d", len(message), MaxMessage)
	}
	message = bytes.Clone(message)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return ErrNotRunning
	}
	if to != "" {
		p, ok := c.peers[to]
		if !ok || !p.Addr.IsValid() {
			return fmt.Errorf("peer %s: %w", to, ErrUnknownPeer)
		}
		return c.post(p, userMessage, message)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.peers)) {
		if p := c.peers[name]; p.Alive {
			errs = append(errs, c.post(p, userMessage, message))
		}
	}
	return errors.Join(errs...)
}

// SendBulk is Send to one peer, for messages that may be long and are in no hurry: those of Send do not
// wait behind them.
func (c *Cluster) SendBulk(to string, message []byte) error {
	if len(message) > MaxMessage {
		return fmt.Errorf("message of %d bytes: at most %d", len(message), MaxMessage)
	}
	message = bytes.Clone(message)
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[to]
	switch {
	case c.running == nil:
		return ErrNotRunning
	case !ok || !p.Addr.IsValid():
		return fmt.Errorf("peer %s: %w", to, ErrUnknownPeer)
	}
	return c.put(p, &p.bulk, parcel{userMessage, message})
}

// A parcel waits to be addressed and sealed.
type parcel struct {
	kind    kind
	payload []byte
}

// post puts something into a peer's outbox; Run must be running.
func (c *Cluster) post(p *peer, k kind, payload []byte) error {
	return c.put(p, &p.outbox, parcel{k, payload})
}

// put puts something into one of a peer's boxes, which may be its first.
func (c *Cluster) put(p *peer, box *chan parcel, item parcel) error {
	to := p.Name
	if *box == nil {
		*box = make(chan parcel, outboxSize)
		run, outbox := c.running, *box
		run.work.Go(func() { c.deliver(run, to, outbox) })
	}
	select {
	case *box <- item:
		return nil
	default:
		c.counts.drop(Unsent)
		return fmt.Errorf("peer %s: %w", to, ErrBusy)
	}
}

// deliver sends what is in a peer's outbox until Run ends or the peer is forgotten.
func (c *Cluster) deliver(run *run, to string, outbox <-chan parcel) {
	for {
		select {
		case <-run.ctx.Done():
			return
		case item, open := <-outbox:
			if !open {
				return
			}
			c.sendOne(run, to, item)
		}
	}
}

func (c *Cluster) sendOne(run *run, to string, item parcel) {
	node, sealed, ok := c.seal(to, item)
	if !ok {
		c.counts.drop(Unsent)
		return
	}
	if err := run.list.SendReliable(node, sealed); err != nil {
		c.counts.drop(Unsent)
		c.log.Debug("message not sent", "peer", to, "err", err)
		return
	}
	if item.kind == userMessage {
		c.counts.sent.Add(1)
	}
}

// seal addresses a message to the life that the peer lives now.
func (c *Cluster) seal(to string, item parcel) (*memberlist.Node, []byte, bool) {
	c.mu.Lock()
	p, ok := c.peers[to]
	if !ok {
		c.mu.Unlock()
		return nil, nil, false
	}
	p.sequence++
	e := envelope{
		kind: item.kind, cluster: c.opts.Cluster, from: c.opts.Node, fromLife: c.opts.Life,
		to: to, toLife: p.Life, sequence: p.sequence, payload: item.payload,
	}
	node := &memberlist.Node{Name: to, Addr: p.Addr.Addr().AsSlice(), Port: p.Addr.Port()}
	c.mu.Unlock()
	return node, e.seal(c.private), true
}

// receive opens a message and queues it for Options.Received.
func (c *Cluster) receive(b []byte) {
	e, err := parseEnvelope(b)
	if err != nil {
		c.counts.drop(Malformed)
		return
	}
	if reason, ok := c.check(e); !ok {
		c.counts.drop(reason)
	}
}

// check queues a message that is for us, from whom it says, and new.
func (c *Cluster) check(e *envelope) (Reason, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[e.from]
	switch {
	case e.cluster != c.opts.Cluster:
		return OtherCluster, false
	case e.to != c.opts.Node:
		return OtherNode, false
	case !ok:
		return UnknownPeer, false
	case !e.signedBy(p.PublicKey):
		return BadSignature, false
	case e.toLife != c.opts.Life:
		return OtherLife, false
	case e.fromLife < p.Life:
		return Replayed, false
	case c.waiting >= inboxSize:
		return Overflow, false // before its number is taken: it may be sent again
	}
	c.begin(p, e.fromLife)
	if !p.seen.take(e.sequence) {
		return Replayed, false
	}
	c.take(p, e)
	return 0, true
}

// take does what an envelope asks for.
func (c *Cluster) take(p *peer, e *envelope) {
	switch e.kind {
	case challenge:
		if c.running != nil && p.Addr.IsValid() && len(e.payload) == 8 {
			_ = c.post(p, answer, bytes.Clone(e.payload)) // asked again when it does not get there
		}
	case answer:
		c.answered(p, e.payload)
	default:
		c.counts.received.Add(1)
		c.waiting++
		c.queue = append(c.queue, event{from: e.from, message: bytes.Clone(e.payload)})
		c.nudge()
	}
}

// An event is for one of the callbacks.
type event struct {
	changed *Peer
	from    string
	message []byte
}

// nudge wakes Run; it may be called with the lock held.
func (c *Cluster) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// tell calls back for what is queued and saves what was learnt.
func (c *Cluster) tell(ctx context.Context) {
	c.mu.Lock()
	c.bury(time.Now())
	queue, unsaved := c.queue, c.unsaved
	known := c.knownLocked()
	c.queue, c.waiting, c.unsaved = nil, 0, false
	c.mu.Unlock()
	if unsaved {
		if err := known.save(c.opts.StateDir); err != nil {
			c.log.Error("peers' keys not saved: they have to be trusted anew after a restart", "err", err)
		}
	}
	for _, e := range queue {
		switch {
		case ctx.Err() != nil:
			return
		case e.changed != nil:
			c.log.Info("peer changed", "peer", e.changed.Name, "addr", e.changed.Addr, "alive", e.changed.Alive, "life", e.changed.Life)
			if c.opts.Changed != nil {
				c.opts.Changed(*e.changed)
			}
		case c.opts.Received != nil:
			c.opts.Received(e.from, e.message)
		}
	}
}
