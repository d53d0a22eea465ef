package config

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Fingerprint tells whether two nodes may serve together. It covers what decides which bucket a flow
// is in, which node may own it, and when one node may take another's place:
//
//   - the name and the seed of the cluster;
//   - of each VIP its address, how it is announced, its MAC and what happens to other traffic;
//   - of each service its name, VIPs, protocol, ports, hash and forward;
//   - with membership: heartbeat, dead-after and lease, because a lease of one node has to end before
//     another takes it for dead;
//   - without: names and weights of the nodes.
//
// It does not cover what each node says of itself while it runs (with membership: nodes and their
// weights, so that nodes can be added one after the other, and the policy for partitions, which
// follows their number; health and min-nodes, so that checks can differ; prefer and preempt, so that a
// VIP can be given another place), nor where the owner of a bucket sends its flows (backends and all
// that belongs to them, so that they can be changed on one node after the other), nor what stays on
// one machine (interfaces, attach, shutdown, drops, hooks, masquerade, key files,
// udp-idle).
// The order of keys and lists does not matter. It tells nothing about the seed.
func (c *Config) Fingerprint() uint64 {
	mac := hmac.New(sha256.New, c.Seed[:])
	for _, line := range c.agreed() {
		fmt.Fprintf(mac, "%d:%s\n", len(line), line)
	}
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// agreed is what all nodes must have alike, but for the seed, sorted.
func (c *Config) agreed() []string {
	lines := []string{fmt.Sprintf("cluster %q", c.ClusterName)}
	if m := c.Membership; m != nil {
		lines = append(lines, fmt.Sprintf("membership %s %s %s", m.Heartbeat, m.DeadAfter, m.Lease))
	} else {
		for _, n := range c.Nodes {
			lines = append(lines, fmt.Sprintf("node %q %d", n.Name, n.Weight))
		}
	}
	for i := range c.VIPs {
		v := &c.VIPs[i]
		lines = append(lines, fmt.Sprintf("vip %s %s %s %s", v.Address, v.Announce, v.macText(), v.Other))
	}
	for _, s := range c.Services {
		vips := slices.SortedFunc(slices.Values(s.VIPs), netip.Addr.Compare)
		lines = append(lines, fmt.Sprintf("service %q %s %s %s %s %s", s.Name, addresses(vips), s.Protocol,
			portList(s.Ports), s.Hash, s.Forward)+sourceNATText(&s))
	}
	slices.Sort(lines)
	return lines
}

// sourceNATText is what directors must agree on: one that knows nothing of source ports would reset what
// comes to them.
func sourceNATText(s *Service) string {
	if s.SourceNAT {
		return " source-nat"
	}
	return ""
}
