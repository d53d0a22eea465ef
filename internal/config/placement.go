package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// A placement is which service has which ports of a VIP, to find two that have the same.
type placement struct {
	keys   []vipProtocol // in the order of the file
	owners map[vipProtocol][]portOwner
	count  int // of services, one for each VIP they have
}

type vipProtocol struct {
	vip      netip.Addr
	protocol lb.Protocol
}

type portOwner struct {
	ports   lb.PortRange
	service string
	index   int // in the file
	at      value
}

func (p *placement) add(s *Service, index int, at value) {
	for _, vip := range s.VIPs {
		p.count++
		key := vipProtocol{vip, s.Protocol}
		if _, known := p.owners[key]; !known {
			p.keys = append(p.keys, key)
		}
		for _, ports := range s.Ports {
			p.owners[key] = append(p.owners[key], portOwner{ports, s.Name, index, at})
		}
	}
}

// overlaps refuses two services for one port. "all" is what is left over, so it may stand beside
// others, but once.
func (r *reader) overlaps(p *placement) {
	for _, key := range p.keys {
		owners := p.owners[key]
		slices.SortStableFunc(owners, func(a, b portOwner) int { return cmp.Compare(a.ports.First, b.ports.First) })
		var rest, last *portOwner // of those before: the one with all, the one that reaches furthest
		for i := range owners {
			owner, before := &owners[i], &last
			if owner.ports == lb.AllPorts {
				before = &rest
			}
			if *before != nil && owner.ports.First <= (*before).ports.Last {
				r.overlap(key, *before, owner)
			}
			if *before == nil || owner.ports.Last > (*before).ports.Last {
				*before = owner
			}
		}
	}
}

// sourcePorts refuses services that leave full NAT at their VIP too few ports to leave from: those with a
// port of a service are not used.
func (r *reader) sourcePorts(c *Config, p *placement) {
	for i := range c.Services {
		s := &c.Services[i]
		if !s.SourceNAT || len(s.VIPs) == 0 {
			continue
		}
		left := int(lb.SourcePorts.Last) - int(lb.SourcePorts.First) + 1
		for _, protocol := range []lb.Protocol{s.Protocol, lb.ProtocolAny} {
			for _, owner := range p.owners[vipProtocol{s.VIPs[0], protocol}] {
				first, last := max(owner.ports.First, lb.SourcePorts.First), min(owner.ports.Last, lb.SourcePorts.Last)
				if left -= max(0, int(last)-int(first)+1); left < minSourcePorts {
					r.fail(owner.at, "", "service %q leaves from ports %s of %s with source-nat: at least %d of them must not be services'",
						s.Name, lb.SourcePorts, s.VIPs[0], minSourcePorts)
					break
				}
			}
		}
	}
}

// overlap is told at the later of two services in the file.
func (r *reader) overlap(key vipProtocol, a, b *portOwner) {
	if a.index > b.index {
		a, b = b, a
	}
	r.fail(b.at, "", "service %q takes %s of %s already", a.service, key.portsText(a.ports), key.vip)
}

func (k vipProtocol) portsText(ports lb.PortRange) string {
	switch {
	case k.protocol == lb.ProtocolAny:
		return "every other protocol"
	case ports == lb.AllPorts:
		return fmt.Sprintf("every other %s port", k.protocol)
	case ports.First == ports.Last:
		return fmt.Sprintf("%s port %s", k.protocol, ports)
	}
	return fmt.Sprintf("%s ports %s", k.protocol, ports)
}
