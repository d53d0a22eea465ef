package desired

import (
	"net"
	"net/netip"
	"slices"
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

func build(t testing.TB, b *Builder, cfg *config.Config, members Members, health Health) *lb.State {
	t.Helper()
	state, err := b.Build(cfg, members, health, nil)
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
	if diff := cmp.Diff(want, got, whole()...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// whole compares States by value, and tables without looking at each owner through reflection.
func whole() []cmp.Option {
	return []cmp.Option{
		cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
		cmp.Comparer(func(a, b *lb.Table) bool { return slices.Equal(a.Owners, b.Owners) }),
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

// A drained node keeps flows, and their clients must find the VIP.
func TestDrainedNodesAnswerForTheVIPWhereNobodyElseDoes(t *testing.T) {
	none := 0
	state := build(t, &Builder{}, parse(t), Members{"n1": {Weight: &none}, "n2": {Weight: &none}, "n3": {Down: true}}, nil)
	vip, service := state.VIPs[0].Table, state.Services[0].Table
	if got := owned(state, vip, 0) + owned(state, vip, 1); got != lb.Buckets {
		t.Errorf("n1 and n2 answer for %d buckets of %d", got, lb.Buckets)
	}
	if got := owned(state, service, lb.NoNode); got != lb.Buckets {
		t.Errorf("a service has owners for %d buckets, want none", lb.Buckets-got)
	}
}

func TestEqualWeightsShareATable(t *testing.T) {
	state := build(t, &Builder{}, parse(t), nil, Health{"n1": {"web": {}}})
	if got := len(state.Tables); got != 2 {
		t.Errorf("%d tables, want one for the VIPs and dns and one for web", got)
	}
	if web4, web6 := state.Services[1].Table, state.Services[2].Table; web4 != web6 {
		t.Errorf("web has tables %d and %d", web4, web6)
	}
	if dns, vip := state.Services[0].Table, state.VIPs[0].Table; dns != vip {
		t.Errorf("dns has table %d, its VIP %d", dns, vip)
	}
}

func TestALearntMACFillsInWhatTheFileLeavesOut(t *testing.T) {
	learnt := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	state := build(t, &Builder{}, parse(t), Members{"n1": {MAC: learnt}, "n2": {MAC: learnt}}, nil)
	for i, want := range []string{"02:00:00:00:00:99", "02:00:00:00:00:12", ""} {
		if got := state.Nodes[i].MAC.String(); got != want {
			t.Errorf("%s: %q, want %q", state.Nodes[i].Name, got, want)
		}
	}
}

func TestAnExplicitMACIsKept(t *testing.T) {
	cfg := parse(t)
	cfg.VIPs[1].MACForm, cfg.VIPs[1].MAC = lb.MACExplicit, net.HardwareAddr{3, 1, 2, 3, 4, 5}
	vip := build(t, &Builder{}, cfg, nil, nil).VIPs[0]
	if diff := cmp.Diff(cfg.VIPs[1].MAC, vip.MAC); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeAStateIsRefused(t *testing.T) {
	heavy := lb.MaxWeight + 1
	for _, test := range []struct {
		name    string
		change  func(*config.Config)
		members Members
		want    string
	}{
		{"a weight above the limit", func(*config.Config) {}, Members{"n1": {Weight: &heavy}}, "node n1: weight 257 is not in 0..256"},
		{"too many nodes", func(c *config.Config) { c.Nodes = make([]config.Node, lb.MaxNodes+1) }, nil, "65 nodes are more than 64"},
		{"a service without its VIP", func(c *config.Config) { c.VIPs = c.VIPs[1:] }, nil, "service web: 2001:db8::80 is no VIP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := parse(t)
			test.change(cfg)
			if _, err := (&Builder{}).Build(cfg, test.members, nil, nil); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// What a Builder remembers must not show: only how long it takes differs.
func TestABuilderThatRemembersBuildsTheSame(t *testing.T) {
	var b Builder
	cfg, smaller, larger := parse(t), parse(t), parse(t)
	smaller.Nodes = smaller.Nodes[:2]
	smaller.VIPs, smaller.Services = smaller.VIPs[1:], smaller.Services[1:]
	larger.Nodes = append(larger.Nodes, config.Node{Name: "n0", Weight: 7}, config.Node{Name: "n9", Weight: 100})
	light := 10
	for _, step := range []struct {
		cfg     *config.Config
		members Members
		health  Health
	}{
		{cfg, nil, nil},
		{cfg, Members{"n2": {Down: true}}, nil},
		{cfg, Members{"n2": {Down: true}}, Health{"n1": {"web": {}}}},
		{larger, Members{"n2": {Down: true}}, Health{"n1": {"web": {}}}},
		{smaller, Members{"n1": {Weight: &light}}, Health{"n3": {"dns": {}}}},
		{larger, nil, Health{"n0": {"web": {}, "dns": {}}}},
		{cfg, nil, nil},
	} {
		got := build(t, &b, step.cfg, step.members, step.health)
		want := build(t, &Builder{}, step.cfg, step.members, step.health)
		if diff := cmp.Diff(want, got, whole()...); diff != "" {
			t.Errorf("%v: (-fresh +remembered):\n%s", step, diff)
		}
	}
	before := build(t, &b, cfg, nil, nil)
	if after := build(t, &b, cfg, nil, nil); after.Tables[0] != before.Tables[0] {
		t.Error("the same inputs gave another table")
	}
}
