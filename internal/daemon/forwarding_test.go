package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
	"github.com/lbctl/lbctl/internal/store"
)

func TestAllThatBearsOnABackendReachesTheBalance(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.21")
	hop := &lb.NextHop{Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x21}}
	near := nexthop.Way{Hop: hop}
	dr, tunnel := config.Service{Name: "web", Forward: lb.ForwardDR}, config.Service{Name: "web", Forward: lb.ForwardTunnel}
	plain := balance.Backend{Name: "a", Addr: addr, Weight: 100, Reachable: true, Healthy: true}
	changed := func(change func(*balance.Backend)) balance.Backend {
		b := plain
		change(&b)
		return b
	}
	down := health.Service{Checks: map[string]health.State{"http": health.Down}}
	for _, c := range []struct {
		what    string
		service config.Service
		change  func(*config.Backend)
		way     nexthop.Way
		admin   store.BackendAdmin
		checked health.Service
		want    balance.Backend
	}{
		{what: "nothing special", service: dr, way: near, want: plain},
		{what: "a backup", service: dr, way: near, change: func(b *config.Backend) { b.Backup = true },
			want: changed(func(b *balance.Backend) { b.Tier = balance.TierBackup })},
		{what: "a weight by hand", service: dr, way: near, admin: store.BackendAdmin{Weight: new(7)},
			want: changed(func(b *balance.Backend) { b.Weight, b.Why = 7, "weight 7 by hand" })},
		{what: "drained, whatever the weight by hand", service: dr, way: near, admin: store.BackendAdmin{Drain: true, Weight: new(7)},
			want: changed(func(b *balance.Backend) { b.Weight, b.Why = 0, "drained by hand" })},
		{what: "disabled", service: dr, way: near, admin: store.BackendAdmin{Disable: true}, checked: down,
			want: changed(func(b *balance.Backend) { b.Healthy, b.Disabled, b.Why = false, true, "disabled by hand" })},
		{what: "drained, and a check fails", service: dr, way: near, admin: store.BackendAdmin{Drain: true}, checked: down,
			want: changed(func(b *balance.Backend) { b.Weight, b.Healthy, b.Why = 0, false, "check http is down" })},
		{what: "a check that fails", service: dr, way: near, checked: down,
			want: changed(func(b *balance.Backend) { b.Healthy, b.Why = false, "check http is down" })},
		{what: "no way", service: tunnel, way: nexthop.Way{Problem: "no route to host"},
			want: changed(func(b *balance.Backend) { b.Reachable, b.Why = false, "no route to host" })},
		{what: "no answer yet", service: tunnel, way: nexthop.Way{Pending: true},
			want: changed(func(b *balance.Backend) { b.Reachable, b.Why = false, "no neighbour answers for it yet" })},
		{what: "asked again, and no answer yet", service: tunnel, way: nexthop.Way{Hop: hop, Pending: true}, want: plain},
		{what: "a tunnel by a gateway", service: tunnel, way: nexthop.Way{Hop: hop, Gateway: netip.MustParseAddr("192.0.2.1")}, want: plain},
		{what: "dr by a gateway", service: dr, way: nexthop.Way{Hop: hop, Gateway: netip.MustParseAddr("192.0.2.1")},
			want: changed(func(b *balance.Backend) {
				b.Reachable, b.Why = false, `it is behind 192.0.2.1: forward "dr" reaches its own link only`
			})},
	} {
		b := config.Backend{Name: "a", Address: addr, Weight: 100}
		if c.change != nil {
			c.change(&b)
		}
		c.checked.Weight = decidedWeight(&b, c.admin)
		got := inputOf(&c.service, &b, c.way, c.admin, c.checked.Verdict())
		if diff := cmp.Diff(c.want, got, comparable); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestAServiceKeepsTheFlowsThatItsProtocolHas(t *testing.T) {
	s := config.Service{FlowIdle: time.Hour, UDPIdle: time.Minute, MinBackends: 2}
	for protocol, want := range map[lb.Protocol]balance.Rules{
		lb.ProtocolTCP: {MinBackends: 2, TCPIdle: time.Hour},
		lb.ProtocolUDP: {MinBackends: 2, UDPIdle: time.Minute},
		lb.ProtocolAny: {MinBackends: 2, TCPIdle: time.Hour, UDPIdle: time.Minute},
	} {
		s.Protocol = protocol
		if got := rulesOf(&s); got != want {
			t.Errorf("%s: %+v, want %+v", protocol, got, want)
		}
	}
}

func TestTheBackendThatSaysSorryComesLast(t *testing.T) {
	s := config.Service{Name: "web", Backends: []config.Backend{
		{Name: "a"}, {Name: "b", Down: true}, {Name: "c", Backup: true, SlowStart: time.Minute},
	}, Sorry: &config.Backend{Name: "d"}}
	var got []balance.Backend
	for _, b := range backendsOf(&s, nil, nil, nil) {
		got = append(got, balance.Backend{Name: b.Name, Tier: b.Tier, SlowStart: b.SlowStart})
	}
	want := []balance.Backend{{Name: "a"}, {Name: "c", Tier: balance.TierBackup, SlowStart: time.Minute}, {Name: "d", Tier: balance.TierSorry}}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What the datapath remembers of a dead backend must not bring flows there.
func TestOnlyPlacesThatLiveGetAWay(t *testing.T) {
	hop := &lb.NextHop{Interface: "eth0"}
	alive, dead := lb.Backend{Name: "a", Addr: netip.MustParseAddr("192.0.2.21")}, lb.Backend{Name: "b", Addr: netip.MustParseAddr("192.0.2.22")}
	output := balance.Output{Choice: &lb.Choice{}, Places: []balance.Place{{Backend: alive}, {Backend: dead, Dead: true}, {}}}
	got := targetOf(&output, map[netip.Addr]nexthop.Way{alive.Addr: {Hop: hop}, dead.Addr: {Hop: hop}}, map[netip.AddrPort]string{
		netip.AddrPortFrom(alive.Addr, 0): "a", netip.AddrPortFrom(dead.Addr, 8080): "other",
	})
	alive.Hop, alive.Watched = hop, true
	want := desired.Target{Choice: output.Choice, Backends: []lb.Backend{alive, dead, {}}}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Choice != output.Choice {
		t.Error("the choice was copied")
	}
}

// A restart must not take a backend for dead only because nobody has asked for it yet.
func TestNothingIsDecidedBeforeTheWaysWereAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &config.Config{Services: []config.Service{
			{Name: "web", Forward: lb.ForwardDR, FlowIdle: time.Hour, Backends: []config.Backend{{Name: "a", Address: netip.MustParseAddr("192.0.2.21"), Weight: 100}}},
			{Name: "own"},
		}}
		log := slog.New(slog.DiscardHandler)
		p := &planner{opts: Options{Log: log}, cfg: cfg, started: time.Now(), forwarder: newForwarder(log), checks: probe.NewRunner(probe.Options{Log: log})}
		p.forwarder.use(cfg)
		p.forward()
		if p.forwarder.ready() {
			t.Fatal("decided at once, while no way is known")
		}
		<-p.forwarder.due
		p.forwarder.rethink(nil)
		p.forward()
		if !p.forwarder.ready() {
			t.Fatalf("nothing decided after %s", patience)
		}
		want := []balance.Place{{
			Backend: lb.Backend{Name: "a", Addr: netip.MustParseAddr("192.0.2.21")},
			State:   balance.StateDown, Why: "no neighbour answers for it yet", Dead: true,
		}}
		if diff := cmp.Diff(want, p.forwarder.outputs["web"].Places, comparable); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestAServiceGoesOnWhereAnLbdBeforeLeftIt(t *testing.T) {
	cfg := &config.Config{Services: []config.Service{{
		Name: "web", Forward: lb.ForwardDR, Protocol: lb.ProtocolTCP, FlowIdle: time.Hour,
		Backends: []config.Backend{{Name: "b", Address: netip.MustParseAddr("192.0.2.22"), Weight: 100}},
	}}}
	left := datapath.Recalled{
		TCPIdle: time.Hour, Backends: []lb.Backend{{}, {Addr: netip.MustParseAddr("192.0.2.21")}, {Addr: netip.MustParseAddr("192.0.2.22")}},
		Choice: &lb.Choice{Current: slices.Repeat([]int16{2}, lb.Slots), Previous: slices.Repeat([]int16{1}, lb.Slots), Marks: slices.Repeat([]lb.SlotMark{lb.SlotMoving}, lb.Slots)},
	}
	for _, test := range []struct {
		protocol lb.Protocol
		names    []string
		moving   int
	}{
		{lb.ProtocolTCP, []string{"", "192.0.2.21", "b"}, lb.Slots},
		{lb.ProtocolUDP, []string{"b"}, 0}, // it has other flows
	} {
		cfg.Services[0].Protocol = test.protocol
		f := newForwarder(slog.New(slog.DiscardHandler))
		f.recalled = map[string]datapath.Recalled{"web": left}
		f.use(cfg)
		up := balance.Backend{Name: "b", Addr: netip.MustParseAddr("192.0.2.22"), Weight: 100, Reachable: true, Healthy: true}
		output := f.services["web"].Update(time.Second, balance.Input{Rules: rulesOf(&cfg.Services[0]), Backends: []balance.Backend{up}, Applied: true})
		var names []string
		for _, place := range output.Places {
			names = append(names, place.Name)
		}
		if diff := cmp.Diff(test.names, names); diff != "" || output.Moving != test.moving {
			t.Errorf("%s: %d slots are in transition, want %d; places (-want +got):\n%s", test.protocol, output.Moving, test.moving, diff)
		}
	}
}

func TestAServiceThatIsGoneIsForgottenOnceThatIsApplied(t *testing.T) {
	with := &config.Config{Services: []config.Service{{Name: "web", Forward: lb.ForwardDR}}}
	without := &config.Config{}
	f := newForwarder(slog.New(slog.DiscardHandler))
	f.use(with)
	first := f.services["web"]
	f.use(without)
	f.use(with) // the other one could not be applied
	if f.services["web"] != first {
		t.Error("what was known of the service is gone, though it was served all the time")
	}
	other := &config.Config{Services: []config.Service{{Name: "web", Forward: lb.ForwardDR, Protocol: lb.ProtocolUDP}}}
	if f.use(other); f.services["web"] == first {
		t.Error("a service of another protocol has the flows of the one before")
	}
	f.use(without)
	f.settle(without)
	if len(f.services)+len(f.waiting) != 0 {
		t.Errorf("%d services, %d of them waiting, want none", len(f.services), len(f.waiting))
	}
}

// BenchmarkANeighbourOf1000ServicesChanges decides about 1,000 services of 10 backends, of which one is
// concerned.
func BenchmarkANeighbourOf1000ServicesChanges(b *testing.B) {
	cfg := &config.Config{}
	for i := range 1000 {
		s := config.Service{Name: fmt.Sprint(i), Forward: lb.ForwardDR, FlowIdle: time.Hour}
		for j := range 10 {
			addr := netip.AddrFrom4([4]byte{198, 51, byte(i), byte(j)})
			s.Backends = append(s.Backends, config.Backend{Name: addr.String(), Address: addr, Weight: 100})
		}
		cfg.Services = append(cfg.Services, s)
	}
	log := slog.New(slog.DiscardHandler)
	p := &planner{cfg: cfg, started: time.Now(), opts: Options{Log: log}, forwarder: newForwarder(log), checks: probe.NewRunner(probe.Options{Log: log})}
	p.forwarder.use(cfg)
	clear(p.forwarder.waiting)
	p.forward()
	weight := 0
	for b.Loop() {
		weight++
		cfg.Services[500].Backends[0].Weight = weight % lb.MaxWeight
		p.forwarder.rethink(nil)
		p.forward()
	}
}
