package lb

import "strings"

// A Mark says what is special about a bucket while it changes its owner: bits of what follows, 0
// for a bucket at rest.
type Mark uint8

// The bits of a Mark. Owner is the bucket's entry in Table.Owners.
const (
	// MarkDelegate: Owner is another node, but this one holds the bucket: it sends new flows on to
	// Owner and keeps those that its sockets have. While Owner's MAC is not known it takes the new
	// ones itself.
	MarkDelegate Mark = 1 << iota
	// MarkMaybeLocal: the bucket is not this node's, but its sockets may hold flows of it.
	MarkMaybeLocal
	// MarkContested: the bucket is this node's, but other nodes that live may hold flows of it: what
	// no socket here knows is dropped without a word, unless it opens a connection.
	MarkContested
	// MarkWaiting: Owner is this node, but it does not hold the bucket yet. It takes what another
	// sends to it directly, and what belongs to sockets that came to be that way.
	MarkWaiting
	// MarkUDPNoted: this node takes all UDP of the bucket, whoever Owner is, and notes its flows. A
	// bucket must be marked so for datapath.UDPIdle before MarkUDPKept follows.
	MarkUDPNoted
	// MarkUDPKept: this node decides about UDP of the bucket. Flows noted within datapath.UDPIdle are
	// its own, others go on to Owner.
	MarkUDPKept
	// MarkUDPAway: the bucket is this node's, but another one, which marked it UDPNoted or UDPKept,
	// decides about its UDP: only what that one sends on is taken.
	MarkUDPAway
)

var markNames = [...]string{
	"delegate", "maybe-local", "contested", "waiting", "udp-noted", "udp-kept", "udp-away",
}

// String returns the names of the bits, with commas between them; "" for none.
func (m Mark) String() string {
	var names []string
	for i, name := range markNames {
		if m>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
