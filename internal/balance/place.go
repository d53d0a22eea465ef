package balance

import (
	"math"
	"net/netip"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// An identity tells servers apart.
type identity struct {
	name string
	addr netip.Addr
	port uint16
}

// A place is what a number in slots and flows stands for.
type place struct {
	identity               // without a name it is free
	present  bool          // among the backends
	share    share         // what it gets
	since    time.Duration // when it came up last
	named    time.Duration // when a slot named it last
}

// grownUp is when those came up that were there before the service.
const grownUp = math.MinInt64 / 2

// seat finds the place of each backend, and gives one to those that are new; -1 while none is free.
func (s *Service) seat(backends []Backend) []int {
	for i := range s.places {
		s.places[i].present = false
	}
	free := 0
	seats := make([]int, len(backends))
	for i := range backends {
		id := identity{backends[i].Name, backends[i].Addr, backends[i].Port}
		seat, known := s.seats[id]
		if !known {
			for free < len(s.places) && s.places[free].name != "" {
				free++
			}
			if seat = free; seat == lb.MaxBackends {
				seats[i] = -1
				continue
			}
			if seat == len(s.places) {
				s.places = append(s.places, place{})
			}
			s.places[seat] = place{identity: id, since: grownUp, share: share{dead: s.begun}}
			s.seats[id] = seat
		}
		s.places[seat].present = true
		seats[i] = seat
	}
	return seats
}

// share gives every place what it gets.
func (s *Service) share(backends []Backend, seats []int) {
	shares := weigh(s.rules, backends, func(i int) time.Duration {
		if seats[i] < 0 || s.places[seats[i]].share.dead {
			return 0
		}
		return s.now - s.places[seats[i]].since
	})
	for i := range s.places {
		if p := &s.places[i]; !p.present {
			p.share = share{state: StateRemoved, dead: p.share.dead}
		}
	}
	for i, seat := range seats {
		if seat < 0 {
			continue
		}
		p := &s.places[seat]
		if p.share.dead && !shares[i].dead {
			p.since = s.now
		}
		p.share = shares[i]
	}
}

// show describes the places and counts who names them.
func (s *Service) show() []Place {
	list := make([]Place, len(s.places))
	for i := range s.places {
		p := &s.places[i]
		if p.name == "" {
			continue
		}
		list[i] = Place{
			Backend: lb.Backend{Name: p.name, Addr: p.addr, Port: p.port},
			State:   p.share.state, Why: p.share.why, Dead: p.share.dead,
			Weight: (p.share.weight + weightUnit - 1) / weightUnit,
		}
	}
	for _, backend := range s.current {
		if backend != lb.NoBackend {
			list[backend].Slots++
		}
	}
	for i := range s.moves {
		if previous := s.moves[i].previous; previous != lb.NoBackend {
			list[previous].Leaving++
		}
	}
	return list
}

// release frees the places of removed backends that nothing names any more. They are still in shown,
// and free from the next Update on.
func (s *Service) release(shown []Place, seen *Seen) {
	for i := range s.places {
		p := &s.places[i]
		switch {
		case !s.keeps(rulePlaces) && !p.present && p.name != "":
			delete(s.seats, p.identity)
			*p = place{}
		case p.present || shown[i].Slots > 0 || shown[i].Leaving > 0:
			p.named = s.now
		case p.name != "" && s.lookedSince(p.named, seen) && (i >= len(seen.Flows) || seen.Flows[i] == 0):
			delete(s.seats, p.identity)
			*p = place{}
		}
	}
}
