package config

import (
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

func (r *reader) masquerades(c *Config, v value) {
	items, _ := r.items(v, false)
	if len(items) > maxMasks {
		r.fail(v, "", "%d are more than %d", len(items), maxMasks)
		return
	}
	for _, item := range items {
		f, ok := r.fields(item, "from", "out", "to")
		if !ok {
			continue
		}
		m := lb.Masquerade{Out: r.interfaceName(f["out"])}
		if !f["out"].given() {
			r.fail(at(f["out"], item), "", "missing")
		}
		m.From = r.masked(c, m.Out, at(f["from"], item))
		if f["to"].given() {
			m.To = r.newSource(c, m.From, f["to"])
		}
		c.Masquerade = append(c.Masquerade, m)
	}
}

// masked reads whose packets get another source. What an earlier one takes already would never apply.
func (r *reader) masked(c *Config, out string, v value) []netip.Prefix {
	items, ok := r.some(v, "network", "networks", maxMasks)
	if !ok {
		return nil
	}
	var taken, list []netip.Prefix
	for i := range c.Masquerade {
		if c.Masquerade[i].Out == out {
			taken = append(taken, c.Masquerade[i].From...)
		}
	}
	for _, item := range items {
		p := r.prefix(item)
		if !p.IsValid() {
			continue
		}
		covered := func(other netip.Prefix) bool { return other.Bits() <= p.Bits() && other.Contains(p.Addr()) }
		if i := slices.IndexFunc(taken, covered); i >= 0 {
			r.fail(item, "", "%s is in %s already, which leaves by the same interface", p, taken[i])
		}
		taken, list = append(taken, p), append(list, p)
	}
	return list
}

// prefix reads a network, or one address of it.
func (r *reader) prefix(v value) netip.Prefix {
	s, ok := r.required(v)
	if !ok {
		return netip.Prefix{}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = r.address(v)
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		r.fail(v, "", "%q is not a network such as 10.0.0.0/24 or 2001:db8::/64", s)
	case p.Addr().Is4In6():
		r.fail(v, "", "%q is an IPv4 network in IPv6 form", s)
	case p != p.Masked():
		r.fail(v, "write "+p.Masked().String(), "%q has bits of one machine", s)
	case p.Bits() == 0:
		r.fail(v, "name the networks of the backends", "%s is everybody: also this machine, and clients whose packets pass it", p)
	default:
		return p
	}
	return netip.Prefix{}
}

// newSource reads an address of this machine. One that other nodes hold, too, would get no answers.
func (r *reader) newSource(c *Config, from []netip.Prefix, v value) netip.Addr {
	a := r.address(v)
	switch {
	case !a.IsValid():
	case c.VIPsByAddress()[a] != nil:
		r.fail(v, "give one that this machine has for itself", "%s is a VIP: answers would go to any of the nodes", a)
	case slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Addr().Is4() != a.Is4() }):
		r.fail(v, "make one for each family", "%s is not of the family of all networks that get it", a)
	default:
		return a
	}
	return netip.Addr{}
}

func masqueradeSettings(m *lb.Masquerade) []setting {
	list := []setting{{"from", inline(m.From, netip.Prefix.String)}, {"out", quoted(m.Out)}}
	if m.To.IsValid() {
		list = append(list, setting{"to", quoted(m.To.String())})
	}
	return list
}
