package daemon

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/hooks"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/probe"
)

func TestAStateIsToldOnceAndWithTheOneBefore(t *testing.T) {
	n := newNotices(hooks.NewRunner(t.TempDir(), slog.New(slog.DiscardHandler)))
	n.set(&config.Config{ClusterName: "web", Node: "n1"})
	master, fault := hooks.Event{State: hooks.Master, Priority: 100, What: "well"}, hooks.Event{State: hooks.Fault, What: "ill", Why: "why"}
	event := func(name string, before hooks.State, e hooks.Event) hooks.Event {
		e.Cluster, e.Node, e.Kind, e.Name, e.Before = "web", "n1", config.HookService, name, before
		return e
	}
	n.assume(config.HookService, "a", hooks.Master)
	n.assume(config.HookService, "a", hooks.Fault) // it is known
	for i, step := range []struct {
		now  map[string]hooks.Event
		want []hooks.Event
	}{
		{map[string]hooks.Event{"a": master}, nil},
		{map[string]hooks.Event{"a": fault, "b": master}, []hooks.Event{event("a", hooks.Master, fault), event("b", "", master)}},
		{map[string]hooks.Event{"a": fault, "b": master}, nil},
		{map[string]hooks.Event{"a": master}, []hooks.Event{
			event("b", hooks.Master, hooks.Event{State: hooks.Deleted, What: "b is not there any more"}), event("a", hooks.Fault, master)}},
		{map[string]hooks.Event{"a": master, "b": master}, []hooks.Event{event("b", "", master)}},
	} {
		got := n.states(config.HookService, step.now)
		if diff := cmp.Diff(step.want, got, cmpopts.IgnoreFields(hooks.Event{}, "Time")); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if got := n.states(config.HookNode, map[string]hooks.Event{"a": fault}); len(got) != 1 || got[0].Before != "" {
		t.Errorf("a node was taken for a service of that name: %v", got)
	}
}

func TestAVIPIsServedByWhoHasABucketOfItOrOfAService(t *testing.T) {
	table := func(owner int16) *lb.Table {
		t := &lb.Table{Owners: make([]int16, lb.Buckets)}
		for i := range t.Owners {
			t.Owners[i] = lb.NoNode
		}
		t.Owners[lb.Buckets-1] = owner
		return t
	}
	a, b, c := netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("192.0.2.81"), netip.MustParseAddr("2001:db8::80")
	state := &lb.State{
		Nodes:    []lb.Node{{Name: "n1", Index: 0}, {Name: "n2", Index: 1, Local: true}},
		Tables:   []*lb.Table{table(0), table(1), table(lb.NoNode)},
		VIPs:     []lb.VIP{{Addr: a, Table: 1}, {Addr: b, Table: 0}, {Addr: c, Table: 0}},
		Services: []lb.Service{{VIP: 0, Table: 0}, {VIP: 1, Table: 1}, {VIP: 2, Table: 2}},
	}
	if diff := cmp.Diff(map[netip.Addr]bool{a: true, b: true, c: false}, ownedVIPs(state), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := ownedVIPs(nil); len(got) > 0 {
		t.Errorf("without a state: %v", got)
	}
}

func TestAServiceWithBackendsIsWellWhileOneTakesNewFlows(t *testing.T) {
	p := &planner{
		cfg: &config.Config{
			Node: "n1", Nodes: []config.Node{{Name: "n1", Weight: 50}},
			Services: []config.Service{{Name: "web", Forward: lb.ForwardDR}, {Name: "own"}},
		},
		forwarder: newForwarder(slog.New(slog.DiscardHandler)),
		checks:    probe.NewRunner(probe.Options{}),
	}
	well := map[string]hooks.Event{"web": {State: hooks.Master, Priority: 50, What: "this node can serve web"}}
	ill := map[string]hooks.Event{"web": {State: hooks.Fault, What: "no backend of web takes new flows"}}
	for _, c := range []struct {
		what   string
		places []balance.Place
		want   map[string]hooks.Event
	}{
		{"nothing is decided yet", nil, well},
		{"one of two", []balance.Place{{Dead: true}, {Slots: lb.Slots}}, well},
		{"none of two", []balance.Place{{Dead: true}, {Leaving: 1}}, ill},
	} {
		if c.places != nil {
			p.forwarder.outputs["web"] = balance.Output{Places: c.places}
		}
		if diff := cmp.Diff(c.want, p.services()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestEachWayToTakePartIsAState(t *testing.T) {
	weighs := map[string]ownership.Weight{desired.VIPDomain: {Weight: 50}}
	for _, c := range []struct {
		m    ownership.Member
		want hooks.Event
	}{
		{ownership.Member{Name: "n2", Stage: ownership.StageMember, Weights: weighs}, hooks.Event{State: hooks.Master, Priority: 50, What: "n2 takes new flows"}},
		{ownership.Member{Name: "n2", Stage: ownership.StageMember, Weights: weighs, Dead: true}, hooks.Event{State: hooks.Fault, Priority: 50, What: "n2 is down"}},
		{ownership.Member{Name: "n2", Stage: ownership.StageUp, Weights: weighs}, hooks.Event{State: hooks.Backup, Priority: 50, What: "n2 takes no new flows: joining"}},
		{ownership.Member{Name: "n2", Stage: ownership.StageMember, Weights: map[string]ownership.Weight{desired.VIPDomain: {}}},
			hooks.Event{State: hooks.Backup, What: "n2 takes no new flows: draining"}},
	} {
		if diff := cmp.Diff(c.want, nodeEvent(c.m)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}
