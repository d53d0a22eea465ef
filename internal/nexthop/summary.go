package nexthop

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

const (
	// keepEvery is how often a summary is renewed.
	keepEvery = 250 * time.Millisecond
	// checkEvery is how often all is read without being told: changes of an interface's MTU of IPv6 are not.
	checkEvery = 5 * time.Second
	// restOfMany is lookEvery where each look is at very many routes.
	restOfMany = time.Minute
	// heardWithin is how long this process may do nothing and still know what happened.
	heardWithin = time.Second
	// maxAsked is how many neighbours the kernel is told to ask for after one look.
	maxAsked = 512
)

// A Summary knows this machine's routes as far as they are simple, and nobody has to ask the kernel for the
// way by them: a policy that nobody changed, gateways whose MACs are known.
type Summary struct {
	log  *slog.Logger
	keep func(*lb.Routes) error
	used func() []netip.Addr
	wake chan bool
}

// NewSummary returns a Summary that calls keep from the goroutine of Run: with the routes, again and again
// while they are true, and with nil as soon as they may not be. used returns to which of the near packets
// went since its last call; it is called there, too.
func NewSummary(log *slog.Logger, keep func(*lb.Routes) error, used func() []netip.Addr) *Summary {
	return &Summary{log: log, keep: keep, used: used, wake: make(chan bool, 1)}
}

// Want says whether anybody needs the routes; at first nobody does. It is for one goroutine.
func (s *Summary) Want(want bool) {
	select {
	case <-s.wake: // which nobody has seen
	default:
	}
	s.wake <- want
}

// Run follows the network namespace of the calling thread until ctx ends, and then returns nil.
func (s *Summary) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case want := <-s.wake:
			for want {
				var err error
				if want, err = s.follow(ctx); err != nil || ctx.Err() != nil {
					return err
				}
			}
		}
	}
}

// A following is what is known between two looks.
type following struct {
	*Summary
	routes   *lb.Routes // nil: they may have changed
	last     *lb.Routes
	facts    *facts
	gateways map[place]string
	looked   time.Time
	rest     time.Duration // between two looks
	kept     time.Time
}

// follow returns whether it is wanted to go on.
func (s *Summary) follow(ctx context.Context) (bool, error) {
	watch, err := newWatch(unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return false, err
	}
	defer watch.close()
	f := &following{Summary: s}
	defer f.drop()
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	look := time.After(0)
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case err := <-watch.failed:
			return false, err
		case want := <-s.wake:
			if !want {
				return false, nil
			}
			continue
		case <-watch.wake:
			if news := watch.take(); !news.lost && !news.routes && !f.concerns(news.neighbours) {
				f.hear(news.neighbours)
				continue
			}
			f.drop()
			if look == nil {
				look = time.After(max(burst, f.rest-time.Since(f.looked)))
			}
		case <-look:
			look = nil
			f.look()
		case <-tick.C:
			if look == nil && (time.Since(f.looked) > max(checkEvery, f.rest) || f.routes != nil && time.Since(f.kept) > heardWithin) {
				f.look()
			} else {
				f.renew()
			}
		}
	}
}

// concerns says whether a gateway has another MAC now, or none.
func (f *following) concerns(all []heard) bool {
	for i := range all {
		before, known := f.gateways[place{all[i].LinkIndex, addrOf(all[i].IP)}]
		now := ""
		if !all[i].gone && all[i].State&usable != 0 {
			now = string(all[i].HardwareAddr)
		}
		if known && before != now {
			return true
		}
	}
	return false
}

// hear gives the routes with what there is to say of neighbours.
func (f *following) hear(all []heard) {
	if f.routes == nil {
		return // all will be read
	}
	changed := make(map[place]*lb.RouteHop)
	for i := range all {
		at, seen := place{all[i].LinkIndex, addrOf(all[i].IP)}, sighting{}
		if !all[i].gone {
			seen = sightingOf(&all[i].Neigh)
		}
		f.facts.neighbours[at] = seen
		changed[at] = f.facts.near(at)
	}
	maps.DeleteFunc(changed, func(at place, hop *lb.RouteHop) bool {
		before, known := f.routes.Near[at.addr]
		if hop == nil {
			return !known || before.Index != at.index
		}
		return known && reflect.DeepEqual(before, *hop)
	})
	if len(changed) == 0 {
		return
	}
	routes := *f.routes
	routes.Near = maps.Clone(routes.Near)
	for at, hop := range changed {
		if hop == nil {
			delete(routes.Near, at.addr)
		} else {
			routes.Near[at.addr] = *hop
		}
	}
	f.routes, f.last = &routes, &routes
	f.renew()
}

// confirm has the kernel ask, as it does for packets of its own, those who are still there to answer:
// what the program sends to them it does not see, and an entry that it does not use it keeps or forgets
// unasked.
func (f *following) confirm() {
	asked := 0
	ask := func(at place) {
		if asked == maxAsked || !f.facts.neighbours[at].stale {
			return
		}
		asked++
		if err := use(at); err != nil && !errors.Is(err, unix.ENOENT) {
			f.log.Error("the kernel does not ask for a neighbour", "neighbour", at.addr, "err", err)
		}
	}
	for at := range f.gateways {
		ask(at)
	}
	for _, addr := range f.used() {
		if hop, near := f.routes.Near[addr]; near {
			ask(place{hop.Index, addr})
		}
	}
}

// drop takes the routes back.
func (f *following) drop() {
	f.routes = nil
	if err := f.keep(nil); err != nil {
		f.log.Error("routes are not taken back", "err", err)
	}
}

// look reads all, and gives the routes.
func (f *following) look() {
	f.looked = time.Now()
	facts, err := readFacts()
	if err != nil {
		f.log.Error("the routes of this machine are not known", "err", err)
		f.drop()
		return
	}
	routes, gateways := facts.summary()
	f.facts, f.gateways, f.rest = facts, gateways, lookEvery
	if facts.many {
		f.rest = restOfMany
	}
	if !reflect.DeepEqual(routes, f.last) {
		f.last = routes
	}
	f.routes = f.last
	f.renew()
	f.confirm()
}

// renew gives the routes again.
func (f *following) renew() {
	if f.routes == nil {
		return
	}
	if err := f.keep(f.routes); err != nil {
		f.log.Error("routes are not kept", "err", err)
	}
	f.kept = time.Now()
}
