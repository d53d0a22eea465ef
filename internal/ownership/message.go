package ownership

import "time"

// A Message goes from one Machine to another. The transport says from whom it is; Life is the
// sender's, To the receiver's life where a message is for that one only.
type Message interface {
	// MarshalBinary returns the encoding that Unmarshal reads; it cannot fail.
	MarshalBinary() ([]byte, error)
	message()
}

type (
	// State is all that a node knows.
	State struct {
		Life, Number uint64 // what has a lower number is older news
		Knowledge    uint64 // fingerprint, which the receiver compares with its own
		Side         Side
		Records      []Record
		Absences     []Leaves
	}

	// Opinion lists the peers that are silent to the sender.
	Opinion struct {
		Life, Number uint64
		Silent       []Ref
	}

	// Maybe lists the buckets in which the sender may have sockets although it gave them up. A
	// higher Number replaces what was said before. Of the UDP of those in Kept the sender decides.
	Maybe struct {
		Life, Number uint64
		Parts, Kept  []Part
	}

	// Offer hands buckets over. The sender already sends their new flows to the receiver.
	Offer struct {
		Life, To, Number uint64
		Knowledge        uint64
		Parts            []Part
		Others           []Witnessed // who else may have flows in these buckets
	}

	// Taken says that the receiver of an offer accepts new flows itself.
	Taken struct{ Life, To, Number uint64 }

	// Refused says that the receiver of an offer does not take it and never will.
	Refused struct {
		Life, To, Number uint64
		Maybe            Maybe
	}

	// Released says that the sender of an offer accepts nothing of it any more.
	Released struct {
		Life, To, Number uint64
		Maybe            Maybe
	}

	// Claim asks for leave to make tokens of buckets that nobody holds.
	Claim struct {
		Life, Number uint64
		Knowledge    uint64
		Parts        []Part
	}

	// Grant gives it, but for the buckets that the sender has.
	Grant struct {
		Life, To, Number uint64
		Knowledge        uint64
		Held             []Part
		Maybe            Maybe
	}

	// Absent asks for leave of absence, AbsentGranted gives it.
	Absent struct {
		Life, Number uint64
		For          time.Duration
	}
	// AbsentGranted is the answer to Absent.
	AbsentGranted struct{ Life, To, Number uint64 }
)

func (State) message()         {}
func (Opinion) message()       {}
func (Maybe) message()         {}
func (Offer) message()         {}
func (Taken) message()         {}
func (Refused) message()       {}
func (Released) message()      {}
func (Claim) message()         {}
func (Grant) message()         {}
func (Absent) message()        {}
func (AbsentGranted) message() {}

// A Part is a set of buckets of a domain.
type Part struct {
	Domain string
	Set    Set
}

// A Ref names a life of a node.
type Ref struct {
	Name string
	Life uint64
}

// Leaves is a leave of absence that somebody else gave, and how much is left of it.
type Leaves struct {
	Name         string
	Life, Number uint64
	For          time.Duration
}

// Witnessed is what the sender of an offer knows of a third node's Maybe of that Number. Number 0 is
// for a node that did not say, in a life before this.
type Witnessed struct {
	Name         string
	Life, Number uint64
	Parts        []Part
}
