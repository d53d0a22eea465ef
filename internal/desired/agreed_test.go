package desired

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
)

func TestFailoverVIPsOfOneNodeShareATable(t *testing.T) {
	cfg := parse(t)
	for _, text := range []string{"192.0.2.81", "192.0.2.82", "192.0.2.83", "192.0.2.84"} {
		cfg.VIPs = append(cfg.VIPs, config.VIP{Address: addrs(text)[0], Interface: "eth0", Announce: lb.AnnounceFailover})
	}
	cfg.Services[0].VIPs = append(cfg.Services[0].VIPs, addrs("192.0.2.82")...)
	of := func(owner int16) *lb.Table { return &lb.Table{Owners: slices.Repeat([]int16{owner}, lb.Buckets)} }
	moving := of(1)
	moving.Marks = slices.Repeat([]lb.Mark{lb.MarkDelegate}, lb.Buckets)
	agreed := &Agreement{
		Nodes: []lb.Node{{Name: "n1"}, {Name: "n2", Index: 1}},
		Tables: map[string]*lb.Table{
			VIPDomain: of(1), "nodes": of(1), // alike, and not for long
			"vip 192.0.2.81": of(1), "vip 192.0.2.82": of(0), "vip 192.0.2.83": of(1), "vip 192.0.2.84": moving,
		},
	}
	state, err := Agreed(cfg, agreed, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for i := range state.VIPs {
		got[state.VIPs[i].Addr.String()] = state.VIPs[i].Table
	}
	want := map[string]int{
		"192.0.2.80": 0, "2001:db8::80": 0, "192.0.2.81": 1, "192.0.2.82": 2, "192.0.2.83": 1, "192.0.2.84": 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables of VIPs (-want +got):\n%s", diff)
	}
	for i := range state.Services {
		if s := &state.Services[i]; state.VIPs[s.VIP].Addr == addrs("192.0.2.82")[0] && s.Table != 2 {
			t.Errorf("%s has table %d, want that of its VIP", s.Name, s.Table)
		}
	}
	for _, met := range []bool{false, true} {
		agreed.Met = met
		state, err := Agreed(cfg, agreed, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range state.VIPs {
			v := &state.VIPs[i]
			if want := met && v.Announce == lb.AnnounceFailover; v.HandOn != want {
				t.Errorf("peers met %v: what comes for %s is handed on: %v, want %v", met, v.Addr, v.HandOn, want)
			}
		}
	}
	if len(state.Tables) != 5 {
		t.Errorf("%d tables, want 5", len(state.Tables))
	}
}
