// Package lb holds the nouns every other package speaks: VIPs, services, nodes, tables, and the
// State they add up to. Values only; nothing here acts, reads or decides.
package lb

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Limits that the datapath and the configuration share.
const (
	// Buckets is the number of slots of an ownership table: a power of two, so that a mask selects one.
	Buckets = 1 << 16
	// MaxNodes is the number of nodes a cluster can have: one bit each in a 64-bit word.
	MaxNodes = 64
	// MaxWeight is the largest weight of a node; 0 means "no new flows".
	MaxWeight = 256
	// MaxServices is the number of services a node can serve, all VIPs together.
	MaxServices = 1023
)

// A Node is a machine of the cluster as the datapath needs to know it.
type Node struct {
	Index  int    // place in State.Nodes, stable while the node is a member
	Name   string // unique in the cluster
	Addrs  []netip.Addr
	MAC    net.HardwareAddr // nil until learnt
	Weight int              // 0..MaxWeight
	Local  bool             // this machine
}

// Announce says how packets for a VIP get to the nodes.
type Announce uint8

// The ways of announcing a VIP.
const (
	AnnounceMulticast Announce = iota // every node receives every packet
	AnnounceFailover                  // one node at a time owns it and receives its packets
	AnnounceNone                      // somebody else brings the packets to each node
)

// String returns the word used in the configuration.
func (a Announce) String() string { return [...]string{"multicast", "failover", "none"}[a] }

// Forward says what the owner of a flow does with its packets.
type Forward uint8

// The ways of forwarding.
const (
	ForwardLocal  Forward = iota // the node's own sockets take the connection
	ForwardDR                    // to a backend on the same link: only MACs are rewritten
	ForwardNAT                   // to a backend that has us as its gateway: the destination is rewritten
	ForwardTunnel                // to a backend anywhere, in a packet of our own
)

// String returns the word used in the configuration.
func (f Forward) String() string { return [...]string{"local", "dr", "nat", "tunnel"}[f] }

// MACForm says what kind of link-layer address the nodes share for a VIP, if they share one.
type MACForm uint8

// The forms of a shared MAC.
const (
	MACMulticast MACForm = iota // 03:bf:<ipv4>, flooded by every switch
	MACGroup                    // 01:00:5e:7f:.. or 33:33:.., constrained by IGMP and MLD snooping
	MACUnicast                  // 02:bf:<ipv4>, never a source address, so flooded as unknown
	MACExplicit                 // given by the operator
	MACOwn                      // none is shared: frames come to the MAC that each node has
)

// String returns the word used in the configuration.
func (f MACForm) String() string {
	return [...]string{"multicast", "group", "unicast", "explicit", "own"}[f]
}

// OtherTraffic says what happens to packets for a VIP that no service names.
type OtherTraffic uint8

// What to do with traffic that no service names.
const (
	OtherPass OtherTraffic = iota // one owner, by source address, gives it to its stack
	OtherDrop                     // every node drops it
)

// String returns the word used in the configuration.
func (o OtherTraffic) String() string { return [...]string{"pass", "drop"}[o] }

// A VIP is an address that all nodes hold.
type VIP struct {
	Addr      netip.Addr
	Interface string // name of the interface it is announced on
	Announce  Announce
	MACForm   MACForm
	MAC       net.HardwareAddr // the shared MAC; nil for MACOwn
	Group     netip.Addr       // multicast group to join for MACGroup; the zero Addr otherwise
	Other     OtherTraffic
	Table     int // index in State.Tables: who answers ARP, NDP, echo and unnamed traffic
	// HandOn says that all nodes get, at NodesMAC, what came to this node alone and may be another's.
	HandOn bool
}

// Protocol is a transport protocol, or any.
type Protocol uint8

// The protocols a service can name.
const (
	ProtocolAny Protocol = 0
	ProtocolTCP Protocol = 6
	ProtocolUDP Protocol = 17
)

// String returns the word used in the configuration.
func (p Protocol) String() string {
	switch p {
	case ProtocolAny:
		return "any"
	case ProtocolTCP:
		return "tcp"
	case ProtocolUDP:
		return "udp"
	}
	return fmt.Sprintf("protocol-%d", uint8(p))
}

// A PortRange is an inclusive range of ports, First <= Last. All ports is {0, 65535}.
type PortRange struct{ First, Last uint16 }

// AllPorts is the range that every port is in.
var AllPorts = PortRange{0, 65535}

// String returns "80", "8000-8099" or "all".
func (r PortRange) String() string {
	switch {
	case r == AllPorts:
		return "all"
	case r.First == r.Last:
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Takes says whether a service of some protocol and ports takes what comes to a port, and by how wide a
// range: of several services of a VIP the one with the narrowest takes it, and ProtocolAny what is left.
func Takes(of Protocol, ports []PortRange, protocol Protocol, port uint16) (width int, takes bool) {
	const widest = 1 << 16
	if of != protocol && of != ProtocolAny {
		return widest, false
	}
	width = widest
	for _, r := range ports {
		if port < r.First || port > r.Last {
			continue
		}
		takes = true
		if of != ProtocolAny {
			width = min(width, int(r.Last)-int(r.First))
		}
	}
	return width, takes
}

// HashFields says which parts of a packet choose its bucket. The source address always takes part,
// cut to a prefix: 32 and 128 are whole addresses, 24 is the affinity of a "class C".
type HashFields struct {
	SourceBits4 int // 1..32
	SourceBits6 int // 1..128
	SourcePort  bool
	DestPort    bool
}

// The fields by the names they have in the configuration.
var (
	HashSource             = HashFields{SourceBits4: 32, SourceBits6: 128}
	HashSourcePort         = HashFields{SourceBits4: 32, SourceBits6: 128, SourcePort: true}
	HashSourcePortDestPort = HashFields{SourceBits4: 32, SourceBits6: 128, SourcePort: true, DestPort: true}
)

// String returns the word used in the configuration, with prefix lengths for source-net.
func (h HashFields) String() string {
	switch h {
	case HashSource:
		return "source"
	case HashSourcePort:
		return "source+port"
	case HashSourcePortDestPort:
		return "source+port+dest-port"
	}
	return fmt.Sprintf("source-net/%d,%d", h.SourceBits4, h.SourceBits6)
}

// A Service is a VIP, a protocol and ports, and what to do with their flows.
type Service struct {
	Name     string // unique for its VIP
	VIP      int    // index in State.VIPs
	Protocol Protocol
	Ports    []PortRange // sorted, disjoint, never empty; AllPorts for ProtocolAny
	Hash     HashFields
	Forward  Forward
	Table    int // index in State.Tables

	// Of all but ForwardLocal:

	Encap Encap // of ForwardTunnel
	// SourceNAT, with ForwardNAT, has flows leave from ports of the VIP, so that replies come to it.
	SourceNAT bool

	MSS      uint16        // what larger ones of SYNs are cut to; 0: they stay
	TCPIdle  time.Duration // how long a connection may be silent and keeps its backend; to a second
	UDPIdle  time.Duration // the same of a flow of anything else
	Backends []Backend     // at most MaxBackends; places stay while a slot or a flow names them
	Choice   *Choice
	Schedule *Schedule // nil: flows go by Choice alone, and none at rest is remembered
}

// NoNode is the owner of a bucket that nobody may serve.
const NoNode = -1

// A Table says which node owns each bucket: Owners has Buckets entries, each an index in
// State.Nodes or NoNode. Tables are immutable once built and may be shared between States.
type Table struct {
	Owners []int16
	// Marks says of each bucket whether it is in transition: Buckets entries, or nil for none.
	Marks []Mark
}

// Equal says whether two tables say the same of every bucket.
func (t *Table) Equal(other *Table) bool {
	return t == other || slices.Equal(t.Owners, other.Owners) && slices.Equal(t.Marks, other.Marks)
}

// A State is everything the datapath and the host must be made equal to.
type State struct {
	Cluster  string
	Seed     [32]byte // key of the flow hash, the same on all nodes
	Nodes    []Node   // by Index
	VIPs     []VIP    // sorted by address
	Services []Service
	Tables   []*Table
	// SampleDrops is the share of drops that go to the ring buffer: one in SampleDrops; 0 is none.
	SampleDrops uint32
	Masquerade  []Masquerade // in the order in which they apply
}

// A Masquerade gives what machines behind this one begin themselves a source that answers find back to.
type Masquerade struct {
	From []netip.Prefix // of the machines; without host bits
	Out  string         // name of the interface that it leaves by
	To   netip.Addr     // the new source; the zero Addr: what the interface has for itself
}

// Local returns the node that this machine is, or nil.
func (s *State) Local() *Node {
	for i := range s.Nodes {
		if s.Nodes[i].Local {
			return &s.Nodes[i]
		}
	}
	return nil
}
