package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

func TestFlowsAreSeenByTheirService(t *testing.T) {
	outputs := map[string]balance.Output{"web": {Places: make([]balance.Place, 2)}, "mail": {}}
	look := newFlowsLook(7, outputs)
	for _, e := range []datapath.Exception{
		{Service: "web", Slot: 3, Backend: 1},
		{Service: "web", Slot: 3, Backend: 0, Current: true},
		{Service: "web", Slot: 4, Backend: 0, Current: true},
		{Service: "web", Slot: 5, Backend: 2}, // it is as new as a place that was not there yet
		{Service: "gone", Slot: 6},
		{Service: "mail", Client: true}, // no flow
	} {
		look.add(&e)
	}
	if diff := cmp.Diff(map[string]bool{"web": true}, look.elsewhere); diff != "" {
		t.Errorf("elsewhere (-want +got):\n%s", diff)
	}
	web := &balance.Seen{Began: 7, Slots: make([]bool, lb.Slots), Flows: []int{2, 1}}
	web.Slots[3] = true
	want := map[string]*balance.Seen{"web": web, "mail": {Began: 7, Slots: make([]bool, lb.Slots), Flows: []int{}}}
	if diff := cmp.Diff(want, look.seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
