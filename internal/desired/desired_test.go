package desired

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
)

const file = `
cluster:
  name: test
  seed: 00000000000000000000000000000000000000000000000000000000000000ff
  node: n2
  nodes:
    - {name: n3, addresses: [192.0.2.13], weight: 50}
    - {name: n1, addresses: [192.0.2.11]}
    - {name: n2, addresses: [192.0.2.12], mac: "02:00:00:00:00:12"}
interface: eth0
vips:
  - {address: "2001:db8::80", mac: group}
  - {address: 192.0.2.80}
services:
  - {name: web, vips: [192.0.2.80, "2001:db8::80"], ports: 80}
  - {name: dns, vips: [192.0.2.80], protocol: udp, ports: 53, hash: source}
`

func parse(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Parse("lb.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func build(t *testing.T, b *Builder, cfg *config.Config, members Members, health Health) *lb.State {
	t.Helper()
	state, err := b.Build(cfg, members, health)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestWithoutMembersAndHealthTheFileIsTheCluster(t *testing.T) {
	got := build(t, &Builder{}, parse(t), nil, nil)
	table := got.Tables[0]
	if len(got.Tables) != 1 {
		t.Errorf("%d tables, want one that all share", len(got.Tables))
	}
	want := &lb.State{
		Cluster: "test",
		Seed:    [32]byte{31: 0xff},
		Nodes: []lb.Node{
			{Index: 0, Name: "n1", Addrs: addrs("192.0.2.11"), Weight: 100},
			{Index: 1, Name: "n2", Addrs: addrs("192.0.2.12"), MAC: []byte{2, 0, 0, 0, 0, 0x12}, Weight: 100, Local: true},
			{Index: 2, Name: "n3", Addrs: addrs("192.0.2.13"), Weight: 50},
		},
		VIPs: []lb.VIP{
			{Addr: netip.MustParseAddr("192.0.2.80"), Interface: "eth0", MAC: []byte{3, 0xbf, 192, 0, 2, 80}},
			{
				Addr: netip.MustParseAddr("2001:db8::80"), Interface: "eth0", MACForm: lb.MACGroup,
				MAC: []byte{0x33, 0x33, 0, 0, 0, 0x80}, Group: netip.MustParseAddr("ff15::80"),
			},
		},
		Services: []lb.Service{
			{Name: "dns", VIP: 0, Protocol: lb.ProtocolUDP, Ports: []lb.PortRange{{First: 53, Last: 53}}, Hash: lb.HashSource},
			{Name: "web", VIP: 0, Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort},
			{Name: "web", VIP: 1, Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort},
		},
		Tables:      []*lb.Table{table},
		SampleDrops: 1000,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func addrs(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }

func TestASickServiceLeavesTheNodeAndNothingElseDoes(t *testing.T) {
	state := build(t, &Builder{}, parse(t), nil, Health{"n1": {"web": {}}})
	for i := range state.Services {
		s := &state.Services[i]
		if got, want := owned(state, s.Table, 0) > 0, s.Name != "web"; got != want {
			t.Errorf("service %s: n1 owns buckets: %v, want %v", s.Name, got, want)
		}
	}
	if owned(state, state.VIPs[0].Table, 0) == 0 {
		t.Error("n1 answers for the VIP no more")
	}
}

func TestMembersOverrideTheFile(t *testing.T) {
	none := 0
	state := build(t, &Builder{}, parse(t), Members{"n1": {Down: true}, "n3": {Weight: &none}}, nil)
	for i, want := range []int{0, lb.Buckets, 0} {
		if got := owned(state, state.VIPs[0].Table, int16(i)); got != want {
			t.Errorf("node %d owns %d buckets, want %d", i, got, want)
		}
	}
}

func owned(state *lb.State, table int, node int16) int {
	n := 0
	for _, owner := range state.Tables[table].Owners {
		if owner == node {
			n++
		}
	}
	return n
}

// What a Builder remembers must not show: only how long it takes differs.
func TestABuilderThatRemembersBuildsTheSame(t *testing.T) {
	var b Builder
	cfg := parse(t)
	light := 10
	for _, step := range []struct {
		members Members
		health  Health
	}{
		{nil, nil},
		{Members{"n2": {Down: true}}, nil},
		{Members{"n2": {Down: true}}, Health{"n1": {"web": {}}}},
		{Members{"n1": {Weight: &light}}, Health{"n3": {"dns": {}}}},
		{nil, nil},
	} {
		got := build(t, &b, cfg, step.members, step.health)
		want := build(t, &Builder{}, cfg, step.members, step.health)
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%v: (-fresh +remembered):\n%s", step, diff)
		}
	}
	before := build(t, &b, cfg, nil, nil)
	if after := build(t, &b, cfg, nil, nil); after.Tables[0] != before.Tables[0] {
		t.Error("the same inputs gave another table")
	}
}
