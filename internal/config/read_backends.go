package config

import (
	"net/netip"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/lbctl/lbctl/internal/lb"
)

// forward reads what the owner of a flow does with it, and refuses what belongs to other ways.
func (r *reader) forward(f map[string]value) lb.Forward {
	words := []string{lb.ForwardLocal.String(), lb.ForwardDR.String(), lb.ForwardTunnel.String()}
	forward := lb.ForwardLocal
	others := []string{"backends", "scheduler", "encap", "mss", "flow-idle", "agree", "min-backends", "slow-start", "sorry"}
	switch word := r.word(f["forward"], words[0], words...); {
	case r.wrong(f["forward"]):
		return forward // not so: what it is could not be read
	case word == lb.ForwardDR.String():
		forward, others = lb.ForwardDR, []string{"min-nodes", "encap"}
	case word == lb.ForwardTunnel.String():
		forward, others = lb.ForwardTunnel, []string{"min-nodes"}
	}
	for _, key := range others {
		if f[key].given() {
			r.fail(f[key], "", "a service with forward %q has no such key", forward.String())
		}
	}
	return forward
}

// forwarding reads what only services with backends have.
func (r *reader) forwarding(c *Config, s *Service, f map[string]value, item value) {
	if r.word(f["encap"], lb.EncapIP.String(), lb.EncapIP.String(), lb.EncapGUE.String()) == lb.EncapGUE.String() {
		s.Encap = lb.EncapGUE
	}
	r.scheduler(s, f["scheduler"], f["hash"])
	s.MSS = uint16(r.integer(f["mss"], minMSS, maxMSS, 0))
	if s.MSS != 0 && s.Protocol == lb.ProtocolUDP {
		r.fail(f["mss"], "", "only TCP has segments")
	}
	s.FlowIdle = r.duration(f["flow-idle"], time.Minute, 24*time.Hour, defaultFlowIdle)
	s.Agree = r.integer(f["agree"], 1, 100, defaultAgree)
	if f["agree"].given() && c.Membership == nil && !r.toldStatic {
		r.fail(f["agree"], "add cluster.membership, or leave it out", "the nodes of this file do not tell each other what they find")
	}
	s.MinBackends = r.integer(f["min-backends"], 0, lb.MaxBackends, 0)
	r.backends(c, s, f, item)
}

// scheduler takes "source" for another way to say which hash.
func (r *reader) scheduler(s *Service, v, hash value) {
	if r.word(v, lb.SchedulerMaglev.String(), lb.SchedulerMaglev.String(), "source") != "source" {
		return
	}
	switch name := hashName(s.Hash); {
	case !hash.given():
		s.Hash = lb.HashSource
	case name != "source" && name != "source-net" && !r.wrong(hash):
		r.fail(v, `leave the hash out, or make it "source" or "source-net"`, "the hash %q is of more than the source", name)
	}
}

func (r *reader) backends(c *Config, s *Service, f map[string]value, item value) {
	v := at(f["backends"], item)
	items, ok := r.items(v, true)
	switch {
	case !ok:
		return
	case len(items) == 0:
		r.fail(v, "", "names no backend")
		return
	case len(items) > lb.MaxBackends:
		r.fail(v, "", "%d backends are more than %d", len(items), lb.MaxBackends)
		return
	}
	if r.servers += len(items); r.servers > maxServers {
		r.fail(v, "", "more than %d backends, those of all services together", maxServers)
		return
	}
	slow := r.duration(f["slow-start"], 0, maxSlowStart, 0)
	seen := &servers{names: make(map[string]bool), owners: make(map[netip.Addr]string)}
	for _, item := range items {
		own, ok := onlyAddress(item)
		if !ok {
			own, ok = r.fields(item, "name", "address", "weight", "backup", "down", "slow-start")
		}
		if !ok {
			continue
		}
		if b, ok := r.server(c, item, own, seen); ok {
			b.SlowStart = r.duration(own["slow-start"], 0, maxSlowStart, slow)
			s.Backends = append(s.Backends, b)
		}
	}
	r.sorry(c, s, f["sorry"], seen)
}

func (r *reader) sorry(c *Config, s *Service, v value, seen *servers) {
	if !v.given() {
		return
	}
	f, ok := onlyAddress(v)
	if !ok {
		f, ok = r.fields(v, "name", "address")
	}
	if !ok {
		return
	}
	if b, ok := r.server(c, v, f, seen); ok {
		s.Sorry = &b
	}
}

// servers are the backends of a service so far, to find two that are the same.
type servers struct {
	names  map[string]bool
	owners map[netip.Addr]string
}

func (r *reader) server(c *Config, v value, f map[string]value, seen *servers) (Backend, bool) {
	b := Backend{
		Address: r.backendAddress(c, at(f["address"], v)),
		Weight:  r.integer(f["weight"], 0, lb.MaxWeight, defaultWeight),
		Backup:  r.boolean(f["backup"], false),
		Down:    r.boolean(f["down"], false),
	}
	if !b.Address.IsValid() {
		return Backend{}, false
	}
	owner, taken := seen.owners[b.Address]
	if taken {
		r.fail(f["address"], "", "%s is the address of backend %q already", b.Address, owner)
	}
	b.Name = b.Address.String()
	if f["name"].given() {
		b.Name = r.name(f["name"], ".-", maxName)
	}
	if seen.names[b.Name] && b.Name != "" && !taken {
		r.fail(at(f["name"], v), "", "another backend of the service is called %q", b.Name)
	}
	seen.names[b.Name], seen.owners[b.Address] = true, b.Name
	return b, true
}

// onlyAddress takes an address for a backend that has nothing else to say.
func onlyAddress(v value) (map[string]value, bool) {
	if !v.given() || v.node.Kind != yaml.ScalarNode {
		return nil, false
	}
	return map[string]value{"address": v}, true
}

// backendAddress is of another machine: neither nodes nor the cluster itself serve what they send on.
func (r *reader) backendAddress(c *Config, v value) netip.Addr {
	a := r.address(v)
	switch {
	case !a.IsValid():
		return netip.Addr{}
	case a.IsLinkLocalUnicast():
		r.fail(v, "", "%s is of one link only, and nothing says which", a)
	case slices.ContainsFunc(c.VIPs, func(vip VIP) bool { return vip.Address == a }):
		r.fail(v, "give the address that the machine has for itself", "%s is a VIP", a)
	default:
		for _, n := range c.Nodes {
			if slices.Contains(n.Addresses, a) {
				r.fail(v, "", "%s is an address of node %q; nodes serve what they take with forward %q", a, n.Name, lb.ForwardLocal.String())
			}
		}
	}
	return a
}
