package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
)

var addrPorts = cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})

// webPlaces are two backends, the second of which is dead.
func webPlaces(moving int) map[string]balance.Output {
	return map[string]balance.Output{"web": {Moving: moving, Places: []balance.Place{
		{Backend: lb.Backend{Name: "a", Addr: netip.MustParseAddr("192.0.2.21"), Port: 8080}},
		{Backend: lb.Backend{Name: "b", Addr: netip.MustParseAddr("192.0.2.22"), Port: 8080}, Dead: true},
	}}}
}

func TestFlowsAreSeenByTheirService(t *testing.T) {
	outputs := map[string]balance.Output{"web": {Places: make([]balance.Place, 2)}, "mail": {}}
	got := seenOf(7, outputs, []datapath.Exception{
		{Service: "web", Slot: 3, Backend: 1},
		{Service: "web", Slot: 3, Backend: 0, Current: true},
		{Service: "web", Slot: 4, Backend: 0, Current: true},
		{Service: "web", Slot: 5, Backend: 2}, // it is as new as a place that was not there yet
		{Service: "gone", Slot: 6},
	})
	web := &balance.Seen{Began: 7, Slots: make([]bool, lb.Slots), Flows: []int{2, 1}}
	web.Slots[3] = true
	want := map[string]*balance.Seen{"web": web, "mail": {Began: 7, Slots: make([]bool, lb.Slots), Flows: []int{}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A flow is told when it is new, and again while packets of it come by here.
func TestOthersAreToldOfFlowsThatComeByHere(t *testing.T) {
	flow := datapath.Exception{
		Service: "web", Remote: netip.MustParseAddrPort("198.51.100.7:40000"), Local: netip.MustParseAddrPort("192.0.2.80:80"),
		Protocol: lb.ProtocolTCP, Slot: 3,
	}
	told := []member.Flow{{
		Service: "web", Remote: flow.Remote, Local: flow.Local, Protocol: lb.ProtocolTCP, Slot: 3,
		Backend: netip.MustParseAddr("192.0.2.21"), Port: 8080,
	}}
	var w flowWatch
	for _, step := range []struct {
		name        string
		now, silent time.Duration
		want        []member.Flow
	}{
		{"new", time.Minute, time.Second, told},
		{"told just now", time.Minute + tellEvery - 1, 0, nil},
		{"silent since", time.Minute + tellEvery, tellEvery, nil},
		{"with a packet since", time.Minute + tellEvery, tellEvery - 1, told},
	} {
		flow.Silent = step.silent
		var got []member.Flow
		got, w.told = w.fresh(step.now, []datapath.Exception{flow}, webPlaces(1))
		if diff := cmp.Diff(step.want, got, addrPorts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	w.fresh(time.Hour, nil, nil)
	if _, left := w.fresh(time.Hour, nil, nil); len(left) != 0 {
		t.Errorf("%d flows that are gone are remembered", len(left))
	}
}

// What another director tells is put at the place that its backend has here, and is not told back.
func TestFlowsOfOthersAreNotToldBack(t *testing.T) {
	flow := member.Flow{
		Service: "web", Remote: netip.MustParseAddrPort("198.51.100.7:40000"), Local: netip.MustParseAddrPort("192.0.2.80:80"),
		Protocol: lb.ProtocolTCP, Slot: 3, Backend: netip.MustParseAddr("192.0.2.21"), Port: 8080,
	}
	with := func(change func(*member.Flow)) member.Flow {
		other := flow
		change(&other)
		return other
	}
	flows := []member.Flow{
		flow,
		with(func(f *member.Flow) { f.Backend = netip.MustParseAddr("192.0.2.22") }), // is dead
		with(func(f *member.Flow) { f.Backend = netip.MustParseAddr("192.0.2.23") }), // is not there
		with(func(f *member.Flow) { f.Port = 80 }),
		with(func(f *member.Flow) { f.Slot = lb.Slots }),
		with(func(f *member.Flow) { f.Service = "mail" }),
	}
	var w flowWatch
	got := w.placed(time.Minute, flows, webPlaces(1))
	want := []datapath.Exception{{Service: "web", Remote: flow.Remote, Local: flow.Local, Protocol: lb.ProtocolTCP, Slot: 3}}
	if diff := cmp.Diff(want, got, addrPorts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got[0].Silent = time.Minute
	if back, _ := w.fresh(2*time.Minute, got, webPlaces(1)); len(back) != 0 {
		t.Errorf("told back: %v", back)
	}
	if rest := w.placed(time.Minute, flows, webPlaces(0)); len(rest) != 0 {
		t.Errorf("noted while no slot is in transition: %v", rest)
	}
}
