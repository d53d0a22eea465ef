package desired

import (
	"slices"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
)

// An Agreement is what the nodes of a cluster agreed on among themselves.
type Agreement struct {
	Nodes  []lb.Node            // sorted by name, each with its index
	Tables map[string]*lb.Table // by domain; owners are indexes in Nodes
}

// VIPDomain is the domain whose table says who answers for a VIP as such: ARP, NDP, echo and what no
// service names.
const VIPDomain = ""

// Domain names the table that a service's flows follow. Services that are checked have one of their
// own, all others share one.
func Domain(s *config.Service) string {
	if len(s.Checks) == 0 {
		return "nodes"
	}
	return "service " + s.Name
}

// Domains lists the domains of a configuration, sorted.
func Domains(cfg *config.Config) []string {
	list := []string{VIPDomain}
	for i := range cfg.Services {
		list = append(list, Domain(&cfg.Services[i]))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Agreed returns the State of a node whose cluster decides who owns what. A domain without a table
// has no owners yet: its flows are dropped.
func Agreed(cfg *config.Config, agreed *Agreement) (*lb.State, error) {
	state := &lb.State{
		Cluster: cfg.ClusterName, Seed: cfg.Seed, SampleDrops: cfg.SampleDrops, Nodes: agreed.Nodes,
	}
	if err := services(state, cfg, vips(state, cfg)); err != nil {
		return nil, err
	}
	places := make(map[string]int)
	place := func(domain string) int {
		i, ok := places[domain]
		if !ok {
			i = len(state.Tables)
			places[domain] = i
			table := agreed.Tables[domain]
			if table == nil {
				table = &lb.Table{Owners: slices.Repeat([]int16{lb.NoNode}, lb.Buckets)}
			}
			state.Tables = append(state.Tables, table)
		}
		return i
	}
	for i := range state.VIPs {
		state.VIPs[i].Table = place(VIPDomain)
	}
	domains := make(map[string]string, len(cfg.Services))
	for i := range cfg.Services {
		domains[cfg.Services[i].Name] = Domain(&cfg.Services[i])
	}
	for i := range state.Services {
		state.Services[i].Table = place(domains[state.Services[i].Name])
	}
	return state, nil
}
