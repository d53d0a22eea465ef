package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossip is how memberlist calls us. It holds its own lock while it does, so nothing here may call
// it back, wait, or touch the disk.
type gossip struct{ *Cluster }

// NodeMeta is what we say about ourselves.
func (g gossip) NodeMeta(int) []byte { return g.meta }

// NotifyMsg is called for every message, by the goroutine of its connection.
func (g gossip) NotifyMsg(b []byte) { g.receive(b) }

// GetBroadcasts has nothing to add: messages do not travel by gossip.
func (g gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add to the comparison of member lists.
func (g gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState ignores what others add.
func (g gossip) MergeRemoteState([]byte, bool) {}

// NotifyAlive judges a claim that a node is alive before memberlist believes it.
func (g gossip) NotifyAlive(n *memberlist.Node) error {
	addr := addrOf(n)
	meta, err := openMeta(n.Meta, g.opts.Cluster, n.Name, addr)
	if err != nil {
		g.counts.drop(BadClaim)
		return fmt.Errorf("what it says about itself: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n.Name == g.opts.Node {
		if !bytes.Equal(meta.key, g.public) {
			g.refuse(n.Name, addr, meta)
		}
		return nil // memberlist objects to what is said about us
	}
	return g.judge(n.Name, addr, meta)
}

// judge binds a new name to its key and refuses a known one with another.
func (c *Cluster) judge(name string, addr netip.AddrPort, meta nodeMeta) error {
	p, ok := c.peers[name]
	switch {
	case !ok && (name == "" || len(name) > maxName):
		c.counts.drop(BadClaim)
		return fmt.Errorf("name of %d bytes", len(name))
	case !ok && len(c.peers) >= maxPeers:
		c.counts.drop(TooMany)
		return fmt.Errorf("more than %d names", maxPeers)
	case !ok:
		c.peers[name] = &peer{Peer: Peer{Name: name, Life: meta.life, PublicKey: meta.key}}
		c.unsaved = true
		c.nudge()
		return nil
	case !bytes.Equal(p.PublicKey, meta.key):
		c.refuse(name, addr, meta)
		return fmt.Errorf("known by another key")
	case meta.life < p.Life:
		c.counts.drop(OldClaim)
		return fmt.Errorf("life %d is over, now is %d", meta.life, p.Life)
	}
	c.begin(p, meta.life)
	return nil
}

// begin notes a new life of a peer.
func (c *Cluster) begin(p *peer, life uint64) {
	if life == p.Life {
		return
	}
	p.Life, p.seen = life, window{}
	c.setAlive(p, false)
	if p.gossip {
		c.doubt(p)
	}
	c.unsaved = true
	c.nudge()
}

// refuse notes a claimant to a name that is not its.
func (c *Cluster) refuse(name string, addr netip.AddrPort, meta nodeMeta) {
	c.counts.drop(RefusedKey)
	if old, ok := c.refused[name]; ok && old.Addr == addr && bytes.Equal(old.PublicKey, meta.key) {
		return
	}
	c.refused[name] = Refusal{Name: name, Addr: addr, PublicKey: meta.key, Since: time.Now()}
	c.log.Error("peer refused: its name is known by another key", "peer", name, "addr", addr)
}

// NotifyJoin is called when a node became alive.
func (g gossip) NotifyJoin(n *memberlist.Node) { g.note(n, true) }

// NotifyUpdate is called when an alive node says something else about itself.
func (g gossip) NotifyUpdate(n *memberlist.Node) { g.note(n, true) }

// NotifyLeave is called when a node died or left.
func (g gossip) NotifyLeave(n *memberlist.Node) { g.note(n, false) }

// note takes over what memberlist believes since NotifyAlive let it pass.
func (g gossip) note(n *memberlist.Node, alive bool) {
	if n.Name == g.opts.Node {
		return
	}
	meta, err := openMeta(n.Meta, g.opts.Cluster, n.Name, addrOf(n))
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.peers[n.Name]
	if err != nil || !ok {
		return // forgotten since
	}
	p.Addr, p.Version, p.Meta = addrOf(n), meta.version, meta.extra
	if alive && !p.gossip {
		p.gossip = true
		g.doubt(p)
	} else if !alive {
		p.gossip = false
		g.mourn(p)
	}
}

// mourn gives a peer that gossip calls dead a moment to object.
func (c *Cluster) mourn(p *peer) {
	if p.Alive && p.dying.IsZero() {
		p.dying = time.Now().Add(c.timing.mourning)
		time.AfterFunc(c.timing.mourning, c.nudge)
	}
}

// bury finds those who did not object.
func (c *Cluster) bury(now time.Time) {
	for _, p := range c.peers {
		if !p.dying.IsZero() && !now.Before(p.dying) {
			c.setAlive(p, false)
		}
	}
}

// doubt asks a peer that gossip calls alive to show that it is: a claim may be a recording.
func (c *Cluster) doubt(p *peer) {
	p.nonce = rand.Uint64() | 1 // not 0
	c.ask(p)
}

// ask sends the challenge; it is sent again until it is answered.
func (c *Cluster) ask(p *peer) {
	if c.running != nil {
		// A full outbox is as good as a lost challenge.
		_ = c.post(p, challenge, binary.BigEndian.AppendUint64(nil, p.nonce))
	}
}

// askAgain challenges all that have not answered.
func (c *Cluster) askAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		if p.gossip && p.nonce != 0 {
			c.ask(p)
		}
	}
}

// answered takes in an answer.
func (c *Cluster) answered(p *peer, payload []byte) {
	if len(payload) == 8 && p.gossip && p.nonce != 0 && binary.BigEndian.Uint64(payload) == p.nonce {
		p.nonce, p.dying = 0, time.Time{}
		c.setAlive(p, true)
	}
}

// setAlive tells when a peer came or went.
func (c *Cluster) setAlive(p *peer, alive bool) {
	if p.Alive == alive {
		return
	}
	p.Alive, p.Since, p.dying = alive, time.Now(), time.Time{}
	c.queue = append(c.queue, event{changed: new(p.copy())})
	c.nudge()
}

func addrOf(n *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(addr.Unmap(), n.Port)
}
