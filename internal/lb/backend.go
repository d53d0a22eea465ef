package lb

import (
	"net"
	"net/netip"
	"time"
)

// Slots is the number of slots of a Choice: a prime, as Maglev's table needs.
const Slots = 65537

// MaxBackends is the number of backends a service can have.
const MaxBackends = 1000

// MaxConn is the largest limit of connections that a backend can have.
const MaxConn = 10_000_000

// SourcePorts are those of a VIP that flows of full NAT leave from.
var SourcePorts = PortRange{32768, 65535}

// NoBackend is what a slot has when new flows go nowhere, or no backend is left to keep older ones.
const NoBackend = -1

// Encap is what a tunnel puts before a packet.
type Encap uint8

// The ways of encapsulation. Outer and inner family are any: the backend's address and the packet say.
const (
	EncapIP  Encap = iota // an IP header only: IPIP, IP6IP6, RFC 2003 and 2473
	EncapGUE              // UDP and a GUE header of version 0, so that switches and NICs spread flows
)

// String returns the word used in the configuration.
func (e Encap) String() string { return [...]string{"ip", "gue"}[e] }

// Scheduler says who chooses the backend of a new flow.
type Scheduler uint8

// The schedulers. All go by weight.
const (
	SchedulerMaglev     Scheduler = iota // the flow's hash
	SchedulerRoundRobin                  // one backend after the other
	SchedulerLeastConn                   // the backend with the fewest connections for its weight
	SchedulerRandom                      // chance
)

// String returns the word used in the configuration.
func (s Scheduler) String() string {
	return [...]string{"maglev", "round-robin", "least-conn", "random"}[s]
}

// Overflow says what becomes of a new flow whose backend has as many connections as it may.
type Overflow uint8

// The kinds of overflow.
const (
	OverflowNext Overflow = iota // it goes to the next backend that has room; if there is none, to Sorry
	OverflowDrop                 // it is dropped
)

// String returns the word used in the configuration.
func (o Overflow) String() string { return [...]string{"next", "drop"}[o] }

// A Backend is a real server that a service forwards to.
type Backend struct {
	Name    string     // unique in its service
	Addr    netip.Addr // of the server; the outer destination of a tunnel
	Port    uint16     // ForwardNAT: where it listens; 0: at the packet's own port
	Hop     *NextHop   // nil: the way there is not known, and nothing is sent
	Weight  int        // in force, 0..MaxWeight; with 0 it gets no new flows of a Schedule
	MaxConn int        // of a Schedule: as many connections as it may have; 0: any number
	// Watched: what becomes of the connections that clients open to it is counted. Of ForwardNAT.
	Watched bool
}

// A Schedule is how a service chooses backends that remembers where each of its flows is.
type Schedule struct {
	Scheduler Scheduler
	Overflow  Overflow
	Affinity  time.Duration // that a client keeps its backend after its last new flow, to a second; 0: it does not
	// Order is the places of the backends that take new flows, in the order in which they get them: at
	// most MaxOrder, a backend as often as its weight says.
	Order []int16
	Sorry int16 // the place that gets what the others have no room for, or NoBackend
}

// MaxOrder is the length of the longest Order: exact for 128 backends of any weights.
const MaxOrder = 32768

// A NextHop is the way to a backend, or to the gateway before it.
type NextHop struct {
	Interface string
	MAC       net.HardwareAddr
	Source    netip.Addr // this machine's address towards it: the outer source of a tunnel
	MTU       int        // bytes of an IP packet
}

// A SlotMark says what is special about a slot while flows of it may be at another backend than its
// new ones; 0 for a slot at rest.
type SlotMark uint8

// The bits of a SlotMark.
const (
	// SlotMoving: a segment of a TCP flow that nothing is known of goes to the previous backend.
	SlotMoving SlotMark = 1 << iota
	// SlotExceptions: some flows are known to be elsewhere; all others are at the current backend.
	SlotExceptions
	// SlotNoting: UDP flows are noted, because the slot is about to move.
	SlotNoting
)

// A Choice says which backend the flows of each slot go to. It is immutable once built and may be
// shared between services with the same backends, and between States.
type Choice struct {
	Current  []int16    // Slots entries: indexes in Service.Backends, or NoBackend
	Previous []int16    // the same for older flows; nil when no slot has any
	Marks    []SlotMark // Slots entries; nil when all slots are at rest
}
