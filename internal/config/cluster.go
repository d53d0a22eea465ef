package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/lbctl/lbctl/internal/lb"
)

func (r *reader) cluster(c *Config, v value, host string) {
	if !v.given() {
		r.fail(v, "", "missing")
		return
	}
	f, ok := r.fields(v, "name", "seed", "node", "nodes", "membership")
	if !ok {
		return
	}
	c.ClusterName = r.name(at(f["name"], v), "-", 32)
	c.Seed = r.seed(at(f["seed"], v))
	r.nodes(c, at(f["nodes"], v))
	r.local(c, at(f["node"], v), host)
	r.membership(c, f["membership"])
}

func (r *reader) seed(v value) (seed [32]byte) {
	if !v.given() {
		fresh := make([]byte, len(seed))
		rand.Read(fresh)
		r.fail(v, "add a secret of your own, the same on all nodes: seed: "+hex.EncodeToString(fresh), "missing")
		return seed
	}
	s, ok := r.text(v)
	if !ok {
		return seed
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(seed) {
		r.fail(v, fmt.Sprintf("its length is %d", utf8.RuneCountInString(s)), "not 64 hexadecimal digits")
		return seed
	}
	return [32]byte(b)
}

func (r *reader) nodes(c *Config, v value) {
	items, ok := r.items(v, false)
	switch {
	case !ok:
		return
	case len(items) == 0:
		r.fail(v, "", "names no node")
		return
	case len(items) > lb.MaxNodes:
		r.fail(v, "", "%d nodes are more than %d", len(items), lb.MaxNodes)
		return
	}
	names := make(map[string]bool)
	owners := make(map[netip.Addr]string)
	for _, item := range items {
		f, ok := r.fields(item, "name", "addresses", "mac", "weight")
		if !ok {
			continue
		}
		n := Node{
			Name:   r.name(at(f["name"], item), ".-", maxName),
			MAC:    r.mac(f["mac"]),
			Weight: r.integer(f["weight"], 0, lb.MaxWeight, defaultWeight),
		}
		if n.Name != "" && names[n.Name] {
			r.fail(f["name"], "", "another node is called %q", n.Name)
		}
		names[n.Name] = true
		if n.MAC != nil && n.MAC[0]&1 != 0 {
			r.fail(f["mac"], "", "%s is the MAC of a group, not of a machine", n.MAC)
		}
		for _, other := range c.Nodes {
			if n.MAC != nil && bytes.Equal(other.MAC, n.MAC) {
				r.fail(f["mac"], "", "%s is the MAC of node %q already", n.MAC, other.Name)
			}
		}
		n.Addresses = r.nodeAddresses(at(f["addresses"], item), n.Name, owners)
		c.Nodes = append(c.Nodes, n)
	}
}

func (r *reader) nodeAddresses(v value, node string, owners map[netip.Addr]string) []netip.Addr {
	items, ok := r.items(v, true)
	if ok && len(items) == 0 {
		r.fail(v, "", "names no address")
	}
	var list []netip.Addr
	for _, item := range items {
		a := r.address(item)
		if !a.IsValid() {
			continue
		}
		if other, taken := owners[a]; taken {
			r.fail(item, "", "%s is an address of node %q already", a, other)
			continue
		}
		owners[a] = node
		list = append(list, a)
	}
	return list
}

// local finds which node this machine is. Without all the names there is nothing to say about it.
func (r *reader) local(c *Config, v value, host string) {
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	c.Node = host
	if v.given() {
		name, ok := r.text(v)
		if !ok {
			return
		}
		c.Node = name
	}
	switch {
	case len(names) == 0, slices.Contains(names, ""), slices.Contains(names, c.Node):
	case v.given():
		r.fail(v, r.suggest(c.Node, names), "%q is not one of cluster.nodes", c.Node)
	default:
		r.fail(v, "say which one this machine is", "missing, and no node is called %q like this machine", host)
	}
}
