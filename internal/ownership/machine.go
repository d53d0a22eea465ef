package ownership

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Machine is one node's part of the agreement. It is not safe for concurrent use.
type Machine struct {
	cfg    Config
	tables *tables
	broken rule // by a test

	memory
	now     time.Duration
	handled time.Duration // the last event
	actions Actions

	fingerprint uint64        // of what is known
	changedAt   time.Duration // when that changed
	planned     bool          // the plans follow it
	stir        bool          // something changed that may let buckets move
	changed     bool          // something changed that the kernel may have to know
	frozen      bool          // on leave: the snapshot of what is goes on, not this
	claiming    *claim
	claimedFor  uint64 // the knowledge under which the last claim was granted
	claimedAt   time.Duration
	settled     bool
	conflicts   map[string]bool

	news      map[string]bool // whose records were not told yet
	maybeNews bool
	toldAt    time.Duration // all of it
	opined    []Ref         // the last opinion
	opinedAt  time.Duration
}

// A memory is what survives a leave of absence.
type memory struct {
	Life, Number uint64
	Offers       uint64        // of this process, counted
	Born         time.Duration // of the process
	Began        time.Duration // of the life, or when it came back from leave, a pause, or from where no witness answers
	Until        time.Duration // end of the lease, 0 before the first
	Ready, Gone  bool
	Witnessed    bool
	Known        knowledge
	Peers        map[string]*peer
	Tokens       map[string]*domain // by domain
	Out          map[string]*move   // by peer; one at a time, so that its answer is clear
	In           map[string][]*move // by peer; taken and not yet released
	MaybeNumber  uint64
	Resets       []time.Duration // when lives were lost, the last two
	Leave        *leave          // of absence, asked for or taken
	Ended        uint64          // the number with which this life's last leave ended, 0 if it had none
}

// A domain is what this node has of an ownership table.
type domain struct {
	Held    Set // and nobody else has it; those in Out and In are not in here
	Maybe   Set // given up, and our sockets may live
	MaybeAt time.Duration
	Keep    Set // given up, and this node decides about their UDP
	KeepAt  time.Duration
	kept    bool // they were noted for long enough
	plan    *plan
	shown   *shown
}

// A peer is what is known of another node besides its record.
type peer struct {
	Heard  time.Duration // the last time that anything came from it
	Told   bool          // the driver said whether it is silent
	Silent bool

	Says said          // what its heartbeat says about ours
	At   time.Duration // when we sent the newest frame that it confirmed

	Life, Fingerprint, StateNumber uint64 // what it reported last
	Opinion                        []Ref
	OpinionLife, OpinionNumber     uint64
	OpinionAt                      time.Duration

	Offered   offered       // its last offer, and the answer
	RefusedAt time.Duration // our last offer
	Flows     flows         // what it said of its sockets
	Ghost     flows         // what it may have although it did not say so
	HostGone  bool          // its machine does not answer
	Absent    absence
}

type said uint8

const (
	saidNothing said = iota
	saidHeard
	saidUnheard
)

// A move is a hand-over under way.
type move struct {
	Life, Number uint64 // of the peer; of the offer
	Knowledge    uint64
	Parts        []Part
	Others       []Witnessed
	Kept         []Part // about whose UDP the taker decided before, and goes on
	Since, Sent  time.Duration
}

// offered remembers what was answered to a peer's last offer, so that the answer stays the same.
type offered struct {
	Life, Number uint64
	Taken        bool
}

// New returns a Machine at the start of a life, which must be higher than any that this node had.
// Lives come from the wall clock, in nanoseconds. The kernel must already be empty-handed: it
// accepts no new flows and Table says so.
func New(cfg Config, life uint64, now time.Duration) (*Machine, error) {
	if life == 0 {
		return nil, errors.New("ownership: life 0 is none")
	}
	m, err := newMachine(cfg)
	if err != nil {
		return nil, err
	}
	m.memory = memory{
		Life: life, Born: now, Began: now,
		Known: make(knowledge), Peers: make(map[string]*peer), Tokens: make(map[string]*domain),
		Out: make(map[string]*move), In: make(map[string][]*move), MaybeNumber: 1,
	}
	m.amend(func(r *Record) { *r = Record{Name: cfg.Name, Life: life, Config: cfg.Fingerprint, Meta: cfg.Meta} })
	return m, nil
}

func newMachine(cfg Config) (*Machine, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("ownership: %w", err)
	}
	return &Machine{
		cfg: cfg, tables: newTables(), conflicts: make(map[string]bool), news: make(map[string]bool),
	}, nil
}

// Handle tells the machine what happened at a time, which never goes back.
func (m *Machine) Handle(now time.Duration, event Event) Actions {
	if now-m.handled > m.cfg.LeaseTime {
		m.Began = now // who was paused missed everybody
	}
	m.now, m.handled, m.actions = now, now, Actions{Lease: m.Until}
	if m.Gone || m.frozen {
		return m.actions
	}
	// First of all: whatever the event says, a lease that ended is over.
	if m.Until != 0 && now >= m.Until && m.keeps(ruleLapse) {
		m.loseLife("lease ended")
	}
	m.take(event)
	m.yieldLineage()
	m.renewLease()
	m.declareDeaths()
	m.advance()
	m.replan()
	m.moveBuckets()
	m.goAway()
	m.finish()
	if _, tick := event.(Tick); tick {
		m.repeat()
	}
	m.tell()
	m.show()
	m.actions.Lease = m.Until
	return m.actions
}

// take brings an event into what the machine knows.
func (m *Machine) take(event Event) {
	switch e := event.(type) {
	case Tick:
		m.stir = true
		m.noteLongEnough()
	case Received:
		m.receive(e.From, e.Message)
	case Silent:
		p := m.peer(e.Peer)
		p.Told, p.Silent = true, e.Silent
	case HeardBy:
		m.heardBy(e)
	case HostAnswers:
		m.peer(e.Peer).HostGone, m.changed = !e.Answers, true
		m.exorcise(e.Peer)
	case Witness:
		m.witness(e)
	case Weights:
		m.weigh(e.Domains)
	case Ready:
		m.Ready = true
	case Absence:
		m.askLeave(e.For)
	case Leave:
		m.amend(func(r *Record) { r.Leaving = true })
	case Drained:
		m.drained(e)
	case Quiet:
		m.quiet(e)
	case Inherited:
		m.inherited(e)
	case Lapsed:
		if m.Until != 0 {
			m.loseLife("the kernel's lease ended")
		}
	case Reconfigured:
		m.reconfigure(e)
	}
}

// weigh replaces what this node wants.
func (m *Machine) weigh(domains map[string]Weight) {
	domains = maps.Clone(domains)
	for name, w := range domains {
		m.domain(name)
		domains[name] = w.keepChoice(m.self().Weights[name])
	}
	if maps.Equal(m.self().Weights, domains) {
		return
	}
	m.amend(func(r *Record) { r.Weights = domains })
}

func (m *Machine) reconfigure(e Reconfigured) {
	m.cfg.Expected, m.cfg.Policy = e.Expected, e.Policy
	if m.cfg.Fingerprint != e.Fingerprint {
		m.cfg.Fingerprint = e.Fingerprint
		clear(m.conflicts)
		m.loseLife("configuration changed")
		m.Resets = nil // by intent, not by a fault
	}
}

// receive takes a message. Those that name a life are for and from lives that are current; the
// others are about knowledge, which never hurts.
func (m *Machine) receive(from string, message Message) {
	if from == m.cfg.Name || from == "" || len(from) > maxName {
		return
	}
	m.peer(from).Heard = m.now
	switch msg := message.(type) {
	case State:
		m.onState(from, msg)
	case Opinion:
		m.onOpinion(from, msg)
	case Maybe:
		m.onMaybe(from, msg)
	case Offer:
		m.onOffer(from, msg)
	case Taken:
		m.onTaken(from, msg)
	case Refused:
		m.onRefused(from, msg)
	case Released:
		m.onReleased(from, msg)
	case Claim:
		m.onClaim(from, msg)
	case Grant:
		m.onGrant(from, msg)
	case Absent:
		m.onAbsent(from, msg)
	case AbsentGranted:
		m.onAbsentGranted(from, msg)
	}
}

// current says whether a message is from the living life of a peer and for this life (rule 2).
func (m *Machine) current(from string, life, to uint64) bool {
	if !m.keeps(ruleLives) {
		return true
	}
	return m.Known.is(from, life) && to == m.Life
}

func (m *Machine) self() *Record { return m.Known[m.cfg.Name] }

// leased says whether this node may accept new flows now.
func (m *Machine) leased() bool { return m.now < m.Until || !m.keeps(ruleLapse) && m.Until != 0 }

func (m *Machine) peer(name string) *peer {
	p := m.Peers[name]
	if p == nil {
		p = &peer{Heard: m.Born}
		m.Peers[name] = p
		m.news[m.cfg.Name] = true // so that it knows us
	}
	return p
}

func (m *Machine) domain(name string) *domain {
	d := m.Tokens[name]
	if d == nil {
		d = new(domain)
		m.Tokens[name] = d
		m.planned = false
	}
	return d
}

// others returns the names of all known nodes but this one, sorted.
func (m *Machine) others() []string {
	names := make([]string, 0, len(m.Known))
	for name := range m.Known {
		if name != m.cfg.Name {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (m *Machine) send(to string, message Message) {
	m.actions.Send = append(m.actions.Send, Envelope{to, message})
}

func (m *Machine) happened(h Happening) { m.actions.Events = append(m.actions.Events, h) }

func (m *Machine) number() uint64 {
	m.Number++
	return m.Number
}
