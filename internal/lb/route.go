package lb

import (
	"net"
	"net/netip"
)

// MaxRoutes is the number of a RouteTable's routes that the datapath has room for.
const MaxRoutes = 8

// Routes are a summary of this machine's routes, which is used instead of asking the kernel. What it
// does not say is asked. It is never changed.
type Routes struct {
	V4, V6 RouteTable
	// Near are machines on links of our own, by address: what the tables leave to the kernel. The MAC is the
	// machine's.
	Near map[netip.Addr]RouteHop
}

// A RouteTable is that of one family.
type RouteTable struct {
	Forwards map[int]bool // by index, whether an interface forwards what comes in by it
	Routes   []Route      // the first one that has an address counts; at most MaxRoutes
}

// A Route says where packets go. Without a Hop the kernel has to be asked.
type Route struct {
	Prefix netip.Prefix
	Hop    *RouteHop
}

// A RouteHop is a gateway or a machine whose MAC is known.
type RouteHop struct {
	Index    int // of the interface towards it
	MAC, Own net.HardwareAddr
	MTU      int // bytes of an IP packet
}
