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
	others := []string{"backends", "scheduler", "encap", "mss", "flow-idle"}
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
	r.backends(c, s, at(f["backends"], item))
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

func (r *reader) backends(c *Config, s *Service, v value) {
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
	names, owners := make(map[string]bool), make(map[netip.Addr]string)
	for _, item := range items {
		f, ok := r.backendFields(item)
		if !ok {
			continue
		}
		b := Backend{
			Address: r.backendAddress(c, at(f["address"], item)),
			Weight:  r.integer(f["weight"], 0, lb.MaxWeight, defaultWeight),
			Backup:  r.boolean(f["backup"], false),
			Down:    r.boolean(f["down"], false),
		}
		if !b.Address.IsValid() {
			continue
		}
		if owner, taken := owners[b.Address]; taken {
			r.fail(f["address"], "", "%s is the address of backend %q already", b.Address, owner)
		}
		b.Name = b.Address.String()
		if f["name"].given() {
			b.Name = r.name(f["name"], ".-", maxName)
		}
		if names[b.Name] && b.Name != "" && owners[b.Address] == "" {
			r.fail(at(f["name"], item), "", "another backend of the service is called %q", b.Name)
		}
		names[b.Name], owners[b.Address] = true, b.Name
		s.Backends = append(s.Backends, b)
	}
}

// backendFields takes an address alone for a backend that has nothing else to say.
func (r *reader) backendFields(item value) (map[string]value, bool) {
	if item.given() && item.node.Kind == yaml.ScalarNode {
		return map[string]value{"address": item}, true
	}
	return r.fields(item, "name", "address", "weight", "backup", "down")
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
