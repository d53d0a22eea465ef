package daemon

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/announce"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
)

func TestWhatANodeWantsOfAFailoverVIPIsInTheConfiguration(t *testing.T) {
	cfg := sample()
	cfg.VIPs[0].Announce, cfg.VIPs[0].Prefer, cfg.VIPs[0].Preempt = lb.AnnounceFailover, []string{"n1", "n2"}, true
	cfg.VIPs[2].Announce = lb.AnnounceFailover
	cfg.Services[1].Checks = []config.Check{{Name: "http"}}
	got := wishesOf(cfg, map[string]health.Service{
		"web": {Checks: map[string]health.State{"http": health.Up}},
		"dns": {Checks: map[string]health.State{"http": health.Down}},
	}, true)
	wantWholes := map[string]member.Whole{
		"vip 192.0.2.100": {VIP: vip4, Priority: ownership.MaxPriority - 1},
		"vip 192.0.2.101": {VIP: cfg.VIPs[2].Address, Stay: true},
	}
	if diff := cmp.Diff(wantWholes, got.Wholes, comparable); diff != "" {
		t.Errorf("domains that one node has (-want +got):\n%s", diff)
	}
	wantDomains := map[string]health.Service{
		"":            {},
		"service web": {Checks: map[string]health.State{"http": health.Up}},
		"vip 192.0.2.100": {
			Checks: map[string]health.State{"web http": health.Up, "dns http": health.Down},
		},
		"vip 192.0.2.101": {},
	}
	if diff := cmp.Diff(wantDomains, got.Domains, comparable); diff != "" {
		t.Errorf("health (-want +got):\n%s", diff)
	}
	if least := got.MinNodes["vip 192.0.2.100"]; least != 9 {
		t.Errorf("health counts from %d healthy nodes on, want the most that a service asks for: 9", least)
	}
}

func TestANodeAnnouncesTheFailoverVIPsThatItHolds(t *testing.T) {
	virtual := net.HardwareAddr{0, 0, 0x5e, 0, 1, 80}
	table := func(owner int16, mark lb.Mark) *lb.Table {
		return &lb.Table{Owners: slices.Repeat([]int16{owner}, lb.Buckets), Marks: slices.Repeat([]lb.Mark{mark}, lb.Buckets)}
	}
	state := &lb.State{
		Nodes: []lb.Node{{Name: "n1"}, {Name: "n2", Index: 1, Local: true}},
		VIPs: []lb.VIP{
			{Addr: vip4, Interface: "eth0", Announce: lb.AnnounceFailover, MAC: virtual},
			{Addr: vip6, Interface: "eth1", Announce: lb.AnnounceFailover},
			{Addr: vip6.Next(), Interface: "eth1"},
		},
	}
	both := []announce.VIP{{Addr: vip4, Interface: "eth0", MAC: virtual}, {Addr: vip6, Interface: "eth1"}}
	for _, test := range []struct {
		name  string
		table *lb.Table
		want  []announce.VIP
	}{
		{"at rest", &lb.Table{Owners: slices.Repeat([]int16{1}, lb.Buckets)}, both},
		{"while others have flows", table(1, lb.MarkContested), both},
		{"not here yet", table(1, lb.MarkWaiting), nil},
		{"on its way to another", table(0, lb.MarkDelegate), nil},
		{"another's", table(0, lb.MarkMaybeLocal), nil},
		{"nobody's", table(lb.NoNode, 0), nil},
	} {
		state.Tables = []*lb.Table{test.table}
		if diff := cmp.Diff(test.want, announcements(state), comparable); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAClaimIsAProblemForAMinute(t *testing.T) {
	claims := map[string]time.Time{"never": {}, "now": time.Now(), "long ago": time.Now().Add(-2 * claimStands)}
	for name, last := range claims {
		var s control.Status
		describeClaims(&s, map[netip.Addr]claim{vip4: {frames: 3, last: last}})
		if got := len(s.Problems) > 0; got != (name == "now") {
			t.Errorf("%s: problems %q", name, s.Problems)
		}
	}
}

func TestAVIPThatIsHandedOverIsWhereItWas(t *testing.T) {
	const n1, n2 = 0, 1
	for _, test := range []struct {
		what  string
		local int
		owner int16
		mark  lb.Mark
		want  string
	}{
		{"at rest, here", n1, n1, 0, "n1"},
		{"at rest, elsewhere", n1, n2, 0, "n2"},
		{"new flows go on to the next owner", n1, n2, lb.MarkDelegate, "n1"},
		{"the next owner waits for it", n2, n2, lb.MarkWaiting, ""},
		{"it was handed over, with flows that stay", n1, n2, lb.MarkMaybeLocal, "n2"},
		{"nobody has it", n1, lb.NoNode, 0, ""},
	} {
		table := &lb.Table{Owners: []int16{test.owner}, Marks: []lb.Mark{test.mark}}
		nodes := []lb.Node{{Name: "n1", Local: test.local == n1}, {Name: "n2", Index: 1, Local: test.local == n2}}
		state := &lb.State{Nodes: nodes, Tables: []*lb.Table{table}}
		got := ""
		if n := holderOf(state, new(lb.VIP)); n != nil {
			got = n.Name
		}
		if got != test.want {
			t.Errorf("%s: at %q, want %q", test.what, got, test.want)
		}
	}
}
