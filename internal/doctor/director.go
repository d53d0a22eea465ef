package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/recipe"
)

// A Director is a machine that forwards.
type Director struct {
	VIPs     []VIP
	Backends []Target
	// Masquerade is what backends begin themselves.
	Masquerade []lb.Masquerade
	// Claims counts what the datapath dropped because it claimed a VIP for another MAC, by VIP; nil
	// when that cannot be read.
	Claims func() (map[netip.Addr]uint64, error)
}

// A VIP is announced on an interface.
type VIP struct {
	Addr      netip.Addr
	Interface string
}

// A Target is a backend of a service, or several services that have it in the same way.
type Target struct {
	Service string
	Name    string
	Addr    netip.Addr
	Method  lb.Forward
	Encap   lb.Encap // of tunnel
	MSS     int      // that larger ones are cut to; 0: they are not
	V6      bool     // clients' packets are IPv6
	// SourceNAT, of nat: replies come to the VIP by themselves.
	SourceNAT bool
	// Protocol is that of which all ports are the service's; ProtocolAny: it has only some.
	Protocol lb.Protocol
}

// usualMTU is what clients' packets are long at most, unless they were told otherwise.
const usualMTU = 1500

// Overhead is what a tunnel takes of a packet, in bytes.
func (t Target) Overhead() int {
	n := 20
	if t.Addr.Is6() {
		n = 40
	}
	if t.Encap == lb.EncapGUE {
		n += 8 + 4
	}
	return n
}

// Examine looks at the machine, and asks on its links who answers for VIPs. The error is about what
// could not be looked at.
func (d Director) Examine(ctx context.Context) ([]Finding, error) {
	var r report
	var errs []error
	for _, t := range d.Backends {
		errs = append(errs, t.way(&r))
	}
	errs = append(errs, d.routing(&r), d.redirects(&r), d.masquerade(&r))
	errs = append(errs, d.claims(ctx, &r))
	return r, errors.Join(errs...)
}

// routing is needed where answers come back through this machine: the way to the client is the kernel's.
func (d Director) routing(r *report) error {
	for _, family := range []struct {
		name, setting string
		is            func(netip.Addr) bool
	}{{"IPv4", "net/ipv4/ip_forward", (netip.Addr).Is4}, {"IPv6", "net/ipv6/conf/all/forwarding", (netip.Addr).Is6}} {
		if !slices.ContainsFunc(d.Backends, func(t Target) bool { return t.Method == lb.ForwardNAT && family.is(t.Addr) }) {
			continue
		}
		value, err := os.ReadFile("/proc/sys/" + family.setting)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(value)) == "0" {
			r.wrong("routing", family.name, "it is off: answers of backends, and what they ask for, end here", "sysctl -w "+family.setting+"=1")
			continue
		}
		r.ok("routing", family.name, "on")
	}
	return nil
}

func (t Target) subject() string { return t.Service + "/" + t.Name }

// way is how packets get to the backend.
func (t Target) way(r *report) error {
	routes, err := netlink.RouteGet(t.Addr.AsSlice())
	if err != nil || len(routes) == 0 {
		r.wrong("route", t.subject(), fmt.Sprintf("there is no way to %s: %v", t.Addr, err), "add a route to "+t.Addr.String())
		return nil
	}
	route := routes[0]
	link, err := netlink.LinkByIndex(route.LinkIndex)
	if err != nil {
		return fmt.Errorf("backend %s: interface: %w", t.subject(), err)
	}
	name, mtu := link.Attrs().Name, link.Attrs().MTU
	if route.MTU > 0 {
		mtu = route.MTU
	}
	via, _ := netip.AddrFromSlice(route.Gw)
	switch {
	case t.Method == lb.ForwardDR && via.IsValid():
		r.wrong("route", t.subject(), fmt.Sprintf("%s is behind the router %s, which would send a VIP's packets back: dr is for one link", t.Addr, via.Unmap()),
			"forward: tunnel, or an address of the backend on the link of "+name)
	case link.Attrs().Name == "lo":
		r.wrong("route", t.subject(), t.Addr.String()+" is this machine itself", "give the backend's own address")
	default:
		r.ok("route", t.subject(), "by %s", name)
	}
	if t.Method == lb.ForwardTunnel {
		t.size(r, name, mtu)
	}
	if t.Method == lb.ForwardNAT && !t.SourceNAT && !via.IsValid() {
		r.ok("clients", t.subject(), "neither it nor others on the link of %s can be clients of the VIP: answers would not come by here; with source-nat they can", name)
	}
	return nil
}

// size is whether what comes from clients fits into the tunnel.
func (t Target) size(r *report, ifname string, mtu int) {
	headers := 40
	if t.V6 {
		headers = 60
	}
	room := mtu - t.Overhead()
	fits := fmt.Sprintf("mss: %d in service %s", room-headers, t.Service)
	grow := fmt.Sprintf("ip link set %s mtu %d, on all machines between here and there", ifname, usualMTU+t.Overhead())
	switch {
	case t.MSS > 0 && t.MSS+headers > room:
		r.wrong("mtu", t.subject(), fmt.Sprintf("segments of %d bytes are packets of %d, and the tunnel over %s carries %d", t.MSS, t.MSS+headers, ifname, room), fits, grow)
	case t.MSS == 0 && room < usualMTU:
		r.wrong("mtu", t.subject(), fmt.Sprintf("the tunnel over %s carries packets of %d bytes: larger ones of clients are refused, and those who do not hear that hang", ifname, room), fits, grow)
	default:
		r.ok("mtu", t.subject(), "packets of %d bytes fit", room)
	}
}

// claims finds who answers for a VIP. What claims one is dropped before anybody here could see it, but
// is counted: so each is asked alone.
func (d Director) claims(ctx context.Context, r *report) error {
	if d.Claims == nil {
		return nil
	}
	var errs []error
	for _, vip := range d.VIPs {
		check, requests, fix := "arp", "ARP requests", "there: "+recipe.Sysctl("eth0", "arp_ignore", "1")+", and the VIP on lo; all of it: lbctl backend recipe"
		if vip.Addr.Is6() { // the kernel answers solicitations for addresses of the interface only
			check, requests, fix = "ndp", "solicitations", "there: the VIP on lo, and on no other interface; all of it: lbctl backend recipe"
		}
		claimed, err := d.ask(ctx, vip, nil)
		if err != nil {
			errs = append(errs, fmt.Errorf("vip %s: ask who has it: %w", vip.Addr, err))
			continue
		}
		if !claimed {
			r.ok(check, vip.Addr.String(), "nobody else answers for it")
			continue
		}
		guilty, err := d.guilty(ctx, vip)
		errs = append(errs, err)
		r.wrong(check, vip.Addr.String(), guilty+" answers "+requests+" for it: clients go round the directors", fix)
	}
	return errors.Join(errs...)
}
