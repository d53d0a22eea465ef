package datapath_test

import (
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

// A take-over is a Set. However many flows are remembered, read and told of meanwhile, it goes on.
func TestNoSetWaitsForManyFlows(t *testing.T) {
	l := &slotLab{t, v4, instanceOf(t, slotWorld(1, 0, lb.SlotMoving))}
	many, err := l.instance.FillExceptions()
	if err != nil {
		t.Fatal(err)
	}
	director := l.instance.Director()
	notes, err := director.AllNotes(0)
	if err != nil || len(notes) != many {
		t.Fatalf("%d notes of %d flows, %v", len(notes), many, err)
	}
	states := []*lb.State{slotWorld(1, 0, lb.SlotMoving), slotWorld(0, 1, lb.SlotMoving)}
	for _, test := range []struct {
		what string
		do   func() (int, error)
	}{
		{"all are read to be told", func() (n int, err error) {
			for some, err := range director.Notes(0) {
				if err != nil {
					return n, err
				}
				n += len(some)
			}
			return n, nil
		}},
		{"all are looked at", func() (n int, err error) {
			return n, director.Exceptions(func(*datapath.Exception) { n++ })
		}},
		{"all are taken", func() (int, error) { return len(notes), director.Take(notes) }},
	} {
		done := make(chan time.Duration)
		go func() {
			start := time.Now()
			n, err := test.do()
			if err != nil || n != many {
				t.Errorf("while %s: %d of %d, %v", test.what, n, many, err)
			}
			done <- time.Since(start)
		}()
		var took []time.Duration
		var all time.Duration
		for all == 0 {
			start := time.Now()
			if err := director.Write(states[len(took)%2], worldDevice); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
			select {
			case all = <-done:
			case <-time.After(5 * time.Millisecond):
			}
		}
		slices.Sort(took)
		t.Logf("while %s, which takes %s, %d Sets take %s, the longest %s", test.what, all, len(took), took[len(took)/2], took[len(took)-1])
		if len(took) < 5 {
			t.Errorf("while %s, %d Sets were done: they wait for it", test.what, len(took))
		}
	}
}
