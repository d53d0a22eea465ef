package member

import (
	"maps"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/ownership"
)

// A sighting is what gossip and heartbeats say about one peer.
type sighting struct {
	silent  bool      // neither reaches us
	says    bool      // its heartbeats reach us; without them nothing is known of what follows
	hearsMe bool      // the newest says that ours reach it, on one of the links at least
	heard   time.Time // when that heartbeat came
}

// sightings puts together what the two say. A peer that only gossip, or only one link, still brings is
// not silent: nothing is moved because a part of the network is cut.
func sightings(gossip []cluster.Peer, links [][]heartbeat.Peer) map[string]sighting {
	seen := make(map[string]sighting)
	for _, p := range gossip {
		seen[p.Name] = sighting{silent: !p.Alive}
	}
	for _, link := range links {
		for _, p := range link {
			s, known := seen[p.Name]
			s.silent = p.Silent && (s.silent || !known)
			if !p.Silent {
				s.hear(p)
			}
			seen[p.Name] = s
		}
	}
	return seen
}

// hear takes in what the heartbeats on one link say.
func (s *sighting) hear(p heartbeat.Peer) {
	switch {
	case !s.says || p.HearsMe && !s.hearsMe:
		s.says, s.hearsMe, s.heard = true, p.HearsMe, p.LastHeard
	case p.HearsMe == s.hearsMe && p.LastHeard.After(s.heard):
		s.heard = p.LastHeard
	}
}

// listened leaves out who is silent to a node that has only just begun to listen.
func listened(seen map[string]sighting, long bool) map[string]sighting {
	if !long {
		maps.DeleteFunc(seen, func(_ string, s sighting) bool { return s.silent })
	}
	return seen
}

// news are the events that tell the machine of what is seen now and was not before. clock turns a time
// into one of the machine's.
func news(before, now map[string]sighting, clock func(time.Time) time.Duration) []ownership.Event {
	var events []ownership.Event
	for _, name := range slices.Sorted(maps.Keys(now)) {
		s := now[name]
		old, known := before[name]
		if s.silent != old.silent || !known {
			events = append(events, ownership.Silent{Peer: name, Silent: s.silent})
		}
		if s.says && (s.heard.After(old.heard) || s.hearsMe != old.hearsMe) {
			events = append(events, ownership.HeardBy{Peer: name, Hears: s.hearsMe, At: clock(s.heard)})
		}
	}
	return events
}
