package desired

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
)

const directors = `
cluster:
  name: test
  seed: 00000000000000000000000000000000000000000000000000000000000000ff
  node: n2
  nodes: [{name: n1, addresses: 192.0.2.11}, {name: n2, addresses: 192.0.2.12}]
  membership: {insecure: true}
interface: eth0
vips:
  - {address: 192.0.2.80}
  - {address: 198.51.100.80, announce: none}
services:
  - {name: web, vips: [192.0.2.80, 198.51.100.80], ports: 80, forward: tunnel, encap: gue, mss: 1380, backends: [203.0.113.21], checks: [{type: tcp}]}
  - {name: own, vips: [192.0.2.80, 198.51.100.80], ports: 81, checks: [{type: tcp}]}
`

func parsed(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Parse("lb.yaml", []byte(directors))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestAServiceGetsItsTargetAtEachOfItsVIPs(t *testing.T) {
	target := Target{
		Backends: []lb.Backend{{Name: "a", Addr: netip.MustParseAddr("203.0.113.21")}}, Choice: &lb.Choice{}, Schedule: &lb.Schedule{Affinity: time.Minute},
	}
	cfg := parsed(t)
	built := buildWith(t, cfg, Targets{"web": target})
	agreed, err := Agreed(cfg, &Agreement{}, Targets{"web": target})
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []*lb.State{built, agreed} {
		for vip, i := range []int{1, 3} { // own, web, own, web
			got := state.Services[i]
			got.Table = 0
			want := lb.Service{
				Name: "web", VIP: vip, Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort,
				Forward: lb.ForwardTunnel, Encap: lb.EncapGUE, MSS: 1380, TCPIdle: 15 * time.Minute,
				Backends: target.Backends, Choice: target.Choice, Schedule: target.Schedule,
			}
			if diff := cmp.Diff(want, got, whole()...); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.Choice != target.Choice {
				t.Error("the choice was copied")
			}
		}
	}
}

func buildWith(t *testing.T, cfg *config.Config, targets Targets) *lb.State {
	t.Helper()
	state, err := (&Builder{}).Build(cfg, Members{"n2": {Down: true}}, nil, targets)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// What somebody else brings here is for this node, whatever the cluster thinks of it.
func TestANodeHasWhatIsBroughtToItForItself(t *testing.T) {
	cfg := parsed(t)
	elsewhere := &lb.Table{Owners: slices.Repeat([]int16{0}, lb.Buckets)}
	agreement := &Agreement{
		Nodes:  []lb.Node{{Index: 0, Name: "n1"}, {Index: 1, Name: "n2", Local: true}},
		Tables: map[string]*lb.Table{VIPDomain: elsewhere, "nodes": elsewhere, "service own": elsewhere},
	}
	agreed, err := Agreed(cfg, agreement, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]*lb.State{"agreed": agreed, "built": buildWith(t, cfg, nil)} {
		vips := []int{owned(state, state.VIPs[0].Table, 1), owned(state, state.VIPs[1].Table, 1)}
		if diff := cmp.Diff([]int{0, lb.Buckets}, vips); diff != "" {
			t.Errorf("%s: buckets of VIPs (-want +got):\n%s", name, diff)
		}
		var services []int
		for _, s := range state.Services {
			services = append(services, owned(state, s.Table, 1))
		}
		if diff := cmp.Diff([]int{0, 0, lb.Buckets, lb.Buckets}, services); diff != "" {
			t.Errorf("%s: buckets of services (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheClusterAgreesOnlyOnWhatItsNodesShare(t *testing.T) {
	cfg := parsed(t)
	if diff := cmp.Diff([]string{VIPDomain, "nodes", "service own"}, Domains(cfg)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	cfg.VIPs[0].Announce = lb.AnnounceNone
	if diff := cmp.Diff([]string{VIPDomain}, Domains(cfg)); diff != "" {
		t.Errorf("all VIPs brought by others (-want +got):\n%s", diff)
	}
	cfg.VIPs[1].Announce = lb.AnnounceFailover
	if diff := cmp.Diff([]string{VIPDomain, "vip 198.51.100.80"}, Domains(cfg)); diff != "" {
		t.Errorf("one VIP that one node has (-want +got):\n%s", diff)
	}
}
