package nexthop

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A route is what the routing table says of an address, before anybody was asked for a MAC.
type route struct {
	link    link
	next    place      // whose MAC is needed
	gateway netip.Addr // invalid: the address is on the link
	source  netip.Addr
	mtu     int
	problem string // of the rest nothing counts then
}

// A place is an address on an interface.
type place struct {
	index int
	addr  netip.Addr
}

// A link is an interface.
type link struct {
	name    string
	mtu     int
	problem string // why nothing can be sent on it
}

// lookUp asks the kernel. Links are those of the same round.
func lookUp(kernel *netlink.Handle, addr netip.Addr, links map[int]link) route {
	routes, err := kernel.RouteGet(addr.AsSlice())
	switch {
	case err != nil:
		return route{problem: fmt.Sprintf("no route to %s: %s", addr, err)}
	case len(routes) == 0:
		return route{problem: fmt.Sprintf("no route to %s", addr)}
	}
	found := &routes[0]
	switch found.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_LOCAL:
		return route{problem: fmt.Sprintf("%s is an address of this machine", addr)}
	case unix.RTN_BROADCAST, unix.RTN_MULTICAST, unix.RTN_ANYCAST:
		return route{problem: fmt.Sprintf("%s is no address of one machine", addr)}
	default:
		return route{problem: fmt.Sprintf("no route to %s", addr)}
	}
	out, known := links[found.LinkIndex]
	if !known {
		out = linkOf(kernel, found.LinkIndex)
		links[found.LinkIndex] = out
	}
	r := route{link: out, gateway: gatewayOf(found), source: addrOf(found.Src), mtu: out.mtu, problem: out.problem}
	r.next = place{found.LinkIndex, addr}
	if r.gateway.IsValid() {
		r.next.addr = r.gateway
	}
	if found.MTU > 0 {
		r.mtu = found.MTU
	}
	return r
}

// gatewayOf returns the zero Addr for a route without one. That of an IPv4 route may be an IPv6
// address, RFC 5549.
func gatewayOf(r *netlink.Route) netip.Addr {
	if via, ok := r.Via.(*netlink.Via); ok {
		return addrOf(via.Addr)
	}
	return addrOf(r.Gw)
}

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

func linkOf(kernel *netlink.Handle, index int) link {
	found, err := kernel.LinkByIndex(index)
	if err != nil {
		return link{problem: fmt.Sprintf("interface %d: %s", index, err)}
	}
	attrs := found.Attrs()
	l := link{name: attrs.Name, mtu: attrs.MTU}
	const ethernet = 6
	switch {
	case attrs.RawFlags&unix.IFF_UP == 0:
		l.problem = fmt.Sprintf("interface %s is switched off", l.name)
	case attrs.RawFlags&unix.IFF_LOWER_UP == 0:
		l.problem = fmt.Sprintf("interface %s has no carrier", l.name)
	case len(attrs.HardwareAddr) != ethernet || attrs.RawFlags&unix.IFF_NOARP != 0:
		l.problem = fmt.Sprintf("interface %s has no neighbours with MACs", l.name)
	}
	return l
}
