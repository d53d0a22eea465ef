package heartbeat

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// Timings used when Options leave them out.
const (
	DefaultInterval = 100 * time.Millisecond // a frame of 100 to 900 bytes
	// DefaultDeadAfter is three frames, and time for the third to be late.
	DefaultDeadAfter = 350 * time.Millisecond
)

const (
	maxName  = 63
	minEvery = 5 * time.Millisecond
)

// Options say who we are, where to speak and whom to tell.
type Options struct {
	Interface string // where the VIP's packets come in
	Cluster   string // keeps clusters apart that share a link; 1 to 63 bytes
	Node      string // our name; unique in the cluster, 1 to 63 bytes
	Life      uint64 // at least 1; larger than at any start before

	Keys     [][]byte // the cluster's secrets: frames are made with the first and accepted with any
	Insecure bool     // without it, no key is an error

	Interval  time.Duration // between two frames; 0 is DefaultInterval
	DeadAfter time.Duration // without a frame a peer is silent; 0 is DefaultDeadAfter
	Hint      time.Duration // without a frame we say that we do not hear the peer; 0 is DeadAfter

	// Confirms says whether our frames may say that they hear a peer in that life: not once its life
	// counts as over here. Nil is always. It is called often, and must not wait or call us back.
	Confirms func(peer string, life uint64) bool

	Log *slog.Logger
	// Changed is called from Run when Peers or Link would tell something else than how long ago a
	// peer was heard. It may be nil.
	Changed func()
}

func (o *Options) complete() error {
	o.Interval = orDefault(o.Interval, DefaultInterval)
	o.DeadAfter = orDefault(o.DeadAfter, DefaultDeadAfter)
	o.Hint = orDefault(o.Hint, o.DeadAfter)
	for _, name := range []struct{ what, value string }{
		{"interface", o.Interface}, {"cluster", o.Cluster}, {"node", o.Node},
	} {
		if name.value == "" || len(name.value) > maxName {
			return fmt.Errorf("%s name %s: want 1 to %d bytes", name.what, strconv.Quote(name.value), maxName)
		}
	}
	switch {
	case o.Life == 0:
		return errors.New("life 0: want the number of this start")
	case len(o.Keys) == 0 && !o.Insecure:
		return errors.New("no key: give the cluster's, or say that the network is to be trusted")
	case len(o.Keys) > 0 && o.Insecure:
		return errors.New("a key, but insecure: want one of them")
	case o.Interval < minEvery:
		return fmt.Errorf("interval %s: at least %s", o.Interval, minEvery)
	case o.DeadAfter < 2*o.Interval:
		return fmt.Errorf("dead after %s: less than two intervals of %s", o.DeadAfter, o.Interval)
	case o.Hint < 2*o.Interval:
		return fmt.Errorf("hint %s: less than two intervals of %s", o.Hint, o.Interval)
	}
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
