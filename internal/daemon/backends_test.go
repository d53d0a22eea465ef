package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/store"
)

var backendAddr = netip.MustParseAddr("192.0.2.101")

// placed returns a place with a share of the slots, in eighths.
func placed(name string, state balance.State, slots, leaving int) balance.Place {
	return balance.Place{
		Backend: lb.Backend{Name: name, Addr: backendAddr}, State: state, Slots: slots * lb.Slots / 8, Leaving: leaving * lb.Slots / 8,
	}
}

func TestAStatusSaysWhatEveryBackendGets(t *testing.T) {
	cfg := &config.Config{Services: []config.Service{
		{Name: "ssh"},
		{Name: "web", Backends: []config.Backend{{Name: "b1", Weight: 100}, {Name: "b2", Weight: 100}, {Name: "b3", Weight: 100}, {Name: "b4", Weight: 100, Address: backendAddr, Down: true}}},
	}}
	hop := &lb.NextHop{Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Source: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
	state := &lb.State{Services: []lb.Service{{Name: "ssh"}, {Name: "web", Backends: []lb.Backend{{Name: "b1", Hop: hop}, {}, {Name: "b2", Hop: hop}}}}}
	b1 := placed("b1", balance.StateUp, 6, 0)
	b1.Weight = 60
	b2 := placed("b2", balance.StateDrained, 0, 2)
	b2.Why = "drained by hand"
	b3 := placed("b3", balance.StateDown, 0, 0)
	b3.Why = "no neighbour"
	gone := placed("b0", balance.StateRemoved, 0, 1)
	f := &forwarder{
		outputs: map[string]balance.Output{"web": {Places: []balance.Place{b1, {}, b2, b3, gone}}},
		flows:   map[string][]int{"web": {1, 0, 7}},
	}
	admins := map[store.BackendName]store.BackendAdmin{{Service: "web", Backend: "b2"}: {Weight: new(7)}}

	var got control.Status
	describeBackends(&got, cfg, state, f, admins)
	wayOut := &control.Hop{Interface: "eth0", MAC: "02:00:00:00:00:01", Source: hop.Source, MTU: 1500}
	eighth := func(n int) float64 { return float64(n*lb.Slots/8) / lb.Slots }
	want := control.Status{
		Backends: []control.Backend{
			{Service: "web", Name: "b1", Address: backendAddr, State: "up", Weight: 100, Effective: 60, Share: eighth(6), Flows: 1, Hop: wayOut},
			{Service: "web", Name: "b2", Address: backendAddr, State: "draining", Why: "drained by hand", Weight: 7, Leaving: eighth(2), Flows: 7, Hop: wayOut},
			{Service: "web", Name: "b3", Address: backendAddr, State: "down", Why: "no neighbour", Weight: 100},
			{Service: "web", Name: "b0", Address: backendAddr, State: "removed", Leaving: eighth(1)},
			{Service: "web", Name: "b4", Address: backendAddr, State: "out", Why: "by the configuration", Weight: 100},
		},
		Problems: []string{"service web: backend b3 is down: no neighbour"},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestABackendIsDrainedWhenNothingOfItCanBeLeft(t *testing.T) {
	cfg := &config.Config{Services: []config.Service{{Name: "web", Backends: []config.Backend{{Name: "b1"}}}}}
	for what, test := range map[string]struct {
		slots, leaving, flows, moving int
		want                          string
	}{
		"new flows":     {1, 0, 0, 0, "draining"},
		"older flows":   {0, 1, 0, 0, "draining"},
		"known flows":   {0, 0, 1, 0, "draining"},
		"unknown flows": {0, 0, 0, 1, "draining"},
		"nothing":       {0, 0, 0, 0, "drained"},
	} {
		f := &forwarder{
			outputs: map[string]balance.Output{"web": {
				Places: []balance.Place{placed("b1", balance.StateDrained, test.slots, test.leaving)}, Moving: test.moving,
			}},
			flows: map[string][]int{"web": {test.flows}},
		}
		var got control.Status
		describeBackends(&got, cfg, nil, f, nil)
		if got.Backends[0].State != test.want {
			t.Errorf("%s: %s, want %s", what, got.Backends[0].State, test.want)
		}
	}
}

func TestManyBackendsThatAreDownAreOneProblem(t *testing.T) {
	var all []control.Backend
	for i := range 6 {
		all = append(all, control.Backend{Name: fmt.Sprintf("b%d", i), State: "down", Why: "connection refused"})
	}
	want := []string{
		"service web: no backend takes new flows",
		"service web: 6 of 6 backends are down, b0 among them: connection refused",
	}
	if diff := cmp.Diff(want, backendProblems("web", all)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	all[5] = control.Backend{Name: "b5", State: "up", Share: 1}
	if got := backendProblems("web", all[4:]); !slices.Equal(got, []string{"service web: backend b4 is down: connection refused"}) {
		t.Errorf("%q", got)
	}
}

func TestTheLastBackendIsTakenOutOnlyByForce(t *testing.T) {
	everything := func(place int16) *lb.Choice {
		return &lb.Choice{Current: slices.Repeat([]int16{place}, lb.Slots)}
	}
	p := &planner{
		cfg: &config.Config{Services: []config.Service{{Name: "web", Backends: []config.Backend{{Name: "b1"}, {Name: "b2"}}}}},
		state: &lb.State{Services: []lb.Service{
			{Name: "web", Backends: []lb.Backend{{Name: "b1"}, {Name: "b2"}}, Choice: everything(0)},
		}},
	}
	about := func(backend string, change func(*control.BackendRequest)) control.BackendRequest {
		r := control.BackendRequest{Service: "web", Backend: backend}
		change(&r)
		return r
	}
	drain := func(r *control.BackendRequest) { r.Drain = new(true) }
	for what, test := range map[string]struct {
		request control.BackendRequest
		want    error
	}{
		"drain the last":     {about("b1", drain), control.ErrLastBackend},
		"disable the last":   {about("b1", func(r *control.BackendRequest) { r.Disable = new(true) }), control.ErrLastBackend},
		"no weight":          {about("b1", func(r *control.BackendRequest) { r.Weight = new(0) }), control.ErrLastBackend},
		"some weight":        {about("b1", func(r *control.BackendRequest) { r.Weight = new(1) }), nil},
		"by force":           {about("b1", func(r *control.BackendRequest) { r.Drain, r.Force = new(true), true }), nil},
		"drain another":      {about("b2", drain), nil},
		"end the drain":      {about("b1", func(r *control.BackendRequest) { r.Drain = new(false) }), nil},
		"one that is not":    {about("b3", drain), &control.Error{Code: 404, Message: "service web: backend b3: no such backend is known"}},
		"another service":    {control.BackendRequest{Service: "dns", Backend: "b1", Drain: new(true)}, &control.Error{Code: 404, Message: "service dns: no such service is known"}},
		"a service that has": {about("b1", func(r *control.BackendRequest) { r.ResetWeight = true }), nil},
	} {
		if diff := cmp.Diff(test.want, p.allowed(test.request)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	p.state.Services[0].Choice = &lb.Choice{Current: append(slices.Repeat([]int16{0}, lb.Slots-1), 1)}
	if err := p.allowed(about("b1", drain)); err != nil {
		t.Errorf("another one has a slot: %v", err)
	}
}

func TestBackendsThatChangeAreTold(t *testing.T) {
	p := &planner{cfg: &config.Config{Node: "n1"}, opts: Options{Log: slog.New(slog.DiscardHandler)}}
	first := []balance.Place{placed("b1", balance.StateUp, 4, 0), placed("b2", balance.StateUp, 4, 0), {}}
	p.backendsChanged("web", nil, first)
	second := slices.Clone(first)
	second[1].State, second[1].Why = balance.StateDown, "no neighbour"
	second[2] = placed("b3", balance.StateUp, 1, 0)
	p.backendsChanged("web", first, second)
	p.backendsChanged("web", second, second)
	want := []control.Event{
		{Number: 1, Kind: "backend", Node: "n1", What: "backend web/b2 is down", Why: "no neighbour"},
		{Number: 2, Kind: "backend", Node: "n1", What: "backend web/b3 is up"},
	}
	if diff := cmp.Diff(want, p.events.after(0), cmpopts.IgnoreFields(control.Event{}, "Time")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
