package config

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

func (r *reader) vips(c *Config, v, common value) {
	fallback := r.interfaceName(common)
	items, ok := r.items(v, false)
	if len(items) > maxVIPs {
		r.fail(v, "", "%d VIPs are more than %d", len(items), maxVIPs)
		ok = false
	}
	if !ok {
		r.partial = true
		return
	}
	seen := make(map[netip.Addr]bool)
	for _, item := range items {
		f, ok := r.fields(item, "address", "interface", "announce", "mac", "prefer", "preempt", "other")
		if !ok {
			r.partial = true
			continue
		}
		vip := VIP{
			Address:   r.address(at(f["address"], item)),
			Interface: fallback,
		}
		if f["interface"].given() {
			vip.Interface = r.interfaceName(f["interface"])
		} else if !common.given() {
			r.fail(at(f["interface"], item), "give it here, or once at the top", "missing")
		}
		r.announce(c, &vip, f)
		if r.word(f["other"], "pass", "pass", "drop") == "drop" {
			vip.Other = lb.OtherDrop
		}
		if !vip.Address.IsValid() {
			r.partial = true
			continue
		}
		r.newVIP(c, vip.Address, f["address"], seen)
		c.VIPs = append(c.VIPs, vip)
	}
}

func (r *reader) newVIP(c *Config, address netip.Addr, at value, seen map[netip.Addr]bool) {
	if seen[address] {
		r.fail(at, "", "%s is given twice", address)
	}
	seen[address] = true
	if c.Membership != nil && slices.Contains(c.Membership.Witness, address) {
		r.fail(at, "", "%s is a witness of cluster.membership; a VIP always answers", address)
	}
	for _, n := range c.Nodes {
		if slices.Contains(n.Addresses, address) {
			r.fail(at, "", "%s is an address of node %q; a VIP is one that no node has for itself", address, n.Name)
		}
	}
}

// announce reads how packets get to the nodes, and what belongs to that.
func (r *reader) announce(c *Config, vip *VIP, f map[string]value) {
	multicast, failover, none := lb.AnnounceMulticast.String(), lb.AnnounceFailover.String(), lb.AnnounceNone.String()
	switch word := r.word(f["announce"], multicast, multicast, failover, none); {
	case r.wrong(f["announce"]):
		return // what else belongs to it is not known
	case word == none:
		vip.Announce = lb.AnnounceNone
		r.sharedMAC(c, vip, f["mac"], lb.MACOwn)
	case word == failover:
		vip.Announce = lb.AnnounceFailover
		r.sharedMAC(c, vip, f["mac"], lb.MACOwn)
		r.failover(c, vip, f)
		return
	default:
		r.sharedMAC(c, vip, f["mac"], lb.MACMulticast, lb.MACGroup, lb.MACUnicast)
	}
	for _, key := range []string{"prefer", "preempt"} {
		if f[key].given() {
			r.fail(f[key], "", "a VIP with announce %q has no such key", vip.Announce.String())
		}
	}
}

// failover reads which node has the VIP. Without membership, none would notice that another is gone.
func (r *reader) failover(c *Config, vip *VIP, f map[string]value) {
	if c.Membership == nil && !r.toldStatic {
		r.toldStatic = true
		r.fail(f["announce"], "add cluster.membership", "the nodes of this file are always up, so that none can take the place of another")
	}
	vip.Preempt = r.boolean(f["preempt"], true)
	known := make([]string, len(c.Nodes))
	for i := range c.Nodes {
		known[i] = c.Nodes[i].Name
	}
	items, ok := r.items(f["prefer"], true)
	if ok && f["prefer"].given() && len(items) == 0 {
		r.fail(f["prefer"], "", "names no node")
	}
	for _, item := range items {
		name, ok := r.required(item)
		switch {
		case !ok:
		case !slices.Contains(known, name):
			r.fail(item, r.suggest(name, known), "%q is not one of cluster.nodes", name)
		case slices.Contains(vip.Prefer, name):
			r.fail(item, "", "%q is given twice", name)
		default:
			vip.Prefer = append(vip.Prefer, name)
		}
	}
}

// sharedMAC reads one of the forms, of which the first is the default, or a MAC where nodes can share
// one.
func (r *reader) sharedMAC(c *Config, vip *VIP, v value, forms ...lb.MACForm) {
	vip.MACForm = forms[0]
	s, ok := r.text(v)
	if !ok {
		return
	}
	words := make([]string, len(forms))
	for i, form := range forms {
		words[i] = form.String()
		if s == words[i] {
			vip.MACForm = form
			return
		}
	}
	if vip.Announce == lb.AnnounceNone {
		r.fail(v, "leave it out", "with announce %q, no MAC is shared", vip.Announce.String())
		return
	}
	if !strings.ContainsAny(s, ":-.") {
		r.fail(v, r.suggest(s, words), "%q is not one of %s, or a MAC", s, strings.Join(words, ", "))
		return
	}
	vip.MACForm, vip.MAC = lb.MACExplicit, r.mac(v)
	m := vip.MAC
	if m == nil {
		return
	}
	if vip.Announce == lb.AnnounceFailover && m[0]&1 != 0 {
		r.fail(v, "", "%s is the MAC of a group; with announce %q, it is one machine's at a time", m, vip.Announce.String())
		return
	}
	if m[0] == 0x33 && m[1] == 0x33 || m[0] == 1 && m[1] == 0 && m[2] == 0x5e {
		r.fail(v, `use "group", which also joins the group`, "%s is the MAC of an IP multicast group", m)
	}
	for _, n := range c.Nodes {
		if bytes.Equal(n.MAC, m) {
			r.fail(v, "", "%s is the MAC of node %q; the shared one belongs to none", m, n.Name)
		}
	}
}
