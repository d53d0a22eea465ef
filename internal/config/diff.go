package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Change is one value that differs. An empty side means that there was, or is, none.
type Change struct {
	Path string `json:"path"` // nodes[n1].weight; things in lists by their names
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Diff lists what differs between two configurations, by path. The seed is not shown.
func Diff(old, new *Config) []Change {
	before, after := old.leaves(), new.leaves()
	var changes []Change
	for path, was := range before {
		if is := after[path]; is != was {
			changes = append(changes, Change{path, was, is})
		}
	}
	for path, is := range after {
		if _, known := before[path]; !known {
			changes = append(changes, Change{path, "", is})
		}
	}
	if old.Seed != new.Seed {
		changes = append(changes, Change{"cluster.seed", hidden(old.Seed), hidden(new.Seed)})
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return changes
}

// hidden tells two seeds apart and says nothing about either.
func hidden(seed [32]byte) string {
	sum := sha256.Sum256(seed[:])
	return "sha256:" + hex.EncodeToString(sum[:4])
}

func (c *Config) leaves() map[string]string {
	if c.Backend != nil {
		return c.backendLeaves()
	}
	m := map[string]string{
		"cluster.name": c.ClusterName,
		"cluster.node": c.Node,
		"attach":       c.Attach,
		"shutdown":     string(c.Shutdown),
		"drops.sample": fmt.Sprint(c.SampleDrops),
	}
	if c.Membership != nil {
		leavesOf(m, "cluster.membership.", c.Membership.settings())
	}
	for _, h := range c.Hooks {
		leavesOf(m, "hooks"+inline(h.Command, verbatim)+".", h.settings()[1:])
	}
	for i := range c.Masquerade {
		of := &c.Masquerade[i]
		leavesOf(m, "masquerade["+of.Out+" "+inline(of.From, netip.Prefix.String)+"].", masqueradeSettings(of))
	}
	for _, n := range c.Nodes {
		path := "nodes[" + n.Name + "]."
		m[path+"addresses"] = addresses(n.Addresses)
		m[path+"weight"] = fmt.Sprint(n.Weight)
		if n.MAC != nil {
			m[path+"mac"] = n.MAC.String()
		}
	}
	for i := range c.VIPs {
		v := &c.VIPs[i]
		path := "vips[" + v.Address.String() + "]."
		m[path+"interface"] = v.Interface
		m[path+"announce"] = v.Announce.String()
		m[path+"mac"] = v.macText()
		m[path+"other"] = v.Other.String()
		leavesOf(m, path, v.ofFailover())
	}
	for _, s := range c.Services {
		path := "services[" + s.Name + "]."
		m[path+"vips"] = addresses(s.VIPs)
		m[path+"protocol"] = s.Protocol.String()
		m[path+"ports"] = portList(s.Ports)
		m[path+"hash"] = s.Hash.String()
		m[path+"forward"] = s.Forward.String()
		leavesOf(m, path, s.ofHealth())
		if s.Forward != lb.ForwardLocal {
			leavesOf(m, path, s.ofForwarding(c.Membership != nil))
		}
		if s.Sorry != nil {
			leavesOf(m, path+"sorry["+s.Sorry.Name+"].", s.Sorry.place())
		}
		for i := range s.Backends {
			b := &s.Backends[i]
			leavesOf(m, path+"backends["+b.Name+"].", b.settings(s.Watches()))
		}
		for _, check := range s.Checks {
			leavesOf(m, path+"checks["+check.Name+"].", check.settings())
		}
	}
	return m
}
