package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// A Cluster is this node's part in a cluster.
type Cluster struct {
	opts    Options
	timing  timing
	keyring *memberlist.Keyring // nil when insecure
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	meta    []byte // what we say about ourselves, signed
	log     *slog.Logger
	counts  counters
	wake    chan struct{} // something is queued or unsaved

	mu        sync.Mutex // never held while memberlist is called: it calls us with a lock of its own
	peers     map[string]*peer
	refused   map[string]Refusal // by name
	unreached map[netip.AddrPort]Unreached
	joining   map[netip.AddrPort]bool
	queue     []event
	waiting   int  // messages in queue
	unsaved   bool // peers' keys or lives
	running   *run
	left      bool
}

// A run is what exists while Run does.
type run struct {
	ctx  context.Context
	list *memberlist.Memberlist
	work sync.WaitGroup
}

// New reads the state directory and checks the options; nothing is sent before Run.
func New(opts Options) (*Cluster, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	timing, err := opts.timing()
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	private, err := loadIdentity(opts.StateDir)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	known, err := loadKnown(opts.StateDir)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c := &Cluster{
		opts: opts, timing: timing, log: opts.Log, wake: make(chan struct{}, 1),
		private: private, public: private.Public().(ed25519.PublicKey),
		peers: make(map[string]*peer), refused: make(map[string]Refusal),
		unreached: make(map[netip.AddrPort]Unreached), joining: make(map[netip.AddrPort]bool),
	}
	for name, k := range known.Peers {
		c.peers[name] = &peer{Peer: Peer{Name: name, Life: k.Life, PublicKey: k.Key}}
	}
	if len(opts.Keys) > 0 {
		c.keyring = new(memberlist.Keyring)
		if err := c.ReplaceKeys(opts.Keys); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	c.meta = nodeMeta{life: opts.Life, key: c.public, version: opts.Version, extra: opts.Meta}.
		seal(opts.Cluster, opts.Node, opts.Bind, private)
	return c, nil
}

// PublicKey returns the key that peers know us by.
func (c *Cluster) PublicKey() ed25519.PublicKey { return c.public }

// Run takes part in the cluster until ctx ends, and then returns nil. Without Leave before, the
// peers will find us dead. It returns an error when it cannot listen. It may be called once.
func (c *Cluster) Run(ctx context.Context) error {
	list, err := memberlist.Create(c.config())
	if err != nil {
		return fmt.Errorf("cluster: listen on %s: %w", c.opts.Bind, err)
	}
	run := &run{ctx: ctx, list: list}
	c.mu.Lock()
	c.running = run
	c.mu.Unlock()

	rejoin := time.NewTicker(c.timing.rejoin)
	defer rejoin.Stop()
	ask := time.NewTicker(c.timing.challenge)
	defer ask.Stop()
	c.rejoin(run)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-rejoin.C:
			c.rejoin(run)
		case <-ask.C:
			c.askAgain()
		case <-c.wake:
			c.tell(ctx)
		}
	}

	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
	err = list.Shutdown()
	run.work.Wait()
	c.tell(ctx) // saves
	if err != nil {
		return fmt.Errorf("cluster: stop: %w", err)
	}
	return nil
}

// config returns what memberlist wants to know.
func (c *Cluster) config() *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	c.timing.apply(conf)
	conf.Name, conf.Label = c.opts.Node, c.opts.Cluster
	conf.BindAddr, conf.BindPort = c.opts.Bind.Addr().String(), int(c.opts.Bind.Port())
	conf.AdvertisePort = conf.BindPort
	conf.Keyring = c.keyring
	conf.EnableCompression = false // a message inflates to as much memory as its sender likes
	conf.Delegate, conf.Events, conf.Alive = gossip{c}, gossip{c}, gossip{c}
	conf.Logger = log.New(&gossipLog{log: c.log, errors: &c.counts.dropped[GossipError]}, "", 0)
	return conf
}

// ReplaceKeys sets the keys: the first encrypts, all decrypt. Peers that do not have the first one
// yet are cut off: see Ring for the order.
func (c *Cluster) ReplaceKeys(keys []Key) error {
	switch {
	case len(keys) == 0:
		return errors.New("replace keys: no key")
	case c.keyring == nil:
		return errors.New("replace keys: started without: restart with the keys")
	}
	for _, k := range keys {
		if err := c.keyring.AddKey(k[:]); err != nil {
			return fmt.Errorf("replace keys: %w", err)
		}
	}
	if err := c.keyring.UseKey(keys[0][:]); err != nil {
		return fmt.Errorf("replace keys: %w", err)
	}
	return c.dropOthers(keys)
}

// dropOthers forgets all keys that are not wanted.
func (c *Cluster) dropOthers(keys []Key) error {
	want := make(map[Key]bool)
	for _, k := range keys {
		want[k] = true
	}
	for _, have := range append([][]byte(nil), c.keyring.GetKeys()...) {
		if !want[Key(have)] {
			if err := c.keyring.RemoveKey(have); err != nil {
				return fmt.Errorf("replace keys: %w", err)
			}
		}
	}
	return nil
}

// Leave tells the peers that we go, so that none has to find out. It waits until one of them knows,
// or for timeout, which is an error. Run has to be ended afterwards.
func (c *Cluster) Leave(timeout time.Duration) error {
	c.mu.Lock()
	run := c.running
	c.left = true
	c.mu.Unlock()
	if run == nil {
		return fmt.Errorf("leave: %w", ErrNotRunning)
	}
	if err := run.list.Leave(timeout); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Forget drops what is known of a dead peer, so that its name may come back with another key.
func (c *Cluster) Forget(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[name]
	switch {
	case !ok && name != c.opts.Node:
		return fmt.Errorf("forget %s: %w", name, ErrUnknownPeer)
	case ok && (p.gossip || p.Alive):
		return fmt.Errorf("forget %s: it is alive", name)
	case ok:
		for _, box := range []chan parcel{p.outbox, p.bulk} {
			if box != nil {
				close(box)
			}
		}
	}
	delete(c.peers, name)
	delete(c.refused, name)
	c.unsaved = true
	c.nudge()
	return nil
}

func (c *Cluster) knownLocked() known {
	k := known{Version: knownVersion, Peers: make(map[string]knownPeer, len(c.peers))}
	for name, p := range c.peers {
		k.Peers[name] = knownPeer{Key: p.PublicKey, Life: p.Life}
	}
	return k
}
