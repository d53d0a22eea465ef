package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/recipe"
)

// redirects spoil NAT where backends are on the link that leads to clients: a machine that passes on what
// came by the same interface tells the sender of the next hop, and the sender then answers clients by that.
func (d Director) redirects(r *report) error {
	m, err := observe()
	if err != nil {
		return err
	}
	asked := make(map[string]bool)
	for _, t := range d.Backends {
		ifname := m.linkOf(t.Addr)
		leads := slices.ContainsFunc(m.wayOut(false), func(g gateway) bool { return g.ifname == ifname })
		if t.Method != lb.ForwardNAT || !t.Addr.Is4() || !leads || asked[ifname] {
			continue
		}
		asked[ifname] = true
		if m.effective(ifname, "send_redirects") == "0" {
			r.ok("redirects", ifname, "not sent")
			continue
		}
		r.wrong("redirects", ifname, "backends are told of the router by redirects, and answer clients through it: from an address that these do not know",
			recipe.Sysctl("all", "send_redirects", "0"), recipe.Sysctl(ifname, "send_redirects", "0"))
	}
	return nil
}

// linkOf is the interface of whose networks an address is; empty: of none.
func (m *machine) linkOf(a netip.Addr) string {
	for _, h := range m.addresses {
		if h.prefix.Contains(a) {
			return h.ifname
		}
	}
	return ""
}

// masquerade needs an address on the way out, and packets that are not taken for answers.
func (d Director) masquerade(r *report) error {
	if len(d.Masquerade) == 0 {
		return nil
	}
	m, err := observe()
	if err != nil {
		return err
	}
	for i := range d.Masquerade {
		of := &d.Masquerade[i]
		for _, from := range of.From {
			d.newSource(m, r, of, from)
			for _, t := range d.Backends {
				if t.Method == lb.ForwardNAT && t.Protocol != lb.ProtocolAny && from.Contains(t.Addr) {
					r.wrong("masquerade", t.subject(), fmt.Sprintf("with ports: all, whatever it sends by %s is an answer of service %s: it can begin nothing by it", t.Protocol, t.Service),
						"the ports that service "+t.Service+" needs")
				}
			}
		}
	}
	return nil
}

func (d Director) newSource(m *machine, r *report, of *lb.Masquerade, from netip.Prefix) {
	subject := fmt.Sprintf("%s by %s", from, of.Out)
	usable := func(h held) bool {
		if of.To.IsValid() {
			return h.prefix.Addr() == of.To
		}
		vip := slices.ContainsFunc(d.VIPs, func(v VIP) bool { return v.Addr == h.prefix.Addr() })
		return h.ifname == of.Out && h.prefix.Addr().Is4() == from.Addr().Is4() && h.prefix.Addr().IsGlobalUnicast() && !vip
	}
	switch i := slices.IndexFunc(m.addresses, usable); {
	case i >= 0:
		r.ok("masquerade", subject, "as %s", m.addresses[i].prefix.Addr())
	case of.To.IsValid():
		r.wrong("masquerade", subject, fmt.Sprintf("this machine does not have %s: nothing that is answered comes back", of.To), "an address of this machine for to, or none")
	default:
		r.wrong("masquerade", subject, fmt.Sprintf("%s has no address of that family: packets are dropped", of.Out), "an address on "+of.Out)
	}
}
