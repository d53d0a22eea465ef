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
		f, ok := r.fields(item, "address", "interface", "announce", "mac", "other")
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
		multicast, none := lb.AnnounceMulticast.String(), lb.AnnounceNone.String()
		if r.word(f["announce"], multicast, multicast, none) == none {
			vip.Announce = lb.AnnounceNone
			r.ownMAC(&vip, f["mac"])
		} else {
			r.sharedMAC(c, &vip, f["mac"])
		}
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

// ownMAC is for VIPs whose packets come to the MAC of each node.
func (r *reader) ownMAC(vip *VIP, v value) {
	vip.MACForm = lb.MACOwn
	if s, ok := r.text(v); ok && s != lb.MACOwn.String() {
		r.fail(v, "leave it out", "with announce %q, no MAC is shared", vip.Announce.String())
	}
}

func (r *reader) sharedMAC(c *Config, vip *VIP, v value) {
	forms := []lb.MACForm{lb.MACMulticast, lb.MACGroup, lb.MACUnicast}
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
	if !strings.ContainsAny(s, ":-.") {
		r.fail(v, r.suggest(s, words), "%q is not one of %s, or a MAC", s, strings.Join(words, ", "))
		return
	}
	vip.MACForm, vip.MAC = lb.MACExplicit, r.mac(v)
	m := vip.MAC
	if m == nil {
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
