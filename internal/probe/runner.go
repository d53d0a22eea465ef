package probe

import (
	"cmp"
	"container/heap"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/health"
)

// DefaultParallel is how many probes run at once: each may hold a descriptor or two, and with a
// timeout of 1 s as many hanging checks a second are still on time.
const DefaultParallel = 256

// A Check is what to probe, and how often. Service, Backend and Name together are its identity.
type Check struct {
	Service string
	Backend string // that it is about; empty: this node
	Name    string
	Target  netip.AddrPort
	Dialled bool // it is connected by Options.Dial: the routes of this machine do not lead to that backend's target
	Spec    Spec
	Rule    health.Rule
}

// A Report is what one probe told.
type Report struct {
	Service string
	Backend string
	Name    string
	Kind    Kind
	Result  health.Result
	State   health.State // of the check, now
	Changed bool         // the state is another one, or the agent said something new
	Found   bool         // the state is what probes found, for the first time
}

// A Status is a check for people to look at.
type Status struct {
	Service string
	Backend string
	Name    string
	Kind    Kind
	Target  netip.AddrPort
	Agent   health.Agent // of kind Agent
	Next    time.Time    // when the next probe begins; the past: one is under way, or due
	health.Snapshot
}

// Options are what a Runner needs beside its checks.
type Options struct {
	Node   string       // this node's name: nodes probe at times of their own
	Log    *slog.Logger // for changes of states
	Report func(Report) // is told of each probe; one call at a time, which must not block; may be nil
	// Dial connects, by "tcp" or "udp", for checks that say so. It may be called in parallel.
	Dial     func(ctx context.Context, check Check, network string) (net.Conn, error)
	Parallel int // 0: DefaultParallel
}

// A Runner probes checks and keeps their states. Its methods may be called in parallel.
type Runner struct {
	opts  Options
	probe func(context.Context, netip.AddrPort, *Spec) health.Result // Probe; tests have their own
	wake  chan struct{}
	done  chan outcome

	mu      sync.Mutex
	entries map[identity]*entry
	waiting queue // the wanted entries that are not being probed
	running int
}

type identity struct{ service, backend, name string }

type entry struct {
	id       identity
	check    Check
	machine  *health.Machine
	schedule *health.Schedule
	agent    health.Agent
	due      time.Time

	cancel context.CancelFunc // of the probe under way; nil: there is none
	stale  bool               // its result is of no use any more
	gone   bool               // the check is not wanted: the entry goes when the probe has ended
}

type outcome struct {
	entry  *entry
	result health.Result
}

// NewRunner returns a Runner without checks. Nothing is probed before Run.
func NewRunner(opts Options) *Runner {
	opts.Parallel = cmp.Or(max(0, opts.Parallel), DefaultParallel)
	return &Runner{
		opts: opts, probe: Probe, wake: make(chan struct{}, 1), done: make(chan outcome, opts.Parallel),
		entries: make(map[identity]*entry),
	}
}

// Set says which checks there shall be from now on. Of those that were there before,
//
//   - one that is the same goes on undisturbed;
//   - one with another rule keeps its state and its results;
//   - one with another target or spec keeps its state only, and what an agent said is forgotten: to
//     change a path in the configuration does not take a service down.
//
// A new check begins as its rule says. A probe of what changed or went is stopped.
func (r *Runner) Set(checks []Check) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	wanted := make(map[identity]bool, len(checks))
	for _, check := range checks {
		id := identity{check.Service, check.Backend, check.Name}
		wanted[id] = true
		e, ok := r.entries[id]
		if !ok {
			e = &entry{id: id, gone: true}
			r.entries[id] = e
		}
		e.set(check, r.opts.Node, now)
	}
	for id, e := range r.entries {
		if !wanted[id] {
			e.abandon()
			e.gone = true
			if e.cancel == nil {
				delete(r.entries, id)
			}
		}
	}
	r.waiting = r.waiting[:0]
	for _, e := range r.entries {
		if e.cancel == nil {
			r.waiting.Push(e)
		}
	}
	heap.Init(&r.waiting)
	select {
	case r.wake <- struct{}{}:
	default: // it will see this, too
	}
}

// set makes the entry one of that check.
func (e *entry) set(check Check, node string, now time.Time) {
	old := e.check
	e.check = check
	switch {
	case e.gone: // new
		e.gone = false
		e.machine = health.New(check.Rule, now)
		seed := node + "\x00" + check.Service + "\x00" + check.Name
		if check.Backend != "" {
			seed += "\x00" + check.Backend
		}
		e.schedule = health.NewSchedule(seed)
		e.agent = firstAgent(check.Rule)
	case check.Target != old.Target || check.Dialled != old.Dialled || !reflect.DeepEqual(check.Spec, old.Spec):
		e.abandon()
		e.machine = e.machine.Successor(check.Rule)
		e.agent = health.Agent{}
	case check.Rule != old.Rule:
		e.machine.SetRule(check.Rule)
		if latest := now.Add(e.machine.Interval()); e.due.After(latest) {
			e.due = latest
		}
		return
	default:
		return
	}
	e.due = now.Add(e.schedule.First(e.machine.Interval()))
}

// firstAgent is what an agent is taken to have said before it said anything.
func firstAgent(rule health.Rule) health.Agent {
	if rule.Start == health.Down {
		return health.Agent{Health: health.AgentDown, Note: "not heard yet"}
	}
	return health.Agent{}
}

// abandon stops the probe under way, if there is one.
func (e *entry) abandon() {
	if e.cancel != nil {
		e.cancel()
		e.stale = true
	}
}

// Run probes until ctx ends, and returns nil when the last probe has ended, too: at once, since
// they end with ctx.
func (r *Runner) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ended *outcome
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		case o := <-r.done:
			ended = &o
		}
		if ctx.Err() != nil {
			return nil // what ended may have failed for that reason
		}
		if ended != nil {
			r.finish(*ended)
		}
		timer.Reset(r.start(ctx, &probes))
	}
}

// idle is how long to wait for nothing in particular.
const idle = time.Hour

// start begins the probes that are due, the one that waits longest first, and returns how long
// until the next one is.
func (r *Runner) start(ctx context.Context, probes *sync.WaitGroup) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.waiting) > 0 && r.running < r.opts.Parallel {
		e := r.waiting[0]
		if wait := e.due.Sub(now); wait > 0 {
			return wait
		}
		heap.Pop(&r.waiting)
		r.running++
		within, cancel := context.WithTimeout(ctx, e.machine.Rule().Timeout)
		e.cancel, e.stale = cancel, false
		target, spec := e.check.Target, r.specOf(e.check)
		probes.Go(func() {
			defer cancel()
			r.done <- outcome{e, r.probe(within, target, &spec)} // there is room for all
		})
	}
	return idle
}

// specOf is how a check is tried now.
func (r *Runner) specOf(check Check) Spec {
	spec := check.Spec
	if check.Dialled {
		spec.Dial = func(ctx context.Context, network string) (net.Conn, error) { return r.opts.Dial(ctx, check, network) }
	}
	return spec
}

// finish takes in a result and says when the next probe is.
func (r *Runner) finish(o outcome) {
	report, useful := r.record(o)
	if !useful {
		return
	}
	if report.Changed {
		level := slog.LevelInfo
		if report.State == health.Down {
			level = slog.LevelWarn
		}
		about := []any{"service", report.Service}
		if report.Backend != "" {
			about = append(about, "backend", report.Backend)
		}
		r.opts.Log.With(about...).Log(context.Background(), level, "check changed", "check", report.Name,
			"state", report.State.String(), "detail", report.Result.Detail, "took", report.Result.Took)
	}
	if r.opts.Report != nil {
		r.opts.Report(report)
	}
}

func (r *Runner) record(o outcome) (report Report, useful bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := o.entry
	e.cancel = nil
	r.running--
	if e.gone {
		delete(r.entries, e.id)
		return Report{}, false
	}
	defer heap.Push(&r.waiting, e)
	if e.stale {
		return Report{}, false // Set said when it is due
	}
	now := time.Now()
	unsure := !e.machine.Sure()
	changed := e.machine.Record(now, o.result)
	if o.result.Agent != nil {
		agent := e.agent.Apply(*o.result.Agent)
		changed = changed || !agent.Equal(e.agent)
		e.agent = agent
	}
	e.due = e.due.Add(e.schedule.Next(e.machine.Interval()))
	if e.due.Before(now) { // it took too long, or came too late
		e.due = now
	}
	return Report{
		Service: e.id.service, Backend: e.id.backend, Name: e.id.name, Kind: e.check.Spec.Kind, Result: o.result,
		State: e.machine.State(), Changed: changed, Found: unsure && e.machine.Sure(),
	}, true
}

// A Subject is what checks are about.
type Subject struct {
	Service string
	Backend string // empty: this node
}

// Health returns what checks and agents say: the Checks, Why and Agents of a health.Service, whose other
// fields are the caller's. What has no checks is not in it.
func (r *Runner) Health() map[Subject]health.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	subjects := make(map[Subject]health.Service)
	for id, e := range r.entries {
		if e.gone {
			continue
		}
		about := Subject{id.service, id.backend}
		s, ok := subjects[about]
		if !ok {
			s = health.Service{
				Checks: make(map[string]health.State), Why: make(map[string]string), Agents: make(map[string]health.Agent),
			}
			subjects[about] = s
		}
		if e.check.Spec.Kind == Agent {
			s.Agents[id.name] = e.agent
		} else {
			s.Checks[id.name] = e.machine.State()
			if why := e.machine.Why(); why != "" {
				s.Why[id.name] = why
			}
		}
	}
	return subjects
}

// Unsure returns what has a check whose state no probe has found yet.
func (r *Runner) Unsure() map[Subject]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	unsure := make(map[Subject]bool)
	for id, e := range r.entries {
		if !e.gone && !e.machine.Sure() {
			unsure[Subject{id.service, id.backend}] = true
		}
	}
	return unsure
}

// Status returns all checks by service, backend and name.
func (r *Runner) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var list []Status
	for id, e := range r.entries {
		if e.gone {
			continue
		}
		list = append(list, Status{
			Service: id.service, Backend: id.backend, Name: id.name, Kind: e.check.Spec.Kind, Target: e.check.Target,
			Agent: e.agent, Next: e.due, Snapshot: e.machine.Snapshot(now),
		})
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.Name, b.Name))
	})
	return list
}
