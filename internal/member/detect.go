package member

import (
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/heartbeat"
)

// A sighting is what gossip and heartbeats say about one peer.
type sighting struct {
	silent  bool      // neither reaches us
	hearsMe bool      // its newest heartbeat says that ours reach it
	heard   time.Time // when that heartbeat came; zero: none did
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
			if !p.Silent && (p.HearsMe || !s.hearsMe) {
				s.hearsMe = p.HearsMe
				s.heard = p.LastHeard
			}
			seen[p.Name] = s
		}
	}
	return seen
}
