package member

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

// Options say who we are and what to act on.
type Options struct {
	Machine    ownership.Config
	Cluster    cluster.Options // without callbacks
	KeyFile    string          // that Ring is from; empty: the cluster has no key
	Ring       cluster.Ring
	Heartbeats []heartbeat.Options // one for each interface of a VIP; without callbacks
	Witnesses  []netip.Addr        // asked by ICMP echo, for ownership.PolicyWitness
	Store      *store.Store
	Snapshot   string    // the file in which a leave of absence outlives the process
	Nodes      []lb.Node // those of the configuration; others join with what they tell
	Wishes     Wishes    // to begin with
	Version    string

	// Apply makes the kernel follow what was agreed on.
	Apply func(context.Context, *desired.Agreement) error
	// Lease lets the kernel take new flows until then, a time of datapath.Monotonic, or always with
	// datapath.NoLease. It is called from several goroutines.
	Lease func(until time.Duration) error
	// NewLife is Lease for one that holds nothing.
	NewLife func(until time.Duration) error
	// UDPFlows returns the flows that the kernel noted while their buckets moved.
	UDPFlows func() ([]datapath.UDPFlow, error)
	// Happened tells what changed. It is called from one goroutine and must not wait.
	Happened func(ownership.Happening)
	// Voted tells that a peer found out something else about backends. It must not wait; may be nil.
	Voted func()
	// News, Notes and Take are the datapath's memory of flows, which is told to the peers. All may be nil.
	News  func(most int) (notes []datapath.Note, missed time.Duration, err error)
	Notes func(within time.Duration) iter.Seq2[[]datapath.Note, error]
	Take  func([]datapath.Note) error
	// Opening is for how long a connection may be opening whose place does not follow from its packets; 0 while
	// there is none. It is called from any goroutine; may be nil.
	Opening func() time.Duration

	Log *slog.Logger
}

// errEnded answers who asks after Run.
var errEnded = errors.New("membership has ended")

// A Member is this node's part in a cluster. Its methods may be called from any goroutine.
type Member struct {
	opts    Options
	cluster *cluster.Cluster
	links   []*heartbeat.Heartbeat

	// inbox are functions for the goroutine that owns the machine.
	inbox chan func()
	seen  chan struct{} // gossip or heartbeats changed
	ended chan struct{} // nobody reads the inbox any more
	work  *worker
	stand *stand

	echoes *echoes
	keys   *keeper
	memory *memory

	informed chan struct{} // closed when this node knows what its peers know

	// Of the goroutine that owns the machine:
	status     ownership.Status // after the last event that changed something
	begun      time.Time        // when peers could first be heard
	sights     map[string]sighting
	known      map[string]net.HardwareAddr // of peers, that the kernel was told
	told       told                        // what the kernel was, of the machine's tables
	wishes     Wishes
	wished     map[string]ownership.Weight // what the machine was told last
	ready      bool
	resumed    bool // in the life of the process before
	isInformed bool
	finished   bool // the machine must see no further event
	waiting    func(ownership.Happening)

	// Heartbeats ask the machine from their goroutines.
	machineMu sync.Mutex
	machine   *ownership.Machine

	mu      sync.Mutex // of what follows
	facts   map[string]Facts
	own     Facts
	toldAll map[string]bool // peers that had nothing we do not, at some time

	votes        Votes // nil: there never were any
	votedAt      time.Time
	ballotNumber uint64
	ballots      map[string]ballot

	attemptNumber uint64
	attempts      map[string]attemptReport // by node
}

// New reads what is needed; nothing is sent before Run.
func New(opts Options) (*Member, error) {
	m := &Member{
		opts:     opts,
		wishes:   opts.Wishes,
		inbox:    make(chan func()),
		seen:     make(chan struct{}, 1),
		ended:    make(chan struct{}),
		facts:    make(map[string]Facts),
		informed: make(chan struct{}), toldAll: make(map[string]bool),
		// Above those of every process before.
		ballotNumber: uint64(max(0, time.Now().UnixNano())),
		ballots:      make(map[string]ballot),
		// the same
		attemptNumber: uint64(max(0, time.Now().UnixNano())),
		attempts:      make(map[string]attemptReport),
		own:           Facts{Version: opts.Version},
	}
	notice := func() {
		select {
		case m.seen <- struct{}{}:
		default:
		}
	}
	opts.Cluster.Received = m.received
	opts.Cluster.Changed = func(p cluster.Peer) {
		notice()
		m.greet(p)
		m.memory.changed(p)
	}
	if err := m.begin(); err != nil {
		return nil, err
	}
	m.work, m.stand = newWorker(m), newStand(m, opts.Witnesses)
	m.echoes = newEchoes(opts.Machine.HintTime)
	m.memory = newMemory(&m.opts, func(to string, message []byte) error { return m.cluster.SendBulk(to, message) })
	var err error
	if m.keys, err = newKeeper(m, opts.KeyFile, opts.Ring); err != nil {
		return nil, err
	}
	if m.cluster, err = cluster.New(opts.Cluster); err != nil {
		return nil, err
	}
	for _, o := range opts.Heartbeats {
		o.Changed, o.Confirms, o.Log = notice, m.confirms, opts.Log
		link, err := heartbeat.New(o)
		if err != nil {
			return nil, fmt.Errorf("heartbeat on %s: %w", o.Interface, err)
		}
		link.SetLife(m.machine.Status(0).Life)
		m.links = append(m.links, link)
	}
	return m, nil
}

// begin resumes the life that took a leave of absence, or begins a new one.
func (m *Member) begin() error {
	machine, err := m.resume()
	if err == nil {
		m.machine, m.resumed = machine, true
		return nil
	}
	m.opts.Log.Info("beginning a new life", "reason", err)
	life, err := m.newLife()
	if err != nil {
		return err
	}
	if m.machine, err = ownership.New(m.opts.Machine, life, datapath.Monotonic()); err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

// newLife returns a number for a life that is higher than all before. The machine counts lives in
// nanoseconds and the store in seconds, so that lives which begin within one process stay below
// those of the next.
func (m *Member) newLife() (uint64, error) {
	n, err := m.opts.Store.NewLife()
	return (n + 1) * uint64(time.Second), err
}

// Run takes part until ctx ends. Without Leave or Absence before, the peers will find us dead.
func (m *Member) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.cluster.Run(ctx) })
	for _, link := range m.links {
		group.Go(func() error { return link.Run(ctx) })
	}
	group.Go(func() error { return m.work.run(ctx) })
	group.Go(func() error { return m.loop(ctx) })
	group.Go(func() error { return m.tell(ctx) })
	group.Go(func() error { return m.knock(ctx) })
	group.Go(func() error { return m.stand.run(ctx) })
	group.Go(func() error { return m.keys.run(ctx) })
	if m.opts.News != nil {
		group.Go(func() error { return m.memory.run(ctx) })
	}
	return group.Wait()
}

// loop owns the machine.
func (m *Member) loop(ctx context.Context) error {
	defer close(m.ended)
	tick := time.NewTicker(m.opts.Machine.Tick)
	defer tick.Stop()
	stored := m.opts.Store.Changed()
	m.status = m.machine.Status(datapath.Monotonic())
	m.wish()
	if !m.resumed {
		m.inherit()
	}
	m.work.begin()
	m.begun = time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case do := <-m.inbox:
			do()
		case <-m.seen:
			m.look()
		case <-stored:
			stored = m.opts.Store.Changed()
			m.wish()
			m.share("")
		case <-tick.C:
			if m.work.lapsed() {
				m.handle(ownership.Lapsed{})
			}
			m.present()
			m.look()
			m.inform()
			m.handle(ownership.Tick{})
		}
	}
}

// within runs do in the goroutine that owns the machine.
func (m *Member) within(ctx context.Context, do func()) error {
	done := make(chan struct{})
	select {
	case m.inbox <- func() { do(); close(done) }:
		<-done
		return nil
	case <-m.ended:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handle gives the machine an event, after what witnesses say by now, and has done what it answers.
func (m *Member) handle(event ownership.Event) {
	m.stand.look()
	m.handleNow(event)
}

func (m *Member) handleNow(event ownership.Event) {
	if m.finished {
		return
	}
	m.machineMu.Lock()
	now := datapath.Monotonic()
	actions := m.machine.Handle(now, event)
	if len(actions.Changed) > 0 || len(actions.Events) > 0 {
		m.status = m.machine.Status(now)
	}
	m.machineMu.Unlock()
	if actions.NewLife != 0 {
		if _, err := m.newLife(); err != nil {
			m.opts.Log.Error("a new life is not on the disk", "err", err)
		}
		for _, link := range m.links {
			link.SetLife(actions.NewLife)
		}
	}
	m.work.add(actions)
	for _, h := range actions.Events {
		m.opts.Happened(h)
		if m.waiting != nil {
			m.waiting(h)
		}
	}
}

// confirms says whether our heartbeats may say that they hear a peer.
func (m *Member) confirms(peer string, life uint64) bool {
	m.machineMu.Lock()
	defer m.machineMu.Unlock()
	return m.machine.Confirms(peer, life)
}

// look tells the machine what gossip and heartbeats see.
func (m *Member) look() {
	var links [][]heartbeat.Peer
	for _, link := range m.links {
		links = append(links, link.Peers())
	}
	gossip := m.cluster.Peers()
	fresh := sightings(gossip, links)
	m.askBack(gossip, fresh)
	now := time.Now()
	m.echoes.into(fresh, m.status.Life, m.opts.Machine.DeadAfter, now)
	fresh = listened(fresh, now.Sub(m.begun) >= m.opts.Machine.DeadAfter)
	for _, event := range news(m.sights, fresh, monotonic) {
		m.handle(event)
	}
	for name, s := range fresh {
		if s.says && !m.sights[name].says {
			m.cluster.Rejoin(name) // nothing to do while gossip has it
		}
	}
	m.sights = fresh
	m.meet()
}

// monotonic returns a time that has passed, by the machine's clock.
func monotonic(at time.Time) time.Duration { return datapath.Monotonic() - time.Since(at) }

// received takes a message; it is called from the goroutine of gossip.
func (m *Member) received(from string, message []byte) {
	kind, payload, err := unframe(message)
	if err == nil {
		switch kind {
		case kindOwnership:
			err = m.ownership(from, payload)
		case kindStore:
			err = m.merge(from, payload)
		case kindFacts:
			err = m.fact(from, payload)
		case kindEcho:
			err = m.echo(from, payload)
		case kindVotes:
			err = m.voted(from, payload)
		case kindNotes:
			err = m.memory.told(from, payload)
		case kindNoted:
			err = m.memory.answered(from, payload)
		case kindAttempts:
			err = m.attempted(from, payload)
		case kindKeys:
			err = m.keys.received(from, payload)
		default:
			err = fmt.Errorf("kind %d is none", kind)
		}
	}
	if err != nil {
		m.opts.Log.Warn("a message was not understood", "node", from, "err", err)
	}
}

func (m *Member) ownership(from string, payload []byte) error {
	message, err := ownership.Unmarshal(payload)
	if err != nil {
		return err
	}
	select {
	case m.inbox <- func() { m.handle(ownership.Received{From: from, Message: message}) }:
	case <-m.ended:
	}
	return nil
}
