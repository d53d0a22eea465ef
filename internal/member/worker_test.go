package member

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/ownership"
)

func TestWhatTheMachineSaidIsAppliedOnceTheKernelHasIt(t *testing.T) {
	during := func() {}
	w := newWorker(&Member{opts: Options{
		Apply:   func(context.Context, *desired.Agreement) error { during(); return nil },
		NewLife: func(time.Duration) error { return nil },
	}})
	w.lease = ownership.Forever
	if w.applied() {
		t.Error("a life that has no lease yet is applied")
	}
	for _, round := range []string{"at first", "later"} {
		w.todo.agreed = new(desired.Agreement)
		if w.applied() {
			t.Errorf("%s: what waits is applied", round)
		}
		during = func() {
			if w.applied() {
				t.Errorf("%s: what the kernel is being told is applied", round)
			}
		}
		w.work(t.Context())
		if !w.applied() {
			t.Errorf("%s: what the kernel has is not applied", round)
		}
	}
}

func TestAnOfferWaitsForConnectionsThatAreOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opening := 500 * time.Millisecond
		opts := Options{
			Apply:   func(context.Context, *desired.Agreement) error { return nil },
			NewLife: func(time.Duration) error { return nil },
			Opening: func() time.Duration { return opening },
			Log:     slog.New(slog.DiscardHandler),
		}
		w := newWorker(&Member{opts: opts, cluster: new(cluster.Cluster), memory: newMemory(&opts, nil)})
		w.lease = ownership.Forever
		takes := func(what string, o order, want time.Duration) {
			t.Helper()
			w.todo = o
			start := time.Now()
			w.work(t.Context())
			if took := time.Since(start); took != want {
				t.Errorf("%s takes %s, want %s", what, took, want)
			}
		}
		state := new(desired.Agreement)
		offer, other := []letter{{to: "n2", offer: true}}, []letter{{to: "n2"}}
		takes("a state", order{agreed: state, send: other}, 0)
		takes("one in which buckets leave", order{agreed: state, send: append(offer, offer...)}, opening)
		takes("the offer again", order{send: offer}, 0)
		takes("another state", order{agreed: state}, 0)
		time.Sleep(150 * time.Millisecond)
		takes("an offer a while later", order{send: offer}, opening-150*time.Millisecond)
		go func() {
			time.Sleep(20 * time.Millisecond)
			w.stir() // something to say
			time.Sleep(20 * time.Millisecond)
			w.refresh(state)
		}()
		takes("one that something else has to be done beside", order{agreed: state, send: offer}, 40*time.Millisecond)
		if len(w.wake) != 1 || w.todo.agreed == nil {
			t.Error("which is forgotten")
		}
		opening = 0
		takes("one while none is opening", order{agreed: state, send: offer}, 0)
	})
}
