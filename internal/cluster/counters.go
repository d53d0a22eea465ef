package cluster

import "sync/atomic"

// A Reason says why a message or a claim was dropped.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	Malformed    Reason = iota // no envelope
	OtherCluster               // for a cluster of another name
	OtherNode                  // for a node of another name
	UnknownPeer                // from a name that gossip never brought
	BadSignature               // not by the key that the sender is known by
	OtherLife                  // for a life of ours that is over, or not yet begun
	Replayed                   // from a life that is over, or seen before
	Overflow                   // more came than was taken
	BadClaim                   // gossip about a node that the node did not sign, or not for that address
	OldClaim                   // gossip about a life that is over
	RefusedKey                 // gossip about a known name with another key
	TooMany                    // gossip about one more name than is ever accepted
	Unsent                     // not sent: too many wait, or the peer cannot be reached
	GossipError                // memberlist dropped or failed something: it cannot be decrypted, say
	reasonCount
)

var reasonNames = [reasonCount]string{
	Malformed: "malformed", OtherCluster: "other_cluster", OtherNode: "other_node", UnknownPeer: "unknown_peer",
	BadSignature: "bad_signature", OtherLife: "other_life", Replayed: "replayed", Overflow: "overflow",
	BadClaim: "bad_claim", OldClaim: "old_claim", RefusedKey: "refused_key", TooMany: "too_many",
	Unsent: "unsent", GossipError: "gossip_error",
}

// String returns the name that metrics use.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// Counters say what was carried since New.
type Counters struct {
	Sent, Received uint64            // messages
	Dropped        map[Reason]uint64 // every reason is there
}

type counters struct {
	sent, received atomic.Uint64
	dropped        [reasonCount]atomic.Uint64
}

func (c *counters) drop(r Reason) { c.dropped[r].Add(1) }

// Counters returns what was carried and what was dropped since New.
func (c *Cluster) Counters() Counters {
	now := Counters{Sent: c.counts.sent.Load(), Received: c.counts.received.Load(), Dropped: make(map[Reason]uint64, reasonCount)}
	for r := range reasonCount {
		now.Dropped[r] = c.counts.dropped[r].Load()
	}
	return now
}
