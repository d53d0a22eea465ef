package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// ports reads one port, a range, all, or a list of those; sorted, neighbours joined.
func (r *reader) ports(v value, protocol lb.Protocol) []lb.PortRange {
	if protocol == lb.ProtocolAny {
		r.noPorts(v)
		return []lb.PortRange{lb.AllPorts}
	}
	items, ok := r.items(v, true)
	switch {
	case !ok:
		return nil
	case len(items) == 0:
		r.fail(v, portsHint, "names no port")
		return nil
	case len(items) > maxRanges:
		r.fail(v, "", "%d ports and ranges are more than %d", len(items), maxRanges)
		return nil
	}
	var list []placedRange
	for i, item := range items {
		if p, ok := r.portRange(item); ok {
			list = append(list, placedRange{p, i, item})
		}
	}
	return joined(r.disjoint(list))
}

const portsHint = `give a port, a range, or "all"`

// noPorts lets "all" stand, which is what the effective configuration says.
func (r *reader) noPorts(v value) {
	items, _ := r.items(v, true)
	for i, item := range items {
		if s, ok := r.text(item); ok && s != "all" || i > 0 {
			r.fail(v, "leave them out", `protocol "any" has no ports`)
			return
		}
	}
}

type placedRange struct {
	ports lb.PortRange
	index int // in the list
	at    value
}

// disjoint sorts, and refuses what is given twice at the later of the two places.
func (r *reader) disjoint(list []placedRange) []lb.PortRange {
	slices.SortStableFunc(list, func(a, b placedRange) int { return cmp.Compare(a.ports.First, b.ports.First) })
	out := make([]lb.PortRange, len(list))
	furthest, valid := 0, true
	for i, p := range list {
		out[i] = p.ports
		if before := list[furthest]; i > 0 && p.ports.First <= before.ports.Last {
			first, second := before, p
			if first.index > second.index {
				first, second = second, first
			}
			r.fail(second.at, "", "%s overlaps with %s", second.ports, first.ports)
			valid = false
		}
		if p.ports.Last > list[furthest].ports.Last {
			furthest = i
		}
	}
	if !valid {
		return nil
	}
	return out
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
	if !v.given() {
		r.fail(v, portsHint, "names no port")
		return lb.PortRange{}, false
	}
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
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	if !decimal.MatchString(first) || !decimal.MatchString(last) {
		r.fail(v, "", `%q is not a port, a range like 8000-8099, or "all"`, s)
		return lb.PortRange{}, false
	}
	low, ok := r.port(v, first)
	if !ok {
		return lb.PortRange{}, false
	}
	high, ok := r.port(v, last)
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
	if err != nil || n < 1 || n > maxPorts {
		r.fail(v, "", "%s is not in 1..%d", s, maxPorts)
		return 0, false
	}
	return uint16(n), true
}
