package cluster

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// A Preset is a set of gossip timings for a kind of network.
type Preset string

// The presets. Empty means LAN.
const (
	LAN Preset = "lan" // one site: a crash is known in less than half a second
	WAN Preset = "wan" // several sites: a crash is known in about ten seconds
)

// timing is what a preset chooses; memberlist explains each of them.
type timing struct {
	probeInterval, probeTimeout     time.Duration
	suspicionMult, suspicionMaxMult int
	awarenessMax, indirectChecks    int
	gossipInterval, gossipToTheDead time.Duration
	gossipNodes, retransmitMult     int
	pushPullInterval, streamTimeout time.Duration
	deadNodeReclaim, rejoin         time.Duration
	challenge, mourning             time.Duration
}

var presets = map[Preset]timing{
	LAN: {
		probeInterval:    60 * time.Millisecond,  // each node probes one peer per interval, in an order of chance: one of three peers may wait for three
		probeTimeout:     30 * time.Millisecond,  // far above a LAN's round trip; leaves 30 ms for the detours
		suspicionMult:    1,                      // 60 ms to take it back: three gossip rounds; heartbeats object, too
		mourning:         100 * time.Millisecond, // and five more for a death that others claim, see peer.dying
		suspicionMaxMult: 1,                      // without confirmations to wait for there is nothing to shorten
		awarenessMax:     1,                      // a failed probe slows no further one down: heartbeats object to what a slow node believes
		indirectChecks:   3,                      // one lossy link must not look like a dead node
		gossipInterval:   20 * time.Millisecond,  // news reaches 32 nodes in three rounds
		gossipToTheDead:  30 * time.Second,       // a node that was cut off for a moment hears that it is thought dead, and objects
		gossipNodes:      3,                      // doubles what is known per round even when one is lost
		retransmitMult:   4,                      // memberlist's own
		pushPullInterval: 5 * time.Second,        // full comparison: cheap with tens of nodes, and mends what gossip lost
		streamTimeout:    time.Second,            // three SYNs; a message that takes longer is out of date
		deadNodeReclaim:  time.Second,            // a node comes back with another address: the signature says that it is it
		rejoin:           time.Second,            // a healed cut is noticed in a second; memberlist never looks
		challenge:        100 * time.Millisecond, // a new peer may not know us yet when it is asked first
	},
	WAN: {
		probeInterval:    time.Second,            // round trips vary by hundreds of milliseconds
		probeTimeout:     500 * time.Millisecond, // around the globe and back, with a queue on the way
		suspicionMult:    4,                      // 4 s and more to take it back: a route that flaps is no death
		mourning:         time.Second,            // the claim has to get there, and the objection back
		suspicionMaxMult: 3,                      // and three times that without a second opinion
		awarenessMax:     8,                      // memberlist's own
		indirectChecks:   3,                      // another path may be open
		gossipInterval:   200 * time.Millisecond, // below a round trip it would only repeat itself
		gossipToTheDead:  60 * time.Second,       // cuts last longer
		gossipNodes:      3,                      // as in a LAN
		retransmitMult:   4,                      // memberlist's own
		pushPullInterval: 30 * time.Second,       // memberlist's own
		streamTimeout:    3 * time.Second,        // two SYNs around the globe
		deadNodeReclaim:  30 * time.Second,       // two that claim one name should not take turns quickly
		rejoin:           time.Second,            // an attempt is one SYN
		challenge:        time.Second,            // connect, ask and answer are two round trips
	},
}

func (o *Options) timing() (timing, error) {
	p := o.Preset
	if p == "" {
		p = LAN
	}
	t, ok := presets[p]
	if !ok {
		return timing{}, fmt.Errorf("preset %q: want %s or %s", string(p), LAN, WAN)
	}
	if p == LAN && o.DeadAfter > 0 && o.DeadAfter < lanDeath {
		t = t.within(o.DeadAfter)
	}
	return t, nil
}

// lanDeath is the longest that a crash takes to be known with LAN.
const lanDeath = 400 * time.Millisecond

// within shortens what a LAN's crash takes, where a node counts as dead sooner than that: gossip would
// be the last to know. What takes its time whatever happens stays.
func (t timing) within(deadAfter time.Duration) timing {
	for _, d := range []*time.Duration{&t.probeInterval, &t.probeTimeout, &t.gossipInterval, &t.challenge, &t.mourning} {
		*d = *d * deadAfter / lanDeath
	}
	return t
}

func (t timing) apply(conf *memberlist.Config) {
	conf.ProbeInterval, conf.ProbeTimeout = t.probeInterval, t.probeTimeout
	conf.SuspicionMult, conf.SuspicionMaxTimeoutMult = t.suspicionMult, t.suspicionMaxMult
	conf.AwarenessMaxMultiplier, conf.IndirectChecks = t.awarenessMax, t.indirectChecks
	conf.GossipInterval, conf.GossipToTheDeadTime = t.gossipInterval, t.gossipToTheDead
	conf.GossipNodes, conf.RetransmitMult = t.gossipNodes, t.retransmitMult
	conf.PushPullInterval, conf.TCPTimeout = t.pushPullInterval, t.streamTimeout
	conf.DeadNodeReclaimTime = t.deadNodeReclaim
}
