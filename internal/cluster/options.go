package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"time"
)

const (
	maxName  = 63 // of a node or a cluster, in bytes
	maxPeers = 64 // names that are ever accepted: twice the nodes that we are made for
)

// Options say who we are, whom we trust and whom to tell. Callbacks come one at a time, from Run.
type Options struct {
	Cluster string         // keeps clusters apart that share a network; 1 to 63 bytes
	Node    string         // our name; unique in the cluster, 1 to 63 bytes
	Bind    netip.AddrPort // where we listen (UDP and TCP) and where peers find us
	// Peers returns the addresses to look for nodes at; our own may be among them. It is asked
	// each second, so that a new configuration counts at once. Nil is none.
	Peers func() []netip.AddrPort

	Keys     []Key  // the first encrypts, all decrypt
	Insecure bool   // without it, no key is an error
	Preset   Preset // empty is LAN
	// DeadAfter is when others count a node as dead: a LAN's gossip is as quick, where that is less than
	// the 0.4 s that it takes otherwise. 0 is otherwise.
	DeadAfter time.Duration
	StateDir  string // an existing directory: our own key and what we know of the peers
	Life      uint64 // at least 1; larger than at any start before

	Version string // of the program; peers see it; up to 32 bytes
	Meta    []byte // whatever the peers should see; up to 255 bytes

	Log      *slog.Logger
	Received func(from string, message []byte) // a message; it may be kept. May be nil
	Changed  func(Peer)                        // a peer came, went, or lives another life. May be nil
}

func (o *Options) validate() error {
	for _, name := range []struct{ what, value string }{{"cluster", o.Cluster}, {"node", o.Node}} {
		if name.value == "" || len(name.value) > maxName {
			return fmt.Errorf("%s name %s: want 1 to %d bytes", name.what, strconv.Quote(name.value), maxName)
		}
	}
	switch {
	case !o.Bind.IsValid() || o.Bind.Addr().IsUnspecified():
		return fmt.Errorf("bind address %s: name one of this machine's addresses: peers are told it", o.Bind)
	case o.Bind.Port() == 0:
		return fmt.Errorf("bind address %s: peers need to know the port", o.Bind)
	case len(o.Keys) == 0 && !o.Insecure:
		return errors.New("no key: make one for all nodes with GenerateKey, or say that the network is to be trusted")
	case len(o.Keys) > 0 && o.Insecure:
		return errors.New("a key, but insecure: want one of them")
	case o.Life == 0:
		return errors.New("life 0: want the number of this start")
	case len(o.Version) > MaxVersion:
		return fmt.Errorf("version: %d bytes, at most %d", len(o.Version), MaxVersion)
	case len(o.Meta) > MaxMeta:
		return fmt.Errorf("meta: %d bytes, at most %d", len(o.Meta), MaxMeta)
	}
	return nil
}
