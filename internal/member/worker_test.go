package member

import (
	"context"
	"testing"
	"time"

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
