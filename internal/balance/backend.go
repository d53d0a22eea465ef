package balance

import (
	"net/netip"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Tier says when a backend is used.
type Tier uint8

// The tiers.
const (
	TierMain   Tier = iota
	TierBackup      // while fewer than Rules.MinBackends of the main ones are up
	TierSorry       // while no other is up
)

// A Backend is all that bears on what one backend gets.
type Backend struct {
	Name      string     // unique in its service
	Addr      netip.Addr // another one is another server, and the old one keeps its flows
	Port      uint16     // the same
	Tier      Tier
	Weight    int           // 0..lb.MaxWeight, after what people and agents decided; 0: no new flows
	SlowStart time.Duration // in which the weight grows when it came up; 0: at once
	Disabled  bool          // it is sent nothing at all, whatever its health
	Reachable bool          // the way to it is known; else it is sent nothing
	Healthy   bool          // as checks and agents say
	Failing   bool          // connections to it fail: it gets no new flows while others can, and keeps the older
	Tried     bool          // but those that its weight is for
	Why       string        // it has another weight than configured or is not healthy; for people
}

// Rules are of the service. A time that is 0 means that it has no flows of the kind.
type Rules struct {
	// MinBackends is how many must be up. With fewer of the main ones backups help; with fewer even
	// so, health is ignored. 0: backups help when none is up, and health always counts.
	MinBackends int
	// TCPIdle is how long a connection may be silent and is still kept, UDPIdle the same of a flow
	// of anything else.
	TCPIdle, UDPIdle time.Duration
}

// A State says what a backend is to its service.
type State uint8

// The states.
const (
	StateUp       State = iota // it gets its share
	StateStarting              // its weight grows
	StateStandby               // healthy, but not needed
	StateDrained               // of weight 0
	StateFailing               // connections to it fail; where no other is up, it has a share
	StateDown                  // not healthy or not reachable; where health is ignored, it has a share
	StateDisabled              // by hand
	StateRemoved               // not configured any more; it keeps its flows
)

var stateNames = [...]string{
	StateUp: "up", StateStarting: "starting", StateStandby: "standby", StateDrained: "drained",
	StateFailing: "failing", StateDown: "down", StateDisabled: "disabled", StateRemoved: "removed",
}

// String returns the word that people see.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "invalid"
}

// A Place is an entry of a service's list of backends. Slots and flows name it, so it keeps what it
// stands for while any of them does; one that is free has an empty Name.
type Place struct {
	lb.Backend // without Hop
	State      State
	Why        string
	Weight     int  // in force: as far as it grew, 0 if it gets no new flows
	Slots      int  // whose current backend it is
	Leaving    int  // slots whose previous one it is
	Dead       bool // it is sent nothing, so nothing is kept for it: its Hop is to be nil
}
