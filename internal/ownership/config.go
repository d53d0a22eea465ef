package ownership

import (
	"fmt"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Policy says which part of a cluster that was cut may go on.
type Policy uint8

// The policies.
const (
	// PolicyAny lets every part go on: a node goes on unless it hears a peer that does not hear it.
	PolicyAny Policy = iota
	// PolicyMajority lets go on who is heard by more than half of the expected nodes, itself included.
	PolicyMajority
	// PolicyWitness is PolicyAny for those whose witness answers.
	PolicyWitness
)

// String returns the word used in the configuration.
func (p Policy) String() string {
	if int(p) < 3 {
		return [...]string{"any", "majority", "witness"}[p]
	}
	return fmt.Sprintf("policy-%d", uint8(p))
}

// A Config is what a Machine needs to know from the start. The durations are the same on all nodes,
// whose clocks may differ in rate by up to 1 %.
type Config struct {
	Name     string   // of this node
	Expected []string // names of all configured nodes; this one may be among them or not
	Policy   Policy
	Buckets  int // of each domain: 1..lb.Buckets

	// Fingerprint covers what decides which bucket a flow is in: seed and hash fields. Nodes with
	// another one hold nothing while those with the one that most nodes have go on.
	Fingerprint uint64
	// Meta is told to the peers with the record: addresses, MAC. At most MaxMeta bytes.
	Meta []byte

	// Tick is the time between two events Tick.
	Tick time.Duration
	// LeaseTime is how long the kernel goes on without lbd.
	LeaseTime time.Duration
	// HintTime is how old the newest of our frames may be that a peer's heartbeat confirms, before
	// the peer counts as not hearing us. Two heartbeats and the way there and back must fit in.
	HintTime time.Duration
	// DeadAfter is the time after which the driver says of a peer that it is Silent. A node that is
	// not heard must have noticed by then, and its lease must have ended: it is at least LeaseTime,
	// twice HintTime, a Tick, and 5 %.
	DeadAfter time.Duration
	// BootTimeout is the time after which a node no longer waits for expected nodes that it never
	// heard of. It is also the longest leave of absence.
	BootTimeout time.Duration
	// Refresh is the time between two full reports of what a node knows, to all peers.
	Refresh time.Duration
	// FlapWindow is the time in which a node that lost its life twice gets no buckets; so there are
	// at most three changes in that time, whatever flaps.
	FlapWindow time.Duration
	// UDPIdle is how long a flow of UDP may be silent and still belong to the node that had it.
	UDPIdle time.Duration

	// Sign and Verify, if set, sign this node's record and check others'. A record travels through
	// third nodes, so that the sender of a message is not always who speaks.
	Sign   func(record []byte) (signature []byte)
	Verify func(name string, record, signature []byte) bool
}

// MaxMeta is the size of Config.Meta in bytes.
const MaxMeta = 255

// DefaultConfig returns the times that are meant for a LAN: a crash is noticed after 400 ms.
func DefaultConfig(name string) Config {
	return Config{
		Name:        name,
		Buckets:     lb.Buckets,
		Tick:        20 * time.Millisecond,
		LeaseTime:   160 * time.Millisecond,
		HintTime:    100 * time.Millisecond,
		DeadAfter:   400 * time.Millisecond,
		BootTimeout: 10 * time.Second,
		Refresh:     time.Second,
		FlapWindow:  time.Minute,
		UDPIdle:     30 * time.Second,
	}
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("no name")
	case len(c.Name) > maxName:
		return fmt.Errorf("name of %d bytes, at most %d", len(c.Name), maxName)
	case c.Buckets < 1 || c.Buckets > lb.Buckets:
		return fmt.Errorf("%d buckets, want 1..%d", c.Buckets, lb.Buckets)
	case len(c.Meta) > MaxMeta:
		return fmt.Errorf("meta of %d bytes, at most %d", len(c.Meta), MaxMeta)
	case c.Policy > PolicyWitness:
		return fmt.Errorf("unknown policy %d", c.Policy)
	case c.Tick <= 0 || c.Refresh < c.Tick || c.FlapWindow < 0:
		return fmt.Errorf("tick %v, refresh %v, flap window %v", c.Tick, c.Refresh, c.FlapWindow)
	case c.LeaseTime < 2*c.Tick:
		return fmt.Errorf("lease time %v is less than two ticks of %v", c.LeaseTime, c.Tick)
	case c.HintTime <= 0 || c.DeadAfter < c.longest():
		return fmt.Errorf("dead after %v: an unheard node with a lease of %v and a hint time of %v may go on for %v",
			c.DeadAfter, c.LeaseTime, c.HintTime, c.longest())
	case c.BootTimeout < c.DeadAfter:
		return fmt.Errorf("boot timeout %v is less than dead after %v", c.BootTimeout, c.DeadAfter)
	case len(c.Expected) > lb.MaxNodes:
		return fmt.Errorf("%d expected nodes, at most %d", len(c.Expected), lb.MaxNodes)
	}
	return nil
}

// longest is the time for which a node that is not heard any more may accept new flows: until it
// notices, and then until its lease ends.
func (c *Config) longest() time.Duration {
	t := c.LeaseTime + 2*c.HintTime + c.Tick
	return t + t/20
}

// expects says whether a name counts for a majority.
func (c *Config) expects(name string) bool {
	return name == c.Name || slices.Contains(c.Expected, name)
}

// quorum is more than half of the expected nodes, this one included.
func (c *Config) quorum() int {
	n := len(c.Expected)
	if !slices.Contains(c.Expected, c.Name) {
		n++
	}
	return n/2 + 1
}
