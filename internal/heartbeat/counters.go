package heartbeat

import "sync/atomic"

// A Reason says why a frame was ignored or not sent.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	Malformed      Reason = iota // no frame of this version
	ForeignCluster               // of a cluster of another name
	BadMAC                       // not made with one of our keys
	OwnEcho                      // our own: the link brings it back
	NameClash                    // from another node that has our name
	Replayed                     // of a life that is over, or not newer than the last
	TooMany                      // from one more peer than is ever listened to
	Unsent                       // not sent: the interface did not take it
	reasonCount
)

var reasonNames = [reasonCount]string{
	Malformed: "malformed", ForeignCluster: "foreign_cluster", BadMAC: "bad_mac", OwnEcho: "own_echo",
	NameClash: "name_clash", Replayed: "replayed", TooMany: "too_many", Unsent: "unsent",
}

// String returns the name that metrics use.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// Counters say what was sent and heard since New.
type Counters struct {
	Sent, Received uint64            // frames; received ones that were new
	Dropped        map[Reason]uint64 // every reason is there
}

type counters struct {
	sent, received atomic.Uint64
	dropped        [reasonCount]atomic.Uint64
}

func (c *counters) drop(r Reason) { c.dropped[r].Add(1) }

func (c *counters) read() Counters {
	now := Counters{Sent: c.sent.Load(), Received: c.received.Load(), Dropped: make(map[Reason]uint64, reasonCount)}
	for r := range reasonCount {
		now.Dropped[r] = c.dropped[r].Load()
	}
	return now
}
