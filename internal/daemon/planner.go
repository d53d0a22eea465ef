package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/announce"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/netmon"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
	"github.com/lbctl/lbctl/internal/reconcile"
	"github.com/lbctl/lbctl/internal/store"
)

const (
	quiet      = 20 * time.Millisecond // of events before acting: links change in bursts
	pruneEvery = 10 * time.Second      // between looks at what others changed
	retryFirst = 250 * time.Millisecond
	retryLast  = 10 * time.Second
)

// A planner owns the latest of each input and everything that follows from it. One goroutine, run,
// touches the fields; others ask it.
type planner struct {
	opts    Options
	started time.Time
	path    *datapath.Datapath
	applier *reconcile.Applier
	asks    chan ask
	changes chan netmon.Event
	events  history
	checked chan struct{} // a check changed its mind
	checks  *probe.Runner
	notices *notices
	stirred chan struct{} // the machine told something

	announcer *announce.Announcer
	claims    map[netip.Addr]claim // by others, of VIPs; nil before the first look

	store      *store.Store   // nil without membership
	member     *member.Member // nil without membership
	agreed     *desired.Agreement
	builder    desired.Builder
	forwarder  *forwarder
	routes     *nexthop.Summary // for the replies of NAT's backends
	cfg        *config.Config
	loadedAt   time.Time
	loadError  error
	state      *lb.State
	generation uint64
	applyError error
	report     datapath.Report
	drift      []string
	informed   bool // what the peers know is known here, too
	ready      bool
}

// An ask is a function to run in the planner's goroutine.
type ask struct {
	do   func()
	done chan struct{}
}

// within runs do in the planner's goroutine; false when ctx ended first.
func (p *planner) within(ctx context.Context, do func()) error {
	a := ask{do, make(chan struct{})}
	select {
	case p.asks <- a:
		<-a.done
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changed notes that the network changed. One note is enough: all of it is looked at again.
func (p *planner) changed(event netmon.Event) {
	select {
	case p.changes <- event:
	default:
	}
}

// use makes a configuration the one in force.
func (p *planner) use(cfg *config.Config) error {
	checks, err := checksOf(cfg)
	if err != nil {
		return err
	}
	p.cfg, p.loadedAt, p.loadError = cfg, time.Now(), nil
	p.path.SetMode(datapath.Mode(cfg.Attach))
	p.checks.Set(checks)
	p.notices.set(cfg)
	p.forwarder.use(cfg)
	p.routes.Want(slices.ContainsFunc(cfg.Services, func(s config.Service) bool { return s.Forward == lb.ForwardNAT }))
	p.assumeServices()
	return nil
}

// probed wakes the planner when a check changed its mind, or has one of its own. It is called from the goroutines of checks.
func (p *planner) probed(node string, r probe.Report) {
	switch {
	case r.Changed:
		p.events.add(checkEvent(node, r))
	case !r.Found:
		return
	}
	select {
	case p.checked <- struct{}{}:
	default:
	}
}

func (p *planner) run(ctx context.Context) error {
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	flows := time.NewTicker(loadsEvery)
	defer flows.Stop()
	attempts := time.NewTicker(attemptsEvery)
	defer attempts.Stop()
	claims := time.NewTicker(claimsEvery)
	defer claims.Stop()
	p.lookForClaims() // what a process before this one counted is old
	retry := retryFirst
	again := time.After(0)
	changed := false // by others, since the last look
	decided := p.decided()
	informed := p.peersKnow()
	for {
		select {
		case <-ctx.Done():
			if p.forwarder.looking {
				<-p.forwarder.looks
			}
			return p.leave(context.WithoutCancel(ctx))
		case a := <-p.asks:
			a.do()
			close(a.done)
		case <-p.changes:
			again, changed = time.After(quiet), true
		case <-p.checked:
			p.wish(ctx)
			p.notices.states(config.HookService, p.services())
			again = p.forwarder.rethink(again)
		case <-decided:
			decided = p.decided()
			again = p.forwarder.rethink(again)
		case <-informed:
			informed, p.informed = nil, true
			p.forwarder.stale = true
			again = time.After(0)
		case <-p.forwarder.stirred:
			again = p.forwarder.rethink(again)
		case <-p.forwarder.due:
			again = p.forwarder.rethink(again)
		case <-flows.C:
			p.watchFlows()
		case look := <-p.forwarder.looks:
			if p.lookedAtFlows(look) {
				again = p.forwarder.rethink(again)
			}
		case <-attempts.C:
			if p.watchAttempts(ctx) {
				again = p.forwarder.rethink(again)
			}
		case <-claims.C:
			p.lookForClaims()
		case <-prune.C:
			if p.prune(ctx) != nil {
				again = time.After(retry)
			}
		case <-again:
			again = nil
			if changed {
				changed = false
				p.look(ctx)
			}
			if err := p.apply(ctx); err != nil {
				again = time.After(retry)
				retry = min(2*retry, retryLast)
				break
			}
			retry = retryFirst
		}
	}
}

// decided returns a channel that is closed when people decide something; take it before what they
// decided is read.
func (p *planner) decided() <-chan struct{} {
	if p.store == nil {
		return nil
	}
	return p.store.Changed()
}

// peersKnow returns a channel that is closed when this node knows what its peers do. A node without any
// knows that at once.
func (p *planner) peersKnow() <-chan struct{} {
	if p.member == nil {
		p.informed = true
		return nil
	}
	return p.member.Informed()
}

// apply builds the state from the inputs and makes it so. It logs a failure that is new.
func (p *planner) apply(ctx context.Context) error {
	state, err := p.build()
	if err != nil {
		return p.applied(nil, fmt.Errorf("build state: %w", err))
	}
	if state == nil {
		return nil // in a moment
	}
	start := time.Now()
	report, err := p.applier.Apply(ctx, state)
	tried := p.state
	if report.Attached != nil {
		p.report, tried = report, state
		p.forwarder.applied = true
		p.announcer.Set(announcements(state))
	}
	err = p.applied(state, err)
	p.tellVIPs(tried)
	if len(p.forwarder.services) > 0 {
		p.notices.states(config.HookService, p.services())
	}
	if err != nil {
		return err
	}
	if report.Buckets > 0 {
		p.opts.Log.Info("tables changed", "buckets", report.Buckets, "gen", p.generation, "took", time.Since(start))
	}
	if !p.ready && p.informed {
		p.ready = true
		p.notify("READY=1\nSTATUS=serving")
		p.opts.Log.Info("serving", "cluster", p.cfg.ClusterName, "node", p.cfg.Node, "vips", len(p.cfg.VIPs))
		p.wish(ctx)
	}
	return nil
}

// build returns the state that follows from the inputs; nil while the cluster has not agreed yet, or the
// ways to backends are looked for.
func (p *planner) build() (*lb.State, error) {
	p.forward()
	switch {
	case !p.forwarder.ready():
		return nil, nil
	case p.member == nil:
		return p.builder.Build(p.cfg, nil, nil, p.forwarder.targets)
	case p.agreed == nil:
		return nil, nil
	}
	return desired.Agreed(p.cfg, p.agreed, p.forwarder.targets)
}

func (p *planner) applied(state *lb.State, err error) error {
	if err != nil {
		if p.applyError == nil || p.applyError.Error() != err.Error() {
			p.opts.Log.Error("not all is applied; trying again", "err", err)
			p.notifyStatus("not all is applied: " + err.Error())
		}
		p.applyError = err
		return err
	}
	if p.applyError != nil {
		p.applyError = nil
		p.notifyStatus("serving")
	}
	p.state = state
	p.generation++
	p.forwarder.settle(p.cfg)
	p.wantFlows(state)
	return nil
}

// prune repairs what others changed, and says so. It returns an error when a repair failed, which
// is logged.
func (p *planner) prune(ctx context.Context) error {
	before := p.drift
	p.drift = nil
	if !p.look(ctx, before...) {
		return nil
	}
	return p.apply(ctx)
}

// look finds what others changed, reports what is not known yet, and says whether there is
// something to repair. What it finds stays in the status until the next prune, however soon it is
// repaired.
func (p *planner) look(ctx context.Context, known ...string) (repair bool) {
	drift, repair, err := p.applier.Drift(ctx)
	if err != nil {
		p.opts.Log.Warn("the host could not be checked", "err", err)
	}
	known = append(known, p.drift...)
	fresh := slices.DeleteFunc(slices.Clone(drift), func(line string) bool { return slices.Contains(known, line) })
	if len(fresh) > 0 {
		p.opts.Log.Warn("somebody changed what is ours", "drift", fresh)
	}
	for _, line := range drift {
		if !slices.Contains(p.drift, line) {
			p.drift = append(p.drift, line)
		}
	}
	for _, line := range fresh {
		p.events.add(control.Event{Kind: "drift", Node: p.cfg.Node, What: line})
	}
	return repair
}

// reload reads the file again. A file that is invalid, or cannot be applied, changes nothing.
func (p *planner) reload(ctx context.Context) (result control.ReloadResult, err error) {
	noted, err := p.remembered()
	if err != nil {
		p.opts.Log.Warn("what becomes of open flows is not known", "err", err)
	}
	asked := p.within(ctx, func() { result, err = p.reloadNow(ctx, noted) })
	return result, errors.Join(asked, err)
}

func (p *planner) reloadNow(ctx context.Context, noted []datapath.Exception) (control.ReloadResult, error) {
	p.notifyReloading()
	defer p.notify("READY=1")
	fresh, err := config.Load(p.opts.Config)
	if err != nil {
		p.loadError = err
		return control.ReloadResult{}, err
	}
	old := p.cfg
	changes := config.Diff(old, fresh)
	if err := errors.Join(p.changeable(fresh), p.reloadKeys()); err != nil {
		p.loadError = err
		return control.ReloadResult{}, err
	}
	if err := p.possible(fresh); err != nil {
		p.loadError = err
		return control.ReloadResult{}, fmt.Errorf("apply the new file (the old one stays in force): %w", err)
	}
	broken := p.breaks(fresh, noted, len(changes) > 0)
	if err := p.use(fresh); err != nil {
		p.loadError = err
		return control.ReloadResult{}, err
	}
	if err := p.apply(ctx); err != nil {
		failed := errors.Join(err, p.use(old))
		p.loadError = failed
		if back := p.apply(ctx); back != nil {
			return control.ReloadResult{}, fmt.Errorf("apply the new file: %w; and going back: %w", err, back)
		}
		return control.ReloadResult{}, fmt.Errorf("apply the new file (the old one stays in force): %w", err)
	}
	p.reconfigure(ctx)
	p.events.add(control.Event{Kind: "config", Node: p.cfg.Node, What: fmt.Sprintf("%d changes of the configuration are in force", len(changes))})
	p.opts.Log.Info("configuration reloaded", "changes", len(changes), "gen", p.generation)
	return control.ReloadResult{Generation: p.generation, Changes: changes, Flows: broken}, nil
}

// possible says what keeps a configuration from being applied in full: it is better not begun, as what
// backends lose meanwhile is not as it was when it is undone.
func (p *planner) possible(fresh *config.Config) error {
	if p.state == nil {
		return nil // there is nothing to lose
	}
	next, err := p.imagined(fresh)
	if err != nil {
		return fmt.Errorf("build state: %w", err)
	}
	return p.applier.Possible(next)
}

// leave ends as the configuration says.
func (p *planner) leave(ctx context.Context) error {
	p.notify("STOPPING=1")
	p.part(ctx)
	if p.cfg.Shutdown == config.Leave {
		p.path.Close()
		p.opts.Log.Info("leaving; the kernel goes on serving")
		return nil
	}
	p.opts.Log.Info("withdrawing")
	defer p.stopVIPs()
	return p.applier.Withdraw(ctx)
}
