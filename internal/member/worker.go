package member

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/ownership"
)

// applyAgain is how long to wait after the kernel refused.
const applyAgain = 20 * time.Millisecond

// A worker does what the machine says, in its order: kernel, lease, messages. It is a goroutine of its
// own, because the kernel may keep it waiting, and a lease that is only renewed must not wait with it.
//
// What waits is put together: the newest state of the kernel serves all messages before it. A network
// that is slow does the same to messages, so nothing happens that the machine does not expect.
type worker struct {
	member *Member
	ready  chan struct{} // closed when what the kernel must do is known
	wake   chan struct{}

	followed time.Time // when the kernel last did what was new; of the goroutine of run

	mu    sync.Mutex
	todo  order
	clear bool          // the kernel holds nothing of a life before this process
	anew  bool          // a new life begins, and has no lease yet
	lease time.Duration // to begin it with
	late  bool          // the kernel's lease ended before it was renewed
	busy  bool
}

// An order is what waits to be done.
type order struct {
	agreed *desired.Agreement // nil when the kernel has the newest
	send   []letter
}

func (o *order) empty() bool { return o.agreed == nil && len(o.send) == 0 }

func newWorker(m *Member) *worker {
	return &worker{member: m, ready: make(chan struct{}), wake: make(chan struct{}, 1), anew: !m.resumed}
}

// begin makes the kernel follow the machine from its start.
func (w *worker) begin() {
	agreed := w.member.agreement()
	w.mu.Lock()
	w.todo.agreed = agreed
	w.mu.Unlock()
	close(w.ready)
	w.stir()
}

// refresh makes the kernel follow what is known besides what the machine says.
func (w *worker) refresh(agreed *desired.Agreement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.todo.agreed = agreed
	w.stir()
}

// add takes over what the machine said. It is called from the goroutine that owns the machine.
func (w *worker) add(a ownership.Actions) {
	var agreed *desired.Agreement
	w.member.told.forget(a.Changed)
	if len(a.Changed) > 0 {
		agreed = w.member.agreement()
	}
	letters := w.member.letters(a.Send)
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.NewLife != 0 {
		w.anew, w.todo.send = true, nil // what an older life had to say is over
	}
	if agreed != nil {
		w.todo.agreed = agreed
	}
	w.todo.send = append(w.todo.send, letters...)
	w.lease = a.Lease
	if !w.anew {
		w.renew(a.Lease)
	}
	if w.anew || !w.todo.empty() {
		w.stir()
	}
}

// renew lets the kernel go on. Its lease may have ended while this process did not run: the machine
// does not know that by its own clock.
func (w *worker) renew(until time.Duration) {
	switch err := w.member.opts.Lease(kernelLease(until)); {
	case errors.Is(err, datapath.ErrLapsed):
		w.late = until > datapath.Monotonic()
	case err != nil:
		w.member.opts.Log.Error("the lease is not renewed", "err", err)
	}
}

func kernelLease(until time.Duration) time.Duration {
	if until == ownership.Forever {
		return datapath.NoLease
	}
	return max(until, 1) // 0 would be for ever
}

func (w *worker) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.ready:
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			w.work(ctx)
		}
	}
}

// work does what waits. What comes in the meantime wakes it again.
func (w *worker) work(ctx context.Context) {
	var o order
	w.mu.Lock()
	o, w.todo, w.busy = w.todo, order{}, true
	w.mu.Unlock()
	for o.agreed != nil && w.member.opts.Apply(ctx, o.agreed) != nil { // who applies says why not
		select {
		case <-ctx.Done():
			return
		case <-time.After(applyAgain):
		}
		w.mu.Lock()
		if w.todo.agreed != nil {
			o.agreed, o.send, w.todo = w.todo.agreed, append(o.send, w.todo.send...), order{}
		}
		w.mu.Unlock()
	}
	if o.agreed != nil {
		w.followed = time.Now()
		w.mu.Lock()
		w.clear = true
		w.mu.Unlock()
	}
	w.endow()
	for _, l := range o.send {
		if l.offer { // who takes buckets knows their flows first
			w.ripen(ctx)
			w.member.memory.settle(ctx, l.to)
		}
		w.member.post(l)
	}
	w.mu.Lock()
	w.busy = false
	w.mu.Unlock()
}

// ripen waits until the connections are open that were opening when the kernel began to choose for buckets that
// leave as their next owner will. What is urgent does not wait.
func (w *worker) ripen(ctx context.Context) {
	if w.member.opts.Opening == nil {
		return
	}
	ripe := time.NewTimer(time.Until(w.followed.Add(w.member.opts.Opening())))
	defer ripe.Stop()
	for urgent := false; !urgent; {
		select {
		case <-ctx.Done():
			return
		case <-ripe.C:
			return
		case <-w.wake:
			defer w.stir()
			w.mu.Lock()
			urgent = w.todo.agreed != nil
			w.mu.Unlock()
		}
	}
}

// stir has what waits done, now or when the work of this moment is.
func (w *worker) stir() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// endow gives a new life its first lease, once the kernel holds nothing of the one before and the
// machine has a lease to give: a node that nobody hears gets none until it is heard.
func (w *worker) endow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.anew || w.todo.agreed != nil {
		return
	}
	switch err := w.member.opts.NewLife(kernelLease(w.lease)); {
	case errors.Is(err, datapath.ErrLapsed):
	case err != nil:
		w.member.opts.Log.Error("the new life has no lease", "err", err)
	default:
		w.anew = false
	}
}

// cleared says whether the kernel follows this process: what it took before is over.
func (w *worker) cleared() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clear
}

// lapsed says whether the kernel's lease ended before it was renewed, and forgets it.
func (w *worker) lapsed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := w.late
	w.late = false
	return late
}

// applied says whether the kernel does what the machine said last.
func (w *worker) applied() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.todo.agreed == nil && !w.anew && !w.busy
}

// idle returns when all that was said is done.
func (w *worker) idle(ctx context.Context) error {
	for {
		w.mu.Lock()
		done := w.todo.empty() && !w.anew && !w.busy
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
