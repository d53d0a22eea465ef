package cluster

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A Peer is another node as gossip and its signature describe it.
type Peer struct {
	Name      string
	Addr      netip.AddrPort // invalid: not heard of since we started
	Alive     bool           // gossip reaches it, and it answered a challenge since
	Life      uint64         // its newest
	Since     time.Time      // when it came, went or changed its life; zero: not heard of since we started
	PublicKey ed25519.PublicKey
	Version   string // of its program
	Meta      []byte
}

// A Refusal is a claim to a name that is known by another key, or to ours.
type Refusal struct {
	Name      string
	Addr      netip.AddrPort    // where the claimant says that it is
	PublicKey ed25519.PublicKey // the claimant's
	Since     time.Time
}

// Unreached is an address where a peer should be and none can be joined.
type Unreached struct {
	Addr  netip.AddrPort
	Error string
	Since time.Time // of the first failure in a row
}

// A Status is what an operator wants to know.
type Status struct {
	Peers     []Peer // sorted by name; ourselves not among them
	Refused   []Refusal
	Unreached []Unreached
}

// peer is what we keep for a name.
type peer struct {
	Peer
	gossip bool   // memberlist thinks that it is alive
	nonce  uint64 // what it has to repeat before we do; 0 when it did
	// dying is when it is dead unless it answers a challenge before; zero: it is not. memberlist
	// takes anybody's word that a node is dead, and the node objects a moment later: the word of
	// one who was cut off for a while reaches everybody when the cut heals.
	dying    time.Time
	seen     window      // sequence numbers of that life
	sequence uint64      // of our last message to it
	outbox   chan parcel // nil before the first one
	bulk     chan parcel // as outbox, for what nobody must wait behind
}

// Peers returns the known peers, sorted by name. We are not among them.
func (c *Cluster) Peers() []Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peersLocked()
}

func (c *Cluster) peersLocked() []Peer {
	var peers []Peer
	for _, name := range slices.Sorted(maps.Keys(c.peers)) {
		peers = append(peers, c.peers[name].copy())
	}
	return peers
}

func (p *peer) copy() Peer {
	out := p.Peer
	out.PublicKey, out.Meta = bytes.Clone(p.PublicKey), bytes.Clone(p.Meta)
	return out
}

// Status returns the peers and what is wrong with them.
func (c *Cluster) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Peers: c.peersLocked()}
	for _, name := range slices.Sorted(maps.Keys(c.refused)) {
		s.Refused = append(s.Refused, c.refused[name])
	}
	s.Unreached = slices.SortedFunc(maps.Values(c.unreached), func(a, b Unreached) int {
		return cmp.Or(a.Addr.Compare(b.Addr), 0)
	})
	return s
}
