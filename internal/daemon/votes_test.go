package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
)

func web(backend string) probe.Subject { return probe.Subject{Service: "web", Backend: backend} }

func TestADirectorVotesByItsChecksAndItsWays(t *testing.T) {
	at := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
	cfg := &config.Config{Services: []config.Service{
		{Name: "own", Backends: []config.Backend{{Name: "x", Address: at(9)}}},
		{Name: "web", Forward: lb.ForwardDR, Sorry: &config.Backend{Name: "s", Address: at(8)}, Backends: []config.Backend{
			{Name: "a", Address: at(1)}, {Name: "b", Address: at(2)}, {Name: "c", Address: at(3)}, {Name: "d", Address: at(4), Down: true},
		}},
	}}
	checked := map[probe.Subject]health.Service{
		{Service: "own"}: {Checks: map[string]health.State{"tcp": health.Down}},
		web("a"):         {Checks: map[string]health.State{"tcp": health.Up}},
		web("b"):         {Checks: map[string]health.State{"tcp": health.Down}},
		web("c"):         {Checks: map[string]health.State{"tcp": health.Up}},
	}
	ways := map[netip.Addr]nexthop.Way{at(2): {Pending: true}, at(3): {Problem: "no answer to ARP on eth0"}}
	want := member.Votes{
		web("a"): health.Fine, web("s"): health.Fine,
		web("b"): {Percent: 100, Reason: "check tcp is down"}, web("c"): {Percent: 100, Reason: "no answer to ARP on eth0"},
	}
	if diff := cmp.Diff(want, found(cfg, checked, ways, nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEachServiceSaysHowManyDirectorsMustAgree(t *testing.T) {
	down := health.Vote{Percent: 100, Reason: "check tcp is down"}
	own := member.Votes{web("a"): down, {Service: "dns", Backend: "a"}: down}
	all := map[string]member.Votes{
		"n1": own,
		"n2": {web("a"): health.Fine, {Service: "dns", Backend: "a"}: health.Fine, web("unknown here"): health.Fine},
		"n3": {}, // its configuration is an older one
	}
	own[web("new")] = down // no vote of anybody, this one included
	all["n1"] = cast(own, map[probe.Subject]bool{web("new"): true})
	cfg := &config.Config{Services: []config.Service{{Name: "web", Agree: 50}, {Name: "dns", Agree: 100}}}
	const reason = "1 of 2 directors find it unhealthy; n1: check tcp is down"
	want := map[probe.Subject]health.Vote{
		web("a"):                       {Healthy: true, Percent: 100, Reason: reason},
		{Service: "dns", Backend: "a"}: {Percent: 100, Reason: reason},
		web("new"):                     down,
	}
	if diff := cmp.Diff(want, agreed(cfg, own, all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestABackendIsAskedFromAnAddressOfTheVIPsFamily(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	towards := netip.MustParseAddr("198.51.100.1")
	for _, c := range []struct {
		vip  string
		hop  *lb.NextHop
		own  []netip.Addr
		want netip.Addr
	}{
		{"192.0.2.80", &lb.NextHop{Source: towards}, []netip.Addr{four, six}, towards},
		{"2001:db8::80", &lb.NextHop{Source: towards}, []netip.Addr{four, six}, six},
		{"2001:db8::80", &lb.NextHop{Source: towards}, []netip.Addr{four}, netip.Addr{}},
		{"192.0.2.80", nil, []netip.Addr{six, four}, four},
	} {
		if got := sourceFor(netip.MustParseAddr(c.vip), c.hop, c.own); got != c.want {
			t.Errorf("%s: %s, want %s", c.vip, got, c.want)
		}
	}
}
