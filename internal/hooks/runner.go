package hooks

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/program"
)

const (
	// maxQueue is how many events may wait for one hook. When there are more the oldest are dropped,
	// so that the newest state of everything is told.
	maxQueue = 64
	// stopTime is how long hooks may take when lbd ends.
	stopTime = 2 * time.Second
)

// A Runner runs hooks: each one event at a time, in their order, and none waits for another. Its
// methods may be called in parallel, and do not wait.
type Runner struct {
	dir  string
	log  *slog.Logger
	wake chan struct{}

	mu    sync.Mutex
	hooks []*hook
	runs  uint64
}

type hook struct {
	config  config.Hook
	queue   []Event
	busy    bool   // a goroutine tells what is in the queue
	gone    bool   // not wanted any more; it goes when it is not busy
	telling Event  // what it is being told
	current string // the file that is there as long as nothing newer is to be told of the same; see mark
	dropped uint64 // events, since Set brought the hook
	burst   uint64 // events dropped since the queue was last told about
	failed  string // why the last run failed; empty: it did not
}

// A Status is what became of a hook.
type Status struct {
	Command []string
	Waiting int    // events
	Dropped uint64 // events, because too many waited
	Failed  string // why the last run failed; empty: it did not
}

// NewRunner returns a Runner without hooks. The directory is its own; all users can read it.
func NewRunner(dir string, log *slog.Logger) *Runner {
	return &Runner{dir: dir, log: log, wake: make(chan struct{}, 1)}
}

// Set says which hooks there shall be from now on. One that was there before, by its command, keeps
// what waits for it.
func (r *Runner) Set(hooks []config.Hook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hooks {
		h.gone = true
	}
	for _, c := range hooks {
		i := slices.IndexFunc(r.hooks, func(h *hook) bool { return slices.Equal(h.config.Command, c.Command) })
		if i < 0 {
			r.hooks = append(r.hooks, &hook{config: c})
			continue
		}
		r.hooks[i].config, r.hooks[i].gone = c, false
	}
	for _, h := range r.hooks {
		if h.gone {
			h.queue = nil
		}
	}
	r.hooks = slices.DeleteFunc(r.hooks, func(h *hook) bool { return h.gone && !h.busy })
}

// Wants says whether a hook is told events of that kind.
func (r *Runner) Wants(kind config.HookEvent) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.hooks, func(h *hook) bool { return h.wants(kind) })
}

func (h *hook) wants(kind config.HookEvent) bool {
	return !h.gone && slices.Contains(h.config.On, kind)
}

// Tell queues an event for the hooks that want it.
func (r *Runner) Tell(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hooks {
		if h.wants(e.Kind) {
			r.push(h, e)
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Runner) push(h *hook, e Event) {
	h.queue = append(h.queue, e)
	if h.busy && sameSubject(&h.telling, &e) {
		h.unmark()
	}
	if len(h.queue) <= maxQueue {
		return
	}
	h.queue = slices.Delete(h.queue, 0, 1)
	h.dropped++
	if h.burst++; h.burst == 1 {
		r.log.Warn("a hook is too slow; events are dropped", "hook", h.config.Command[0])
	}
}

// Run runs hooks until ctx ends, gives them a moment to end, kills what is left, and returns nil.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.prepare(); err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var workers sync.WaitGroup
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-r.wake:
		}
		r.start(work, &workers) // also what was told last
	}
	defer time.AfterFunc(stopTime, stop).Stop()
	workers.Wait()
	r.abandon()
	return nil
}

// start gives each hook that has something to tell a goroutine.
func (r *Runner) start(ctx context.Context, workers *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hooks {
		if !h.busy && len(h.queue) > 0 {
			h.busy = true
			workers.Go(func() {
				for t, more := r.next(ctx, h); more; t, more = r.next(ctx, h) {
					r.ran(h, t.event, r.run(ctx, t))
				}
			})
		}
	}
}

// A turn is one event for one hook.
type turn struct {
	config  config.Hook
	event   Event
	current string // a file, see mark
}

// next takes the oldest event of a hook. Without one the hook is not busy any more.
func (r *Runner) next(ctx context.Context, h *hook) (t turn, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.burst > 0 {
		r.log.Warn("a hook was too slow", "hook", h.config.Command[0], "dropped", h.burst)
		h.burst = 0
	}
	if len(h.queue) == 0 || ctx.Err() != nil {
		h.busy = false
		r.hooks = slices.DeleteFunc(r.hooks, func(h *hook) bool { return h.gone && !h.busy })
		return turn{}, false
	}
	e := h.queue[0]
	h.queue = slices.Delete(h.queue, 0, 1)
	r.mark(h, e)
	return turn{h.config, e, h.current}, true
}

// run tells one hook of one event.
func (r *Runner) run(ctx context.Context, t turn) error {
	line, err := t.event.line()
	if err != nil {
		return err
	}
	p := program.Program{
		Command: slices.Concat(t.config.Command, t.event.arguments()), Env: t.event.environment(), Input: line, User: t.config.User,
	}
	if t.current != "" {
		p.Env = append(p.Env, "LB_CURRENT="+t.current)
	}
	ctx, cancel := context.WithTimeout(ctx, t.config.Timeout)
	defer cancel()
	said, err := p.Run(ctx)
	if err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// ran notes what became of a run.
func (r *Runner) ran(h *hook, e Event, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.unmark()
	command := h.config.Command[0]
	h.failed = ""
	if err != nil {
		h.failed = err.Error()
		r.log.Warn("a hook failed", "hook", command, "event", e.arguments(), "err", err)
		return
	}
	r.log.Debug("a hook was told", "hook", command, "event", e.arguments())
}

// abandon logs what nobody is told any more.
func (r *Runner) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hooks {
		if len(h.queue) > 0 {
			r.log.Warn("lbd ends before a hook was told everything", "hook", h.config.Command[0], "events", len(h.queue))
		}
	}
}

// Status returns what became of each hook.
func (r *Runner) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Status
	for _, h := range r.hooks {
		if !h.gone {
			all = append(all, Status{Command: h.config.Command, Waiting: len(h.queue), Dropped: h.dropped, Failed: h.failed})
		}
	}
	return all
}
