package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

// join makes this node a member of its cluster; nothing is sent before the member runs.
func (p *planner) join() error {
	self := p.cfg.Membership
	var err error
	if p.store, err = store.Open(filepath.Join(p.opts.DataDir, "cluster.db"), p.cfg.Node); err != nil {
		return err
	}
	life, err := p.store.NewLife()
	if err != nil {
		return err
	}
	var ring cluster.Ring
	if !self.Insecure {
		if ring, err = cluster.ReadRing(self.KeyFile); err != nil {
			return err
		}
	}
	local := localNode(p.cfg)
	p.member, err = member.New(member.Options{
		Machine: machineConfig(p.cfg, local),
		Cluster: cluster.Options{
			Cluster: p.cfg.ClusterName, Node: p.cfg.Node, Bind: netip.AddrPortFrom(local.Addresses[0], self.Port),
			Peers: peersOf(p.cfg), Keys: ring.Keys, Insecure: self.Insecure, Preset: cluster.Preset(self.Preset), DeadAfter: self.DeadAfter,
			StateDir: p.opts.DataDir, Life: life, Version: p.opts.Version, Log: p.opts.Log,
		},
		KeyFile:    self.KeyFile,
		Ring:       ring,
		Witnesses:  self.Witness,
		Heartbeats: heartbeats(p.cfg, life, ring.Keys),
		Store:      p.store,
		Snapshot:   filepath.Join(p.opts.StateDir, "absence"),
		Nodes:      nodesOf(p.cfg),
		Wishes:     p.wishes(),
		Version:    p.opts.Version,
		Apply:      p.agree,
		Lease:      p.path.Lease,
		NewLife:    p.path.NewLife,
		UDPFlows:   p.path.UDPFlows,
		Happened:   p.happened,
		Voted:      p.forwarder.stir,
		News:       p.path.News,
		Notes:      p.path.Notes,
		Take:       p.path.Take,
		Opening:    p.forwarder.opening,
		Log:        p.opts.Log,
	})
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

func localNode(cfg *config.Config) config.Node {
	i := slices.IndexFunc(cfg.Nodes, func(n config.Node) bool { return n.Name == cfg.Node })
	return cfg.Nodes[i] // a valid configuration names it
}

func machineConfig(cfg *config.Config, local config.Node) ownership.Config {
	m := cfg.Membership
	c := ownership.DefaultConfig(cfg.Node)
	for _, n := range cfg.Nodes {
		c.Expected = append(c.Expected, n.Name)
	}
	c.Policy = map[config.Partition]ownership.Policy{
		config.PartitionAny:      ownership.PolicyAny,
		config.PartitionMajority: ownership.PolicyMajority,
		config.PartitionWitness:  ownership.PolicyWitness,
	}[m.Partition]
	c.Fingerprint = cfg.Fingerprint()
	c.Meta = member.Meta{Addresses: local.Addresses}.Encode()
	c.Tick, c.HintTime = m.Tick(), m.Heard()
	if len(cfg.Services) > 0 {
		longer := func(a, b config.Service) int { return cmp.Compare(a.UDPIdle, b.UDPIdle) }
		c.UDPIdle = slices.MaxFunc(cfg.Services, longer).UDPIdle
	}
	c.LeaseTime, c.DeadAfter, c.BootTimeout = m.Lease, m.DeadAfter, m.Absence
	return c
}

func peersOf(cfg *config.Config) func() []netip.AddrPort {
	var peers []netip.AddrPort
	for _, n := range cfg.Nodes {
		if n.Name != cfg.Node {
			peers = append(peers, netip.AddrPortFrom(n.Addresses[0], cfg.Membership.Port))
		}
	}
	return func() []netip.AddrPort { return peers }
}

// heartbeats go out on every interface of a VIP.
func heartbeats(cfg *config.Config, life uint64, keys []cluster.Key) []heartbeat.Options {
	var secrets [][]byte
	for _, key := range keys {
		secrets = append(secrets, key[:])
	}
	var interfaces []string
	for i := range cfg.VIPs {
		interfaces = append(interfaces, cfg.VIPs[i].Interface)
	}
	slices.Sort(interfaces)
	var all []heartbeat.Options
	for _, name := range slices.Compact(interfaces) {
		all = append(all, heartbeat.Options{
			Interface: name, Cluster: cfg.ClusterName, Node: cfg.Node, Life: life, Keys: secrets, Insecure: len(keys) == 0,
			Interval: cfg.Membership.Heartbeat, DeadAfter: cfg.Membership.DeadAfter, Hint: cfg.Membership.Heard(),
		})
	}
	return all
}

func nodesOf(cfg *config.Config) []lb.Node {
	var nodes []lb.Node
	for _, n := range cfg.Nodes {
		nodes = append(nodes, lb.Node{Name: n.Name, Addrs: n.Addresses, MAC: n.MAC, Weight: n.Weight})
	}
	return nodes
}

// wishes are what this node wants of the cluster now.
func (p *planner) wishes() member.Wishes { return wishesOf(p.cfg, p.nodeHealth(), p.ready) }

func wishesOf(cfg *config.Config, checked map[string]health.Service, ready bool) member.Wishes {
	w := member.Wishes{
		Weight: localNode(cfg).Weight, Seed: cfg.Seed, Ready: ready,
		Domains: make(map[string]health.Service), MinNodes: make(map[string]int), Wholes: wholes(cfg),
	}
	for _, domain := range desired.Domains(cfg) {
		w.Domains[domain] = health.Service{}
	}
	vips := cfg.VIPsByAddress()
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, vip := range s.VIPs {
			domain := desired.Domain(vips[vip], s)
			if _, agreed := w.Domains[domain]; agreed && s.Forward == lb.ForwardLocal && len(s.Checks) > 0 {
				if vips[vip].Announce == lb.AnnounceFailover { // which services share
					w.Domains[domain] = together(w.Domains[domain], checked[s.Name], s.Name)
				} else {
					w.Domains[domain] = checked[s.Name]
				}
				w.MinNodes[domain] = max(w.MinNodes[domain], s.MinNodes)
			}
			if s.Forward == lb.ForwardLocal { // what goes to backends has no sockets here
				w.Places = append(w.Places, member.Place{VIP: vip, Protocol: s.Protocol, Ports: s.Ports, Hash: s.Hash, Domain: domain})
			}
		}
	}
	// What no service names follows the VIP's own table, and its connections are to be kept as well.
	for i := range cfg.VIPs {
		if v := &cfg.VIPs[i]; v.Other == lb.OtherPass {
			w.Places = append(w.Places, member.Place{
				VIP: v.Address, Protocol: lb.ProtocolAny, Ports: []lb.PortRange{lb.AllPorts},
				Hash: lb.HashSource, Domain: desired.Domain(v, nil),
			})
		}
	}
	return w
}

// agree makes the kernel follow what the cluster agreed on.
func (p *planner) agree(ctx context.Context, agreed *desired.Agreement) error {
	select {
	case <-p.forwarder.decided: // or nothing could be applied yet
	case <-ctx.Done():
		return ctx.Err()
	}
	var failed error
	if err := p.within(ctx, func() {
		p.agreed = agreed
		failed = p.apply(ctx)
	}); err != nil {
		return err
	}
	return failed
}

// wish tells the cluster what this node wants now.
func (p *planner) wish(ctx context.Context) {
	if p.member == nil {
		return
	}
	if err := p.member.Wish(ctx, p.wishes()); err != nil && ctx.Err() == nil {
		p.opts.Log.Error("the cluster is not told what this node wants", "err", err)
	}
}

// changeable refuses what a running lbd cannot change.
func (p *planner) changeable(fresh *config.Config) error {
	switch {
	case fresh.Backend != nil:
		return errRoleChanged
	case (p.cfg.Membership == nil) != (fresh.Membership == nil) ||
		fresh.Membership != nil && !reflect.DeepEqual(fixed(*p.cfg.Membership), fixed(*fresh.Membership)):
		return errors.New("cluster.membership changed: restart lbd to use it")
	case p.member != nil && (p.cfg.Node != fresh.Node || p.cfg.ClusterName != fresh.ClusterName):
		return errors.New("cluster.name or cluster.node changed: restart lbd to use it")
	}
	return nil
}

// fixed is without what a running machine can be told. The policy, unless it is written, follows the
// number of nodes.
func fixed(m config.Membership) config.Membership {
	m.Partition = ""
	return m
}

// reconfigure tells the cluster of a new configuration.
func (p *planner) reconfigure(ctx context.Context) {
	if p.member == nil {
		return
	}
	c := machineConfig(p.cfg, localNode(p.cfg))
	err := p.member.Reconfigure(ctx, ownership.Reconfigured{
		Expected: c.Expected, Policy: c.Policy, Fingerprint: c.Fingerprint,
	}, nodesOf(p.cfg))
	if err != nil {
		p.opts.Log.Error("the cluster is not told of the new configuration", "err", err)
	}
	p.wish(ctx)
}

// partTime is how long the peers may take to answer a node that goes.
const partTime = 5 * time.Second

// part takes leave of the cluster: for a restart, or for good.
func (p *planner) part(ctx context.Context) {
	if p.member == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	// the worker asks this goroutine to apply what remains
	done := make(chan error, 1)
	go func() {
		if p.cfg.Shutdown == config.Leave {
			done <- p.member.Absence(ctx, p.cfg.Membership.Absence)
		} else {
			done <- p.member.Leave(ctx)
		}
	}()
	for {
		select {
		case a := <-p.asks:
			a.do()
			close(a.done)
		case err := <-done:
			if err != nil {
				p.opts.Log.Warn("the cluster does not wait for this node", "err", err)
			}
			return
		}
	}
}
