package daemon

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

const fateFile = `cluster:
  name: web
  seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c
  nodes:
    - {name: vm, addresses: 192.0.2.11, weight: 100}
    - {name: n2, addresses: 192.0.2.12, weight: 100}
interface: eth0
vips: [{address: 192.0.2.80}]
services:
  - {name: own, vips: 192.0.2.80, ports: [80, 443]}
  - name: sent
    vips: 192.0.2.80
    ports: [8080, 9090]
    forward: dr
    flow-idle: 10m
    backends: [192.0.2.21, 192.0.2.22, 192.0.2.23, 192.0.2.24]
`

func fateConfig(t *testing.T, changes ...string) *config.Config {
	t.Helper()
	text := fateFile
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("%q is not in the file", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	cfg, err := config.ParseFor("vm", "lb.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// fatesOf says what becomes of 200 connections of this node, half of them to each port, and of four
// flows that are remembered, of which one says nothing for long.
func fatesOf(t *testing.T, before, fresh *config.Config, agreed bool, moving ...string) map[string]control.FlowMoves {
	t.Helper()
	build := func(cfg *config.Config) *lb.State {
		state, err := new(desired.Builder).Build(cfg, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	f := forecast{
		old: build(before), next: build(fresh), before: servicesOf(before), after: servicesOf(fresh), agreed: agreed,
		aims: make(map[string][]netip.AddrPort), aim: spread,
	}
	vip := netip.MustParseAddr("192.0.2.80")
	var open []openFlow
	for port := uint16(1024); len(open) < 200; port++ {
		o := openFlow{
			protocol: lb.ProtocolTCP, remote: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port),
			local: netip.AddrPortFrom(vip, []uint16{80, 443}[port%2]),
		}
		if owner := ownerIn(f.old, serviceAt(f.old, o.protocol, o.local), &o); owner.Local {
			open = append(open, o)
		}
	}
	aim, keys := spread(servicesOf(before)["sent"]), flowhash.NewKeys(before.Seed)
	for i := range 4 {
		o := openFlow{
			protocol: lb.ProtocolTCP, remote: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.8"), uint16(1000+i)),
			local: netip.AddrPortFrom(vip, 8080), service: "sent", silent: time.Duration(i) * 2 * time.Minute,
		}
		mask := flowhash.NewMask(lb.HashSourcePort, true)
		o.backend = aim[flowhash.Slot(keys.Sum(mask, o.remote.Addr(), o.remote.Port(), o.local.Port()))]
		open = append(open, o)
	}
	moves := make(map[string]bool)
	for _, name := range moving {
		moves[name] = true
	}
	found := make(map[string]control.FlowMoves)
	for i := range before.Services {
		if m, ok := f.service(&before.Services[i], open, moves); ok {
			found[m.Service] = m
		}
	}
	return found
}

// spread gives each backend the same number of slots, one after the other.
func spread(s *config.Service) []netip.AddrPort {
	servers := make([]netip.AddrPort, lb.Slots)
	for i := range servers {
		servers[i] = netip.AddrPortFrom(s.Backends[i%len(s.Backends)].Address, 0)
	}
	return servers
}

func TestADiffSaysWhatBecomesOfOpenFlows(t *testing.T) {
	const vm = "{name: vm, addresses: 192.0.2.11, weight: 100}"
	none := map[string]control.FlowMoves{}
	for _, c := range []struct {
		what    string
		changes []string
		agreed  bool
		moving  []string
		want    map[string]control.FlowMoves
	}{
		{"nothing", nil, false, nil, none},
		{"slots that move", []string{", 192.0.2.24", ""}, false, []string{"sent"}, map[string]control.FlowMoves{
			"sent": {Known: 4, Why: "who is where is remembered while slots move"},
		}},
		{"a weight of nodes that agree", []string{vm, strings.Replace(vm, "100", "0", 1)}, true, nil, none},
		{"no weight for a node alone", []string{vm, strings.Replace(vm, "100", "0", 1)}, false, nil, map[string]control.FlowMoves{
			"own": {Known: 200, Moved: 200, Why: "their buckets go to other nodes at once, as it is without membership"},
		}},
		{"a service that goes", []string{"  - {name: own, vips: 192.0.2.80, ports: [80, 443]}\n", ""}, true, nil, map[string]control.FlowMoves{
			"own": {Known: 200, Moved: 200, Why: "the file has no such service"},
		}},
		{"a port that goes", []string{"[80, 443]", "[80]"}, true, nil, map[string]control.FlowMoves{
			"own": {Known: 200, Moved: 100, Why: "nothing takes 192.0.2.80 tcp 443 any more"},
		}},
		{"a port of backends that goes", []string{"[8080, 9090]", "[8080]"}, true, nil, map[string]control.FlowMoves{
			"sent": {Known: 4, Uncounted: true, Why: "nothing takes 192.0.2.80 tcp 9090 any more"},
		}},
		{"another way to backends", []string{"forward: dr", "forward: tunnel"}, true, nil, map[string]control.FlowMoves{
			"sent": {Known: 4, Moved: 4, Uncounted: true, Why: "forward dr becomes tunnel"},
		}},
		{"less patience", []string{"10m", "3m"}, true, nil, map[string]control.FlowMoves{
			"sent": {Known: 4, Moved: 2, Why: "they were silent for longer than they may be then"},
		}},
		{"another name, and the same slots", []string{"name: sent", "name: other"}, true, nil, map[string]control.FlowMoves{
			"sent": {Known: 4, Uncounted: true, Why: "the file has no such service"},
		}},
	} {
		got := fatesOf(t, fateConfig(t), fateConfig(t, c.changes...), c.agreed, c.moving...)
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(control.FlowMoves{}, "Service")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

// Another hash gives half of the connections to the other node, and three of four flows to other backends.
func TestADiffSaysHowManyFlowsAnotherHashMoves(t *testing.T) {
	for _, agreed := range []bool{false, true} {
		got := fatesOf(t, fateConfig(t), fateConfig(t, "seed: 9f", "seed: 8e"), agreed)
		own, sent := got["own"], got["sent"]
		if own.Known != 200 || own.Moved < 60 || own.Moved > 140 || own.Why != "another hash finds other buckets" {
			t.Errorf("agreed: %v: %+v, want about half of 200 moved", agreed, own)
		}
		if sent.Known != 4 || math.Abs(sent.Share-0.75) > 0.001 || sent.Why != "another hash finds other slots" {
			t.Errorf("agreed: %v: %+v, want a share of 3/4", agreed, sent)
		}
	}
}

// Without source-nat nobody knows the connections; with it, directors know all that are established.
func TestADiffSaysThatSwitchingSourceNATBreaksWhatIsOpen(t *testing.T) {
	plain := fateConfig(t, "forward: dr", "forward: nat")
	full := fateConfig(t, "forward: dr", "forward: nat\n    source-nat: true")
	for _, c := range []struct {
		before, fresh *config.Config
		want          map[string]control.FlowMoves
	}{
		{plain, full, map[string]control.FlowMoves{
			"sent": {Service: "sent", Known: 4, Moved: 4, Share: 1, Why: "source-nat false becomes true"},
		}},
		{full, plain, map[string]control.FlowMoves{
			"sent": {Service: "sent", Known: 4, Moved: 4, Uncounted: true, Why: "source-nat true becomes false"},
		}},
		{full, full, map[string]control.FlowMoves{}},
	} {
		if diff := cmp.Diff(c.want, fatesOf(t, c.before, c.fresh, true)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
