package sockets

import (
	"fmt"
	"net/netip"

	"github.com/lbctl/lbctl/internal/lb"
)

// A State is a state of a TCP connection, in the kernel's numbers.
type State uint8

// The states a connection to a VIP can have. UDP sockets are Established when they are connected.
const (
	Established State = 1
	SynReceived State = 3
	FinWait1    State = 4
	FinWait2    State = 5
	TimeWait    State = 6
	CloseWait   State = 8
	LastAck     State = 9
	Closing     State = 11
)

// String returns the state's name as ss(8) writes it.
func (s State) String() string {
	switch s {
	case Established:
		return "established"
	case SynReceived:
		return "syn-recv"
	case FinWait1:
		return "fin-wait-1"
	case FinWait2:
		return "fin-wait-2"
	case TimeWait:
		return "time-wait"
	case CloseWait:
		return "close-wait"
	case LastAck:
		return "last-ack"
	case Closing:
		return "closing"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Set returns the set with this state alone.
func (s State) Set() States { return 1 << s }

// States is a set of states: a bit for each.
type States uint32

const (
	// Open are the states in which the two ends still have something to tell each other.
	Open States = 1<<Established | 1<<SynReceived | 1<<FinWait1 | 1<<FinWait2 | 1<<CloseWait | 1<<LastAck | 1<<Closing
	// All has TIME_WAIT as well: remains of connections that are over, often more than all others.
	All = Open | 1<<TimeWait
)

// A Connection is a socket with two ends. Addresses of IPv4 connections are IPv4 addresses, though
// the socket may be an IPv6 one.
type Connection struct {
	Protocol      lb.Protocol // TCP or UDP
	State         State
	Local, Remote netip.AddrPort
}

// Counts are numbers of sockets.
type Counts struct {
	TCP map[State]int // states without sockets are not in it
	UDP int           // connected ones; what an unconnected one serves, only its program knows
}

// Sum returns the number of TCP connections in any of the states.
func (c Counts) Sum(states States) int {
	sum := 0
	for state, n := range c.TCP {
		if states&state.Set() != 0 {
			sum += n
		}
	}
	return sum
}

// A Filter says which connections are of interest.
type Filter struct {
	// Local are the addresses they end at on this machine, each with a port, or with port 0 for all:
	// for connections that a program opened from a VIP as well, as one to this machine's own VIP is.
	Local []netip.AddrPort
	// States are those of TCP connections; 0 is Open. States outside of All are ignored.
	States States
}
