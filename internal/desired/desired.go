// Package desired decides what everything should be: configuration, members and health in, a State
// out. It acts on nothing.
package desired

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// A Member is what is known of a node beyond the configuration.
type Member struct {
	Down   bool             // it takes no part
	MAC    net.HardwareAddr // learnt; the configuration's goes first
	Weight *int             // set by hand; nil: the configuration's
}

// Members are by node name. A node that is not in it is as the configuration says, and up.
type Members map[string]Member

// Health says which services a node cannot serve, by node and service name. What is not in it is
// healthy.
type Health map[string]map[string]Unhealthy

// Unhealthy is the state of a service that gets no new flows on a node.
type Unhealthy struct{}

// Targets says what the services that forward send to, by the name of the service. One that is not in
// it, or whose Choice is nil, sends nothing anywhere.
type Targets map[string]Target

// A Target is the backends of a service and which flows go to which. All VIPs of the service share it.
type Target struct {
	Backends []lb.Backend
	Choice   *lb.Choice
	Schedule *lb.Schedule // nil: Choice says all
}

// A Builder builds one State after another and computes only what changed between them. The zero
// value is ready. It is not safe for concurrent use.
type Builder struct {
	tables *rendezvous.Builder
	last   map[user]built
}

// Build returns the State that follows from the inputs. The configuration is valid.
func (b *Builder) Build(cfg *config.Config, members Members, health Health, targets Targets) (*lb.State, error) {
	if b.tables == nil {
		b.tables = rendezvous.NewBuilder()
	}
	state := &lb.State{Cluster: cfg.ClusterName, Seed: cfg.Seed, SampleDrops: cfg.SampleDrops, Masquerade: cfg.Masquerade}
	var err error
	if state.Nodes, err = nodes(cfg, members); err != nil {
		return nil, err
	}
	if err := services(state, cfg, targets); err != nil {
		return nil, err
	}
	b.assign(state, members, health)
	return state, nil
}

// nodes are sorted by name, so that every node numbers them alike.
func nodes(cfg *config.Config, members Members) ([]lb.Node, error) {
	if len(cfg.Nodes) > lb.MaxNodes {
		return nil, fmt.Errorf("%d nodes are more than %d", len(cfg.Nodes), lb.MaxNodes)
	}
	var list []lb.Node
	for _, n := range cfg.Nodes {
		m := members[n.Name]
		node := lb.Node{Name: n.Name, Addrs: n.Addresses, MAC: n.MAC, Weight: n.Weight, Local: n.Name == cfg.Node}
		if node.MAC == nil {
			node.MAC = m.MAC
		}
		if m.Weight != nil {
			node.Weight = *m.Weight
		}
		if node.Weight < 0 || node.Weight > lb.MaxWeight {
			return nil, fmt.Errorf("node %s: weight %d is not in 0..%d", n.Name, node.Weight, lb.MaxWeight)
		}
		if m.Down {
			node.Weight = 0
		}
		list = append(list, node)
	}
	slices.SortFunc(list, func(a, b lb.Node) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list {
		list[i].Index = i
	}
	return list, nil
}

// vips fills in the VIPs, sorted, and returns where each is.
func vips(state *lb.State, cfg *config.Config) map[netip.Addr]int {
	for _, v := range cfg.VIPs {
		vip := lb.VIP{
			Addr:      v.Address,
			Interface: v.Interface,
			Announce:  v.Announce,
			MACForm:   v.MACForm,
			MAC:       v.MAC,
			Group:     lb.Group(v.MACForm, v.Address),
			Other:     v.Other,
		}
		if v.MACForm != lb.MACExplicit { // nil for lb.MACOwn
			vip.MAC = lb.SharedMAC(v.MACForm, v.Address)
		}
		state.VIPs = append(state.VIPs, vip)
	}
	slices.SortFunc(state.VIPs, func(a, b lb.VIP) int { return a.Addr.Compare(b.Addr) })
	index := make(map[netip.Addr]int, len(state.VIPs))
	for i := range state.VIPs {
		index[state.VIPs[i].Addr] = i
	}
	return index
}

// services fills in the VIPs, and makes one of each service and VIP.
func services(state *lb.State, cfg *config.Config, targets Targets) error {
	index := vips(state, cfg)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		target := targets[s.Name]
		for _, addr := range s.VIPs {
			vip, ok := index[addr]
			if !ok {
				return fmt.Errorf("service %s: %s is no VIP", s.Name, addr)
			}
			service := lb.Service{
				Name: s.Name, VIP: vip, Protocol: s.Protocol, Ports: s.Ports, Hash: s.Hash, Forward: s.Forward,
				Encap: s.Encap, SourceNAT: s.SourceNAT, MSS: s.MSS, Backends: target.Backends, Choice: target.Choice, Schedule: target.Schedule,
			}
			if s.Forward != lb.ForwardLocal {
				service.TCPIdle, service.UDPIdle = s.Idle()
			}
			state.Services = append(state.Services, service)
		}
	}
	slices.SortStableFunc(state.Services, func(a, b lb.Service) int {
		return cmp.Or(cmp.Compare(a.VIP, b.VIP), cmp.Compare(a.Name, b.Name))
	})
	return nil
}
