package daemon

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
)

var (
	vip4, vip6 = netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8::100")
	comparable = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}
)

// sample is the configuration of n2, one of two, with a service that is checked and one that is not.
func sample() *config.Config {
	return &config.Config{
		ClusterName: "prod", Node: "n2", Seed: [32]byte{7}, Shutdown: config.Leave,
		Nodes: []config.Node{
			{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Weight: 1},
			{
				Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
				MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Weight: 5,
			},
		},
		VIPs: []config.VIP{
			{Address: vip4, Interface: "eth1"}, {Address: vip6, Interface: "eth0", Other: lb.OtherDrop},
			{Address: netip.MustParseAddr("192.0.2.101"), Interface: "eth1", Other: lb.OtherDrop},
		},
		Services: []config.Service{
			{
				Name: "web", VIPs: []netip.Addr{vip4, vip6}, Protocol: lb.ProtocolTCP,
				Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort,
				Checks: []config.Check{{Name: "http"}}, MinNodes: 2, UDPIdle: 5 * time.Second,
			},
			{
				Name: "dns", VIPs: []netip.Addr{vip4}, Protocol: lb.ProtocolUDP,
				Ports: []lb.PortRange{{First: 53, Last: 53}}, Hash: lb.HashSource, MinNodes: 9, // means nothing without checks
				UDPIdle: 45 * time.Second, // the longest counts
			},
		},
		Membership: &config.Membership{
			Port: 7946, KeyFile: "/etc/lb/key", Preset: config.PresetLAN, Partition: config.PartitionMajority,
			Heartbeat: 40 * time.Millisecond, DeadAfter: 400 * time.Millisecond, Lease: 160 * time.Millisecond,
			Absence: 30 * time.Second,
		},
	}
}

func TestWhatARunningLbdCannotChange(t *testing.T) {
	const membership = "cluster.membership changed: restart lbd to use it"
	const name = "cluster.name or cluster.node changed: restart lbd to use it"
	witness := []netip.Addr{netip.MustParseAddr("192.0.2.254")}
	for _, c := range []struct {
		what    string
		change  func(now, fresh *config.Config)
		running bool // as a member
		want    string
	}{
		{"nothing", func(_, _ *config.Config) {}, true, ""},
		{"no membership before and after", func(now, fresh *config.Config) { now.Membership, fresh.Membership = nil, nil }, false, ""},
		{"a weight", func(_, fresh *config.Config) { fresh.Nodes[1].Weight = 9 }, true, ""},
		{"one node more", func(_, fresh *config.Config) { fresh.Nodes = append(fresh.Nodes, config.Node{Name: "n3"}) }, true, ""},
		{"a service less", func(_, fresh *config.Config) { fresh.Services = fresh.Services[:1] }, true, ""},
		{"who goes on after a cut", func(_, fresh *config.Config) { fresh.Membership.Partition = config.PartitionAny }, true, ""},
		{"membership begins", func(now, _ *config.Config) { now.Membership = nil }, false, membership},
		{"membership ends", func(_, fresh *config.Config) { fresh.Membership = nil }, true, membership},
		{"the port", func(_, fresh *config.Config) { fresh.Membership.Port++ }, true, membership},
		{"the heartbeat", func(_, fresh *config.Config) { fresh.Membership.Heartbeat *= 2 }, true, membership},
		{"the lease", func(_, fresh *config.Config) { fresh.Membership.Lease /= 2 }, true, membership},
		{"the key file", func(_, fresh *config.Config) { fresh.Membership.KeyFile = "/etc/lb/other" }, true, membership},
		{"a witness", func(_, fresh *config.Config) {
			fresh.Membership.Partition, fresh.Membership.Witness = config.PartitionWitness, witness
		}, true, membership},
		{"another witness list that is the same", func(now, fresh *config.Config) {
			now.Membership.Witness, fresh.Membership.Witness = witness, []netip.Addr{witness[0]}
		}, true, ""},
		{"the name of a member", func(_, fresh *config.Config) { fresh.Node = "n1" }, true, name},
		{"the name of its cluster", func(_, fresh *config.Config) { fresh.ClusterName = "test" }, true, name},
		{"the name of one that is no member", func(now, fresh *config.Config) {
			now.Membership, fresh.Membership, fresh.Node = nil, nil, "n1"
		}, false, ""},
	} {
		now, fresh := sample(), sample()
		c.change(now, fresh)
		p := &planner{cfg: now}
		if c.running {
			p.member = new(member.Member)
		}
		got := ""
		if err := p.changeable(fresh); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

func TestWhatANodeWantsFollowsItsConfigurationAndItsChecks(t *testing.T) {
	sick := health.Service{Checks: map[string]health.State{"http": health.Down}}
	got := wishesOf(sample(), map[string]health.Service{"web": sick, "of no service": {}}, true)
	port := func(n uint16) []lb.PortRange { return []lb.PortRange{{First: n, Last: n}} }
	want := member.Wishes{
		Weight: 5, Seed: [32]byte{7}, Ready: true,
		Domains:  map[string]health.Service{"": {}, "nodes": {}, "service web": sick},
		MinNodes: map[string]int{"service web": 2},
		Places: []member.Place{
			{VIP: vip4, Protocol: lb.ProtocolTCP, Ports: port(80), Hash: lb.HashSourcePort, Domain: "service web"},
			{VIP: vip6, Protocol: lb.ProtocolTCP, Ports: port(80), Hash: lb.HashSourcePort, Domain: "service web"},
			{VIP: vip4, Protocol: lb.ProtocolUDP, Ports: port(53), Hash: lb.HashSource, Domain: "nodes"},
			{VIP: vip4, Protocol: lb.ProtocolAny, Ports: []lb.PortRange{lb.AllPorts}, Hash: lb.HashSource},
		},
	}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("wishes (-want +got):\n%s", diff)
	}
}

// What goes to backends has no sockets on this node, and checks of backends say nothing of it. What
// others bring is no matter of the cluster, but its connections count while the node is drained.
func TestANodeWantsNothingForWhatItSendsOn(t *testing.T) {
	cfg := sample()
	cfg.VIPs[0].Announce = lb.AnnounceNone
	cfg.Services[0].Forward = lb.ForwardDR
	got := wishesOf(cfg, map[string]health.Service{"web": {Checks: map[string]health.State{"http": health.Down}}}, true)
	port := []lb.PortRange{{First: 53, Last: 53}}
	want := member.Wishes{
		Weight: 5, Seed: [32]byte{7}, Ready: true,
		Domains: map[string]health.Service{"": {}, "nodes": {}}, MinNodes: map[string]int{},
		Places: []member.Place{
			{VIP: vip4, Protocol: lb.ProtocolUDP, Ports: port, Hash: lb.HashSource, Domain: "own"},
			{VIP: vip4, Protocol: lb.ProtocolAny, Ports: []lb.PortRange{lb.AllPorts}, Hash: lb.HashSource, Domain: "own"},
		},
	}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("wishes (-want +got):\n%s", diff)
	}
}

func TestTheMachineIsMadeForTheConfiguration(t *testing.T) {
	cfg := sample()
	want := ownership.DefaultConfig("n2")
	want.Expected = []string{"n1", "n2"}
	want.Meta = []byte(`{"a":["192.0.2.2","2001:db8::2"]}`)
	want.Tick, want.HintTime, want.UDPIdle = 10*time.Millisecond, 100*time.Millisecond, 45*time.Second
	want.LeaseTime, want.DeadAfter, want.BootTimeout = 160*time.Millisecond, 400*time.Millisecond, 30*time.Second
	for partition, policy := range map[config.Partition]ownership.Policy{
		config.PartitionAny: ownership.PolicyAny, config.PartitionMajority: ownership.PolicyMajority,
		config.PartitionWitness: ownership.PolicyWitness,
	} {
		cfg.Membership.Partition = partition
		want.Policy, want.Fingerprint = policy, cfg.Fingerprint()
		got := machineConfig(cfg, localNode(cfg))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", partition, diff)
		}
		if _, err := ownership.New(got, 1, 0); err != nil {
			t.Errorf("%s: %v", partition, err)
		}
	}
}

func TestHeartbeatsGoOutOnceOnEachInterfaceOfAVIP(t *testing.T) {
	key := cluster.GenerateKey()
	one := heartbeat.Options{
		Interface: "eth0", Cluster: "prod", Node: "n2", Life: 3, Keys: [][]byte{key[:]},
		Interval: 40 * time.Millisecond, DeadAfter: 400 * time.Millisecond, Hint: 100 * time.Millisecond,
	}
	other := one
	other.Interface = "eth1"
	if diff := cmp.Diff([]heartbeat.Options{one, other}, heartbeats(sample(), 3, []cluster.Key{key})); diff != "" {
		t.Errorf("with a key (-want +got):\n%s", diff)
	}
	for _, o := range heartbeats(sample(), 3, nil) {
		if !o.Insecure || o.Keys != nil {
			t.Errorf("without a key: %+v", o)
		}
	}
}

func TestPeersAreTheOtherNodes(t *testing.T) {
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7946")}
	if diff := cmp.Diff(want, peersOf(sample())(), comparable); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	nodes := []lb.Node{
		{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Weight: 1},
		{
			Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
			MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Weight: 5,
		},
	}
	if diff := cmp.Diff(nodes, nodesOf(sample()), comparable); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}
