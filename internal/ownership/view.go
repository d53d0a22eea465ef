package ownership

import "time"

// A Verb is what this node's kernel does with new flows of a bucket.
type Verb uint8

// The verbs.
const (
	Ignore   Verb = iota // another node's, or nobody's
	Accept               // ours
	Delegate             // sent on to the owner, who is about to take it
)

// String returns the word for status.
func (v Verb) String() string { return [...]string{"ignore", "accept", "delegate"}[v] }

// A View is what the kernel must do in a domain, by bucket.
type View struct {
	// Nodes are the names to which Owners point, sorted. This node is among them.
	Nodes []string
	// Owners says who should have each bucket; lb.NoNode where nobody may. With Accept it is this
	// node, with Delegate the node to send to.
	Owners []int16
	Verbs  []Verb
	// MaybeLocal are buckets that are not ours and in which our sockets may hold flows.
	MaybeLocal Set
	// Contested are buckets of ours in which other live nodes may hold flows.
	Contested Set
	// UDPNoted and UDPKept are buckets about whose UDP this node decides, although it hands them over
	// or did. Of the first it takes everything, of the second what it noted.
	UDPNoted, UDPKept Set
	// UDPAway are buckets of ours about whose UDP another node decides.
	UDPAway Set
}

// A Status is for people.
type Status struct {
	Name      string
	Life      uint64
	Knowledge uint64 // fingerprint
	Agreed    bool   // every live node knows the same
	Settled   bool   // and this node has all buckets that it should have, and no other
	Lineage   Lineage
	Lease     time.Duration // until when; Forever if none is needed
	Damped    time.Duration // until when this node asks for no bucket, 0 if it does
	Members   []Member      // by name
	Moving    []Moving      // outstanding hand-overs of this node
	Conflicts []string      // nodes whose configuration differs from that of most
}

// A Member is a node in a Status.
type Member struct {
	Name      string
	Life      uint64
	Version   uint64
	Stage     Stage
	Dead      bool
	Waiting   bool
	Leaving   bool
	Absent    time.Duration // until when it has leave, 0 if it has none
	Silent    bool          // to this node
	Hears     bool          // this node, lately
	Knowledge uint64        // the fingerprint that it reported last
	Weights   map[string]Weight
	Meta      []byte
}

// A Moving is a hand-over that was not answered, or not confirmed.
type Moving struct {
	Peer    string
	Out     bool // from this node to the peer
	Number  uint64
	Buckets int
	Since   time.Duration
}
