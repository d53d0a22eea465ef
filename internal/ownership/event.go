package ownership

import "time"

// An Event is what a Machine is told by its driver. All times are of one monotonic clock.
type Event interface{ event() }

type (
	// Tick lets time pass: leases are renewed, messages repeated. The driver sends one each Config.Tick.
	Tick struct{}

	// Received is a message of a peer, whose name the transport has checked.
	Received struct {
		From    string
		Message Message
	}

	// Silent says that nothing was heard of a peer, neither gossip nor heartbeat, for
	// Config.DeadAfter; or that it is heard again. Peers of whom the driver said nothing are taken
	// for heard, and a driver that starts waits for DeadAfter before it says otherwise.
	Silent struct {
		Peer   string
		Silent bool
	}

	// HeardBy is what a peer's heartbeat says about ours. The driver repeats it with each frame:
	// what it said counts for Config.LeaseTime. At is the time at which this node sent the newest of
	// its own frames that the peer says it heard, so that no delay can make a lease too long; a
	// driver that does not know gives the time at which it received the peer's frame, and must add
	// what a frame can be late to DeadAfter.
	//
	// The other half of the rule is Machine.Confirms: this node's heartbeat must not say that it
	// hears a peer whose life is dead.
	HeardBy struct {
		Peer  string
		Hears bool
		At    time.Duration
	}

	// HostAnswers says whether the machine of a peer answers although its lbd is gone: then its
	// flows may live. Until the driver says otherwise it is believed to.
	HostAnswers struct {
		Peer    string
		Answers bool
	}

	// Witness says whether the witnesses answer, for PolicyWitness.
	Witness struct{ Answers bool }

	// Weights is this node's wish, by domain. It replaces the former one: a domain that is missing
	// is served no more.
	Weights struct{ Domains map[string]Weight }

	// Ready says that everything is installed; before, a node asks for no bucket.
	Ready struct{}

	// Absence asks for leave: the peers shall not declare this node dead for some time, at most
	// Config.BootTimeout. HappeningAbsent is the answer: from then on the Machine does nothing any
	// more, its Snapshot is for Restore. HappeningAbsenceRefused is the other answer.
	Absence struct{ For time.Duration }

	// Leave hands everything over, for good. HappeningLeft says that it is done.
	Leave struct{}

	// Drained says that this node has no more sockets in buckets that it marked MaybeLocal.
	Drained struct {
		Domain string
		Set    Set
	}

	// Quiet says that of the buckets that View lists as UDPKept some have no flow of UDP that this node
	// noted within Config.UDPIdle. It is ignored while a peer is on leave, so it is to be repeated.
	Quiet struct {
		Domain string
		Set    Set
	}

	// Inherited says that this node may have sockets in buckets, from before its life.
	Inherited struct {
		Domain string
		Set    Set
	}

	// Lapsed says that the kernel's lease ended before it could be renewed, which the Machine cannot
	// know when the driver was paused in between.
	Lapsed struct{}

	// Reconfigured replaces parts of Config while the Machine runs. Another Fingerprint ends the life.
	Reconfigured struct {
		Expected    []string
		Policy      Policy
		Fingerprint uint64
	}
)

func (Tick) event()         {}
func (Received) event()     {}
func (Silent) event()       {}
func (HeardBy) event()      {}
func (HostAnswers) event()  {}
func (Witness) event()      {}
func (Weights) event()      {}
func (Ready) event()        {}
func (Absence) event()      {}
func (Leave) event()        {}
func (Drained) event()      {}
func (Quiet) event()        {}
func (Inherited) event()    {}
func (Lapsed) event()       {}
func (Reconfigured) event() {}

// A Weight is what a node wants of a domain.
type Weight struct {
	Weight  int  // 0..lb.MaxWeight; 0 hands everything over
	Healthy bool // what the checks say
	// MinNodes is the number of healthy nodes below which health is ignored; at least 1. Where nodes
	// differ, the highest counts.
	MinNodes int
	Whole    Whole // of a domain that one node has as a whole
}

// Whole says which node gets a domain of which one has all buckets: the one that was chosen by hand,
// if it may have any; else the one of the highest priority; of several those the one that rendezvous
// hashing of the domain's name names.
type Whole struct {
	Is       bool // else the buckets of the domain are spread
	Priority int  // 0..MaxPriority
	// Stay lets the node that has the domain keep it when one that would go before it comes.
	Stay   bool
	Choice Choice
}

// MaxPriority is the highest of Whole.Priority.
const MaxPriority = 255

// A Choice is a decision that a node, or none in particular, shall have a domain. Of all that are
// known the one with the highest number counts.
type Choice struct {
	Number uint64 // 0: nothing was ever decided
	Node   string // "" takes back what was decided before
}

// Actions is what the driver must do, in this order: apply Changed to the kernel, then Lease, and
// only then Send. Whatever fails, what comes later must not happen; then the driver starts a new
// life.
type Actions struct {
	Changed []Change
	// Lease is the time until which the kernel may accept new flows; Forever for a node that is
	// alone. It is set in every answer. A time that has passed means that there is no lease.
	Lease time.Duration
	Send  []Envelope
	// Events is for the log and for notifications.
	Events []Happening
	// NewLife is the life that began with this event, 0 if none did: the driver stores it, before it
	// sends anything, so that the next process starts with a higher one.
	NewLife uint64
}

// Forever is the lease of a node that is alone.
const Forever = time.Duration(1<<63 - 1)

// A Change names buckets of which Machine.Table says something new.
type Change struct {
	Domain string
	Set    Set
}

// An Envelope is a message to a peer.
type Envelope struct {
	To      string
	Message Message
}

// A Kind says what happened.
type Kind uint8

// What can happen.
const (
	HappeningMember         Kind = iota // a node's state changed; Reason says how
	HappeningDied                       // a peer was declared dead
	HappeningNewLife                    // this node began a new life; Reason says why
	HappeningFounded                    // this node founded a lineage
	HappeningAdopted                    // this node joined a lineage
	HappeningHanded                     // buckets went to a peer; Took is the time since the offer
	HappeningRefused                    // a peer refused buckets
	HappeningTaken                      // buckets came from a peer
	HappeningMade                       // buckets that nobody held were made anew; Took is since knowledge changed
	HappeningSettled                    // every bucket is where it should be; Took is since knowledge changed
	HappeningConflict                   // a peer's configuration differs
	HappeningAbsent                     // leave of absence was given; Took is since it was asked for
	HappeningAbsenceRefused             // leave of absence was not given
	HappeningLeft                       // this node holds nothing and may go
	happeningCount
)

// String returns a word for logs and hooks.
func (k Kind) String() string {
	return [happeningCount]string{"member", "died", "new-life", "founded", "adopted", "handed", "refused",
		"taken", "made", "settled", "conflict", "absent", "absence-refused", "left"}[k]
}

// A Happening is something that an operator may want to know.
type Happening struct {
	Kind    Kind
	Node    string        // whom it is about; a peer or this node
	Buckets int           // how many, where buckets moved
	Reason  string        // a few words
	Took    time.Duration // how long, where that is known
}
