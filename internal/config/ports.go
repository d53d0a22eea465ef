package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// ports reads one port, a range, all, or a list of those; sorted, neighbours joined.
func (r *reader) ports(v value, given bool, protocol lb.Protocol) []lb.PortRange {
	if protocol == lb.ProtocolAny {
		if s, ok := r.text(v); ok && s != "all" {
			r.fail(v, "", `protocol "any" has no ports: leave them out`)
		}
		return []lb.PortRange{lb.AllPorts}
	}
	if !given {
		r.fail(v, `give a port, a range, or "all"`, "missing")
		return nil
	}
	var list []lb.PortRange
	for _, item := range r.items(v, true) {
		if p, ok := r.portRange(item); ok {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b lb.PortRange) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(list); i++ {
		if list[i].First <= list[i-1].Last {
			r.fail(v, "", "%s and %s overlap", list[i-1], list[i])
		}
	}
	return joined(list)
}

// joined makes one range of two that touch: 80 and 81 are 80-81.
func joined(list []lb.PortRange) []lb.PortRange {
	var out []lb.PortRange
	for _, p := range list {
		if n := len(out); n > 0 && int(out[n-1].Last)+1 == int(p.First) {
			out[n-1].Last = p.Last
			continue
		}
		out = append(out, p)
	}
	return out
}

func (r *reader) portRange(v value) (lb.PortRange, bool) {
	s, ok := r.text(v)
	if !ok {
		return lb.PortRange{}, false
	}
	if s == "all" {
		return lb.AllPorts, true
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	low, ok := r.port(v, strings.TrimSpace(first))
	if !ok {
		return lb.PortRange{}, false
	}
	high, ok := r.port(v, strings.TrimSpace(last))
	if !ok {
		return lb.PortRange{}, false
	}
	if low > high {
		r.fail(v, "", "%d-%d is empty: the first port is above the last", low, high)
		return lb.PortRange{}, false
	}
	return lb.PortRange{First: low, Last: high}, true
}

func (r *reader) port(v value, s string) (uint16, bool) {
	n, err := strconv.Atoi(s)
	if err != nil {
		r.fail(v, "", `%q is not a port, a range like 8000-8099, or "all"`, s)
		return 0, false
	}
	if n < 1 || n > maxPorts {
		r.fail(v, "", "%d is not in 1..%d", n, maxPorts)
		return 0, false
	}
	return uint16(n), true
}

// A placement is which service has which ports, to find two that have the same.
type placement struct {
	taken map[vipProtocol][]portOwner
	count int
}

type vipProtocol struct {
	vip      netip.Addr
	protocol lb.Protocol
}

type portOwner struct {
	ports   lb.PortRange
	service string
}

// overlaps refuses two services for one port. "all" is what is left over, so it may stand beside
// others, but once.
func (r *reader) overlaps(p *placement, s *Service, at value) {
	for _, vip := range s.VIPs {
		p.count++
		key := vipProtocol{vip, s.Protocol}
		for _, ports := range s.Ports {
			for _, other := range p.taken[key] {
				if (ports == lb.AllPorts) != (other.ports == lb.AllPorts) {
					continue
				}
				if ports.First <= other.ports.Last && other.ports.First <= ports.Last {
					r.fail(at, "", "service %q has %s port %s of %s already", other.service, s.Protocol, other.ports, vip)
				}
			}
		}
		for _, ports := range s.Ports {
			p.taken[key] = append(p.taken[key], portOwner{ports, s.Name})
		}
	}
}
