package desired

import (
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
)

// An Agreement is what the nodes of a cluster agreed on among themselves.
type Agreement struct {
	Nodes  []lb.Node            // sorted by name, each with its index
	Tables map[string]*lb.Table // by domain; owners are indexes in Nodes
	Met    bool                 // the MACs of all living nodes are known
}

// VIPDomain is the domain whose table says who answers for a VIP as such: ARP, NDP, echo and what no
// service names.
const VIPDomain = ""

// wholePrefix begins the domains of VIPs that one node at a time has.
const wholePrefix = "vip "

// ownDomain is the domain of VIPs whose packets somebody else brings: each node has all buckets to
// itself, and the cluster has nothing to agree on.
const ownDomain = "own"

// Domain names the table that a service's flows follow at a VIP; without a service, that of the VIP as
// such. Services whose nodes are checked have one of their own, all others share one. A VIP that one
// node has as a whole shares nothing with others.
func Domain(v *config.VIP, s *config.Service) string {
	switch {
	case v.Announce == lb.AnnounceNone:
		return ownDomain
	case v.Announce == lb.AnnounceFailover:
		return wholePrefix + v.Address.String()
	case s == nil:
		return VIPDomain
	case len(s.Checks) == 0 || s.Forward != lb.ForwardLocal: // those are checks of backends
		return "nodes"
	}
	return "service " + s.Name
}

// Domains lists the domains that the nodes of a configuration agree on, sorted. VIPDomain is always one
// of them: it also says who is alive.
func Domains(cfg *config.Config) []string {
	list := []string{VIPDomain}
	for i := range cfg.VIPs {
		list = append(list, Domain(&cfg.VIPs[i], nil))
	}
	at := cfg.VIPsByAddress()
	for i := range cfg.Services {
		for _, vip := range cfg.Services[i].VIPs {
			list = append(list, Domain(at[vip], &cfg.Services[i]))
		}
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(domain string) bool { return domain == ownDomain })
}

// Agreed returns the State of a node whose cluster decides who owns what. A domain without a table
// has no owners yet: its flows are dropped.
func Agreed(cfg *config.Config, agreed *Agreement, targets Targets) (*lb.State, error) {
	state := &lb.State{
		Cluster: cfg.ClusterName, Seed: cfg.Seed, SampleDrops: cfg.SampleDrops, Nodes: agreed.Nodes,
		Masquerade: cfg.Masquerade,
	}
	if err := services(state, cfg, targets); err != nil {
		return nil, err
	}
	places := make(map[string]int)
	wholes := make(map[*lb.Table]int)
	tableOf := func(domain string) int {
		i, ok := places[domain]
		if !ok {
			i = place(state, domain, agreed.table(domain), wholes)
			places[domain] = i
		}
		return i
	}
	at := cfg.VIPsByAddress()
	for i := range state.VIPs {
		state.VIPs[i].Table = tableOf(Domain(at[state.VIPs[i].Addr], nil))
		// a frame of a peer that is not known as one would be handed on for ever
		state.VIPs[i].HandOn = agreed.Met && state.VIPs[i].Announce == lb.AnnounceFailover
	}
	byName := make(map[string]*config.Service, len(cfg.Services))
	for i := range cfg.Services {
		byName[cfg.Services[i].Name] = &cfg.Services[i]
	}
	for i := range state.Services {
		s := &state.Services[i]
		s.Table = tableOf(Domain(at[state.VIPs[s.VIP].Addr], byName[s.Name]))
	}
	return state, nil
}

// place adds a table and returns where it is. VIPs that one node at a time has have equal tables but for
// a moment, and share them: each takes half a megabyte of the kernel.
func place(state *lb.State, domain string, table *lb.Table, wholes map[*lb.Table]int) int {
	whole := strings.HasPrefix(domain, wholePrefix)
	if whole {
		if i, known := wholes[table]; known {
			return i
		}
		for other, i := range wholes {
			if other.Equal(table) {
				return i
			}
		}
		wholes[table] = len(state.Tables)
	}
	state.Tables = append(state.Tables, table)
	return len(state.Tables) - 1
}

// table is that of a domain; without one, nobody owns anything.
func (a *Agreement) table(domain string) *lb.Table {
	owner := int16(lb.NoNode)
	if domain == ownDomain {
		owner = int16(slices.IndexFunc(a.Nodes, func(n lb.Node) bool { return n.Local })) // -1 is lb.NoNode
	}
	if table := a.Tables[domain]; table != nil {
		return table
	}
	return &lb.Table{Owners: slices.Repeat([]int16{owner}, lb.Buckets)}
}
