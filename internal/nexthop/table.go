package nexthop

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// An entry is a prefix of a routing table and, where that is simple, how its packets go.
type entry struct {
	prefix netip.Prefix
	metric uint32
	local  bool  // of the table that is looked at first
	simple bool  // by a gateway or on a link, and nothing besides; what is not, the kernel has to be asked about
	next   place // without an address: on the link
}

// summarize makes a few of entries, in the order in which the kernel looks at them. hop finds a gateway's MAC, or
// nil.
func summarize(entries []entry, hop func(place) *lb.RouteHop) []lb.Route {
	routes := routesOf(inOrder(entries), hop)
	for routes = withoutHidden(routes); len(routes) > lb.MaxRoutes; routes = withoutHidden(routes) {
		if !mergeClosest(routes) && !askLongest(routes) {
			return nil
		}
	}
	return routes
}

// inOrder is one entry for each prefix: those of the local table, then longer prefixes first.
func inOrder(entries []entry) []entry {
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b entry) int {
		return cmp.Or(compareBools(b.local, a.local), cmp.Compare(b.prefix.Bits(), a.prefix.Bits()),
			a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.metric, b.metric))
	})
	var decisive []entry
	for i, e := range sorted {
		same := func(j int) bool {
			return j >= 0 && j < len(sorted) && sorted[j].local == e.local && sorted[j].prefix == e.prefix
		}
		if same(i - 1) {
			continue // of a higher metric, or seen
		}
		e.simple = e.simple && !e.local && (!same(i+1) || sorted[i+1].metric != e.metric)
		decisive = append(decisive, e)
	}
	return decisive
}

func routesOf(ordered []entry, hop func(place) *lb.RouteHop) []lb.Route {
	var routes []lb.Route
	for _, e := range ordered {
		r := lb.Route{Prefix: e.prefix}
		if e.simple && e.next.addr.IsValid() {
			r.Hop = hop(e.next)
		}
		routes = append(routes, r)
	}
	return routes
}

// A wire is a prefix of which packets go to whoever has the address, on a link of our own.
type wire struct {
	prefix netip.Prefix
	index  int
	others []netip.Prefix // that decide about some of its addresses before it
}

// wires finds them among entries in order.
func wires(ordered []entry) []wire {
	var all []wire
	for i, e := range ordered {
		if !e.simple || e.next.addr.IsValid() {
			continue
		}
		w := wire{prefix: e.prefix, index: e.next.index}
		for _, before := range ordered[:i] {
			if before.prefix.Overlaps(e.prefix) {
				w.others = append(w.others, before.prefix)
			}
		}
		all = append(all, w)
	}
	return all
}

// holds says whether packets to an address go to it by this link.
func (w *wire) holds(at place) bool {
	return w.index == at.index && w.prefix.Contains(at.addr) &&
		!slices.ContainsFunc(w.others, func(p netip.Prefix) bool { return p.Contains(at.addr) })
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// withoutHidden leaves out what changes nothing: what an earlier one has all addresses of, and what the
// kernel is asked about where it is asked all the same.
func withoutHidden(routes []lb.Route) []lb.Route {
	var kept []lb.Route
	for i, r := range routes {
		hidden := slices.ContainsFunc(kept, func(k lb.Route) bool {
			return k.Prefix.Bits() <= r.Prefix.Bits() && k.Prefix.Contains(r.Prefix.Addr())
		})
		if !hidden && (r.Hop != nil || decidesBehind(r, routes[i+1:])) {
			kept = append(kept, r)
		}
	}
	return kept
}

// decidesBehind says whether an address of a prefix could find a hop behind it.
func decidesBehind(r lb.Route, behind []lb.Route) bool {
	for _, b := range behind {
		switch {
		case !b.Prefix.Overlaps(r.Prefix):
		case b.Hop != nil:
			return true
		case b.Prefix.Bits() <= r.Prefix.Bits():
			return false
		}
	}
	return false
}

// mergeClosest makes one of the two prefixes that the kernel is asked about and that have most in common:
// asking about more than is needed is slow, but right.
func mergeClosest(routes []lb.Route) bool {
	var asked []int
	for i, r := range routes {
		if r.Hop == nil {
			asked = append(asked, i)
		}
	}
	slices.SortFunc(asked, func(a, b int) int { return routes[a].Prefix.Addr().Compare(routes[b].Prefix.Addr()) })
	best, at := netip.Prefix{}, -1
	for i := 1; i < len(asked); i++ {
		if p := common(routes[asked[i-1]].Prefix, routes[asked[i]].Prefix); at < 0 || p.Bits() > best.Bits() {
			best, at = p, i
		}
	}
	if at < 0 {
		return false
	}
	// both: the later one is hidden by the earlier one now
	routes[asked[at-1]].Prefix, routes[asked[at]].Prefix = best, best
	return true
}

// common is the longest prefix that has both in it.
func common(a, b netip.Prefix) netip.Prefix {
	for bits := min(a.Bits(), b.Bits()); ; bits-- {
		if p, _ := a.Addr().Prefix(bits); p.Contains(b.Addr()) {
			return p
		}
	}
}

// askLongest has the kernel asked about the longest prefix that has a hop.
func askLongest(routes []lb.Route) bool {
	at := slices.IndexFunc(routes, func(r lb.Route) bool { return r.Hop != nil })
	if at < 0 {
		return false
	}
	routes[at].Hop = nil
	return true
}
