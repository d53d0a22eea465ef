package nexthop

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

func at(n byte) place { return place{int(n), netip.AddrFrom4([4]byte{192, 0, 2, n})} }

// hops knows all gateways but one.
func hops(at place) *lb.RouteHop {
	if at.index == 9 {
		return nil
	}
	return &lb.RouteHop{Index: at.index}
}

func short(routes []lb.Route) (all []string) {
	for _, r := range routes {
		text := r.Prefix.String()
		if r.Hop != nil {
			text += fmt.Sprint(" ", r.Hop.Index)
		}
		all = append(all, text)
	}
	return all
}

func TestRoutesAreSummarizedAsTheKernelLooksAtThem(t *testing.T) {
	prefix := netip.MustParsePrefix
	all := prefix("0.0.0.0/0")
	for _, test := range []struct {
		what    string
		entries []entry
		want    []string
	}{
		{"nothing", nil, nil},
		{"only links", []entry{{prefix: prefix("192.0.2.0/24")}}, nil},
		{"a gateway and a link", []entry{
			{prefix: all, simple: true, next: at(1)},
			{prefix: prefix("192.0.2.0/24")},
			{prefix: prefix("192.0.2.7/32"), local: true},
			{prefix: prefix("198.51.100.7/32"), local: true},
		}, []string{"198.51.100.7/32", "192.0.2.0/24", "0.0.0.0/0 1"}},
		{"an address of ours in a net behind a gateway", []entry{
			{prefix: prefix("198.51.100.0/24"), simple: true, next: at(1)},
			{prefix: prefix("198.51.100.7/32"), local: true},
		}, []string{"198.51.100.7/32", "198.51.100.0/24 1"}},
		{"the local table goes before longer prefixes", []entry{
			{prefix: prefix("198.51.100.0/28"), simple: true, next: at(1)},
			{prefix: prefix("198.51.100.0/24"), local: true},
			{prefix: all, simple: true, next: at(2)},
		}, []string{"198.51.100.0/24", "0.0.0.0/0 2"}},
		{"a link in a net behind a gateway in a link", []entry{
			{prefix: prefix("10.0.0.0/8")},
			{prefix: prefix("10.1.0.0/16"), simple: true, next: at(1)},
			{prefix: prefix("10.1.2.0/24")},
		}, []string{"10.1.2.0/24", "10.1.0.0/16 1"}},
		{"the lower metric", []entry{
			{prefix: all, simple: true, next: at(2), metric: 200},
			{prefix: all, simple: true, next: at(1), metric: 100},
		}, []string{"0.0.0.0/0 1"}},
		{"two of one metric", []entry{
			{prefix: all, simple: true, next: at(2)},
			{prefix: all, simple: true, next: at(1)},
		}, nil},
		{"one of a lower metric that is not simple", []entry{
			{prefix: all, simple: true, next: at(2), metric: 200},
			{prefix: all, metric: 100},
		}, nil},
		{"a gateway without a MAC", []entry{
			{prefix: prefix("198.51.100.0/24"), simple: true, next: at(9)},
			{prefix: all, simple: true, next: at(1)},
		}, []string{"198.51.100.0/24", "0.0.0.0/0 1"}},
	} {
		if diff := cmp.Diff(test.want, short(summarize(test.entries, hops))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.what, diff)
		}
	}
}

// A summary may ask too often; it never says something else than the table itself.
func TestASummaryNeverContradictsTheTable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	known, near := 0, 0
	for range 2000 {
		var entries []entry
		for range 1 + random.IntN(40) {
			bits := random.IntN(33)
			prefix, _ := netip.AddrFrom4([4]byte{byte(random.IntN(4)), byte(random.IntN(4)), 0, byte(random.IntN(256))}).Prefix(bits)
			e := entry{
				prefix: prefix, metric: uint32(random.IntN(3)), local: random.IntN(4) == 0,
				simple: random.IntN(3) > 0, next: at(byte(1 + random.IntN(9))),
			}
			if random.IntN(3) == 0 {
				e.next = place{index: 1 + random.IntN(3)} // on the link
			}
			entries = append(entries, e)
		}
		routes, links := summarize(entries, hops), wires(inOrder(entries))
		if len(routes) > lb.MaxRoutes {
			t.Fatalf("%d routes", len(routes))
		}
		for range 50 {
			addr := netip.AddrFrom4([4]byte{byte(random.IntN(5)), byte(random.IntN(5)), 0, byte(random.IntN(256))})
			by := kernel(entries, addr)
			for index := range 4 {
				isNear := slices.ContainsFunc(links, func(w wire) bool { return w.holds(place{index, addr}) })
				if want := by != nil && by.next == (place{index: index}); isNear != want {
					t.Fatalf("%s on link %d: near: %t, want %t\n%+v", addr, index, isNear, want, entries)
				}
				if isNear {
					near++
				}
			}
			var want *lb.RouteHop
			if by != nil && by.next.addr.IsValid() {
				want = hops(by.next)
			}
			got := find(routes, addr)
			if got != nil && (want == nil || got.Index != want.Index) {
				t.Fatalf("%s: %v, want %v\n%+v\n%v", addr, got, want, entries, short(routes))
			}
			if got != nil {
				known++
			}
		}
	}
	if known < 5000 || near < 5000 {
		t.Errorf("%d addresses were known and %d near of 100000: this says little", known, near)
	}
}

func find(routes []lb.Route, addr netip.Addr) *lb.RouteHop {
	for _, r := range routes {
		if r.Prefix.Contains(addr) {
			return r.Hop
		}
	}
	return nil
}

// kernel looks at the local table, then for the longest prefix of the lowest metric. nil is for what is not
// simple, too.
func kernel(entries []entry, addr netip.Addr) *entry {
	var best *entry
	equal := false
	for i := range entries {
		e := &entries[i]
		if !e.prefix.Contains(addr) {
			continue
		}
		if e.local {
			return nil
		}
		switch {
		case best == nil || e.prefix.Bits() > best.prefix.Bits() || e.prefix.Bits() == best.prefix.Bits() && e.metric < best.metric:
			best, equal = e, false
		case e.prefix.Bits() == best.prefix.Bits() && e.metric == best.metric:
			equal = true
		}
	}
	if best == nil || equal || !best.simple {
		return nil
	}
	return best
}
