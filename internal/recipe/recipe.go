// Package recipe says how a machine without lbd becomes a backend: the commands, in their order, each
// with its reason.
package recipe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Backend is what the machine is to become.
type Backend struct {
	Interface string     // by which the directors' packets come
	Method    lb.Forward // dr, nat or tunnel
	Encap     lb.Encap   // of tunnel
	VIPs      []netip.Addr
	Directors []netip.Addr // of tunnel: from whom tunnels are taken; of nat: the gateways, the first counts
}

// A Step is some commands for a shell, run by root, and why they are needed.
type Step struct {
	Why      string   `json:"why"`
	Commands []string `json:"commands"`
}

// Steps returns what to do, in an order in which the machine never answers ARP for a VIP. All of it
// may be done again, and is gone after a reboot.
func (b Backend) Steps() []Step {
	var steps []Step
	add := func(why string, commands ...string) {
		if len(commands) > 0 {
			steps = append(steps, Step{why, commands})
		}
	}
	if b.Method == lb.ForwardNAT {
		add("Answers go back through a director, which makes them the VIP's. With several, give an address that fails over.", b.gateways()...)
		return steps
	}
	if b.has((netip.Addr).Is4) {
		add("ARP is answered for addresses of the interface itself only, which the VIPs on lo are not, and asked with such an address.",
			Sysctl(b.Interface, "arp_ignore", "1"), Sysctl(b.Interface, "arp_announce", "2"))
		add("Packets are taken, though the way back may leave by another interface.",
			Sysctl(b.Interface, "rp_filter", "2"))
	}
	var shield []string
	for _, family := range []struct {
		name string
		is   func(netip.Addr) bool
	}{{"ipv4", (netip.Addr).Is4}, {"ipv6", (netip.Addr).Is6}} {
		if b.has(family.is) {
			shield = append(shield, Shield(family.name, b.Interface))
		}
	}
	add("What directors share by a multicast MAC is not for this machine: only what they forward is.", shield...)
	if b.Method == lb.ForwardTunnel {
		add("Tunnels are taken from directors only.", b.guard()...)
		add("Tunnels end here; a packet that comes out of one has its way back elsewhere.", b.ends()...)
	}
	var hold []string
	for _, vip := range b.VIPs {
		hold = append(hold, Hold(vip))
	}
	add("The VIPs are this machine's, but no source of its own connections. (For IPv6 addresses on lo, no solicitation is answered.)", hold...)
	return steps
}

// Sysctl is the command that changes an IPv4 setting of an interface. With slashes the name of the
// interface may have dots.
func Sysctl(ifname, name, value string) string {
	return fmt.Sprintf("sysctl -w net/ipv4/conf/%s/%s=%s", ifname, name, value)
}

// Shield is the command that keeps out what directors share by a multicast MAC; the family is ipv4 or
// ipv6.
func Shield(family, ifname string) string {
	return fmt.Sprintf("sysctl -w net/%s/conf/%s/drop_unicast_in_l2_multicast=1", family, ifname)
}

// Hold is the command that makes the machine have a VIP.
func Hold(vip netip.Addr) string {
	if vip.Is4() {
		return fmt.Sprintf("ip addr replace %s/32 dev lo scope host", vip)
	}
	return fmt.Sprintf("ip addr replace %s/128 dev lo nodad preferred_lft 0", vip)
}

// Gateway is the command that sends what is not for the link through a machine.
func Gateway(via string, v6 bool) string {
	if v6 {
		return "ip -6 route replace default via " + via
	}
	return "ip route replace default via " + via
}

// gateways has one for each family of the VIPs.
func (b Backend) gateways() []string {
	var commands []string
	for _, v6 := range []bool{false, true} {
		of := func(a netip.Addr) bool { return a.Is6() == v6 }
		if i := slices.IndexFunc(b.Directors, of); b.has(of) && i >= 0 {
			commands = append(commands, Gateway(b.Directors[i].String(), v6))
		}
	}
	return commands
}

func (b Backend) has(family func(netip.Addr) bool) bool {
	return slices.ContainsFunc(b.VIPs, family)
}

// guard is a table of our own that drops tunnels from others than directors.
func (b Backend) guard() []string {
	commands := []string{
		"nft add table inet lb_backend",
		"nft flush table inet lb_backend",
		"nft 'add chain inet lb_backend tunnels { type filter hook prerouting priority raw; }'",
	}
	for _, f := range []struct {
		name, match string
		is          func(netip.Addr) bool
	}{{"ip", "ip protocol", (netip.Addr).Is4}, {"ip6", "ip6 nexthdr", (netip.Addr).Is6}} {
		var directors []string
		for _, d := range b.Directors {
			if f.is(d) {
				directors = append(directors, d.String())
			}
		}
		from := ""
		if len(directors) > 0 {
			from = fmt.Sprintf("%s saddr != { %s } ", f.name, strings.Join(directors, ", "))
		}
		matches := []string{" { 4, 41 } "} // also with GUE: the devices take both
		if b.Encap == lb.EncapGUE {
			matches = append(matches, " udp udp dport 6080 ")
		}
		for _, match := range matches {
			commands = append(commands, "nft 'add rule inet lb_backend tunnels "+f.match+match+from+"drop'")
		}
	}
	return commands
}

// ends are the kernel's devices that take all tunnels, whoever sent them.
func (b Backend) ends() []string {
	commands := []string{"modprobe -a ipip sit ip6_tunnel"}
	if b.Encap == lb.EncapGUE {
		commands = append(commands, "modprobe -a fou fou6",
			"ip fou show | grep -qw 6080 || ip fou add port 6080 gue",
			"ip -6 fou show | grep -qw 6080 || ip -6 fou add port 6080 gue")
	}
	return append(commands, "ip link set tunl0 up", "ip link set sit0 up",
		"ip -6 tunnel change ip6tnl0 mode any", "ip link set ip6tnl0 up",
		Sysctl("tunl0", "rp_filter", "2"), Sysctl("ip6tnl0", "rp_filter", "2"))
}
