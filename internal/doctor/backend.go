package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/recipe"
)

// A Backend is a machine that directors forward to, as it should be.
type Backend struct {
	Interface string       // by which the directors' packets come
	Method    lb.Forward   // dr, nat or tunnel
	VIPs      []netip.Addr // of nat only their families matter
	Directors []netip.Addr // their own addresses, if they are known
	// Unwraps says that lbd's program takes tunnels off; without it the kernel has to.
	Unwraps bool
}

// Examine looks at the machine. The error is about what could not be read.
func (b Backend) Examine() ([]Finding, error) {
	m, err := observe()
	if err != nil {
		return nil, err
	}
	return b.diagnose(m), nil
}

func (b Backend) diagnose(m *machine) []Finding {
	var r report
	b.link(m, &r)
	for _, vip := range b.VIPs {
		if b.Method != lb.ForwardNAT {
			b.vip(m, &r, vip)
		}
	}
	if b.Method != lb.ForwardNAT && anyOf((netip.Addr).Is4, b.VIPs) {
		b.arp(m, &r)
		b.filter(m, &r)
	}
	for _, v6 := range []bool{false, true} {
		if anyOf(func(a netip.Addr) bool { return a.Is6() == v6 }, b.VIPs) {
			b.shared(m, &r, v6)
			b.gateway(m, &r, v6)
		}
	}
	if b.Method == lb.ForwardTunnel {
		b.tunnel(m, &r)
	}
	return r
}

func (b Backend) link(m *machine, r *report) {
	switch l := m.link(b.Interface); {
	case l == nil:
		var have []string
		for _, other := range m.links {
			have = append(have, other.name)
		}
		r.wrong("link", b.Interface, "there is no such interface (have: "+strings.Join(have, ", ")+")", "name another interface")
	case !l.up:
		r.wrong("link", b.Interface, "the interface is down", "ip link set "+b.Interface+" up")
	default:
		r.ok("link", b.Interface, "up")
	}
}

// vip must be on lo, alone: elsewhere neighbours would be told this machine's MAC.
func (b Backend) vip(m *machine, r *report, vip netip.Addr) {
	on := ""
	for _, h := range m.addresses {
		if h.prefix.Addr() != vip {
			continue
		}
		remove := fmt.Sprintf("ip addr del %s dev %s", h.prefix, h.ifname)
		switch {
		case h.ifname != "lo":
			r.wrong("vip", vip.String(), "it is on "+h.ifname+": neighbours learn this machine's MAC for it", remove, recipe.Hold(vip))
			return
		case h.prefix.Bits() != vip.BitLen():
			r.wrong("vip", vip.String(), fmt.Sprintf("%s on lo makes all of %s this machine's own: it reaches nobody there", h.prefix, h.prefix.Masked()),
				remove, recipe.Hold(vip))
			return
		}
		on = h.ifname
	}
	if on == "" {
		r.wrong("vip", vip.String(), "it is not on lo: its packets are for nobody here", recipe.Hold(vip))
		return
	}
	r.ok("vip", vip.String(), "on lo")
}

// arp looks at all interfaces: a request may come in by any that shares the link.
func (b Backend) arp(m *machine, r *report) {
	for _, l := range m.links {
		if !l.up || !l.arp {
			continue
		}
		if m.effective(l.name, "arp_ignore") < "1" {
			r.wrong("arp", l.name, "requests for addresses on lo are answered: clients go round the directors", recipe.Sysctl(l.name, "arp_ignore", "1"))
			continue
		}
		if m.effective(l.name, "arp_announce") < "2" {
			r.wrong("arp", l.name, "requests are sent with a VIP as their sender: neighbours learn this machine's MAC for it",
				recipe.Sysctl(l.name, "arp_announce", "2"))
			continue
		}
		r.ok("arp", l.name, "VIPs are neither answered for nor announced")
	}
}

// filter is strict only where answers leave the way that packets come.
func (b Backend) filter(m *machine, r *report) {
	ins := []string{b.Interface}
	if b.Method == lb.ForwardTunnel && !b.Unwraps {
		for _, l := range m.links {
			if l.up && endsTunnels(l.kind) {
				ins = append(ins, l.name) // no answer leaves by it
			}
		}
	}
	for _, name := range ins {
		if m.effective(name, "rp_filter") != "1" {
			r.ok("rp-filter", name, "not strict")
			continue
		}
		if out := m.wayOut(false); len(out) > 0 && !slices.ContainsFunc(out, func(g gateway) bool { return g.ifname != name }) {
			r.ok("rp-filter", name, "strict, and answers leave by it, too")
			continue
		}
		r.wrong("rp-filter", name, "strict, and answers leave by another interface: packets of clients are dropped", recipe.Sysctl(name, "rp_filter", "2"))
	}
}

// shared looks at frames to a multicast MAC, which reach every machine on the link: what the kernel
// takes of them would be answered twice. TCP it never takes.
func (b Backend) shared(m *machine, r *report, v6 bool) {
	family, conf := "ipv4", m.ipv4
	if v6 {
		family, conf = "ipv6", m.ipv6
	}
	if b.Method == lb.ForwardNAT || m.link(b.Interface) == nil {
		return
	}
	if max(conf["all"][shared], conf[b.Interface][shared]) == "0" {
		r.wrong("shared", family, "frames that directors share (announce: multicast) are taken: a datagram may get two answers",
			recipe.Shield(family, b.Interface))
		return
	}
	r.ok("shared", family, "frames that directors share are left to them")
}

func (m *machine) wayOut(v6 bool) []gateway {
	var out []gateway
	for _, g := range m.defaults {
		if g.v6 == v6 {
			out = append(out, g)
		}
	}
	return out
}

// gateway must be a router: what a director is sent by a backend it does not forward to clients. With
// nat it must be a director: nobody else makes answers the VIP's.
func (b Backend) gateway(m *machine, r *report, v6 bool) {
	family, nat := "IPv4", b.Method == lb.ForwardNAT
	if v6 {
		family = "IPv6"
	}
	command := recipe.Gateway("ROUTER", v6)
	if nat {
		command = recipe.Gateway("DIRECTOR", v6)
	}
	out := m.wayOut(v6)
	if len(out) == 0 {
		r.wrong("gateway", family, "there is no default route: clients beyond the link get no answer", command)
		return
	}
	for _, g := range out {
		director := slices.Contains(b.Directors, g.via) || slices.Contains(b.VIPs, g.via)
		if nat && !director {
			r.wrong("gateway", family, fmt.Sprintf("answers leave through %s, no director: clients get them from an address that they do not know", g.by()), command)
			return
		}
		if director && !nat {
			r.wrong("gateway", family, fmt.Sprintf("answers leave through %s, a director: they must go to clients by themselves", g.via), command)
			return
		}
	}
	r.ok("gateway", family, "%s", out[0].by())
}

func (g gateway) by() string {
	if g.via.IsValid() {
		return g.via.String() + " by " + g.ifname
	}
	return "the link of " + g.ifname
}

func endsTunnels(kind string) bool { return kind == "ipip" || kind == "sit" || kind == "ip6tnl" }

func (b Backend) tunnel(m *machine, r *report) {
	if b.Unwraps {
		r.ok("tunnel", b.Interface, "lbd's program takes tunnels off")
		return
	}
	var ends []string
	for _, l := range m.links {
		if l.up && endsTunnels(l.kind) {
			ends = append(ends, l.name)
		}
	}
	if len(ends) == 0 {
		r.wrong("tunnel", b.Interface, "nothing takes tunnels off: no program of lbd, and no device of the kernel is up",
			`run lbd here with "role: backend" and "method: tunnel", or the commands of "lbctl backend recipe"`)
		return
	}
	r.ok("tunnel", strings.Join(ends, ", "), "up")
}
