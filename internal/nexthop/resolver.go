// Package nexthop finds the way to addresses on other machines and keeps it fresh: by which
// interface, to whose MAC, from which address.
package nexthop

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

const (
	// burst is how long what the kernel tells may gather before something follows from it.
	burst = 10 * time.Millisecond
	// lookEvery is how often routes are looked up at most, whatever a routing daemon does.
	lookEvery = 100 * time.Millisecond
	// askEvery is how often neighbours that are not known are asked for again. The kernel itself does
	// so every 5 s only.
	askEvery = time.Second
)

// A Way is what is known of the way to an address.
type Way struct {
	Hop     *lb.NextHop // nil: there is none; it is never changed
	Gateway netip.Addr  // whose MAC the hop has; the zero Addr for an address on the link
	// Pending says that the neighbour was asked and has not answered yet. Hop is what it was before
	// that, or nil.
	Pending bool
	Problem string // why Hop is nil when nothing is pending
}

// A Resolver knows the ways to the addresses it was given. Its methods may be called in parallel.
//
// The kernel keeps the neighbours' entries reachable for it (NTF_MANAGED), so that one that goes
// silent is noticed without traffic, and each MAC is there before it is needed. Entries that
// somebody made by hand are used and left alone.
type Resolver struct {
	log     *slog.Logger
	changed func()
	wake    chan struct{}

	mu   sync.Mutex
	want []netip.Addr
	ways map[netip.Addr]Way
}

// New returns a Resolver that calls changed, from the goroutine of Run, after ways have changed.
func New(log *slog.Logger, changed func()) *Resolver {
	return &Resolver{log: log, changed: changed, wake: make(chan struct{}, 1), ways: make(map[netip.Addr]Way)}
}

// Set says the ways to which addresses are to be known from now on.
func (r *Resolver) Set(want []netip.Addr) {
	sorted := slices.Clone(want)
	slices.SortFunc(sorted, netip.Addr.Compare)
	r.mu.Lock()
	r.want = slices.Compact(sorted)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it will see this, too
	}
}

// Ways returns what is known. An address that was just given may not be in it yet, one that was
// just taken back still may.
func (r *Resolver) Ways() map[netip.Addr]Way {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.ways)
}

// Run follows the network namespace of the calling thread until ctx ends, and then returns nil. The
// kernel's entries are as before then.
func (r *Resolver) Run(ctx context.Context) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open route socket: %w", err)
	}
	defer handle.Close()
	watch, err := newWatch()
	if err != nil {
		return err
	}
	defer watch.close()
	f := &follower{kernel: handle, log: r.log, near: make(map[place]*neighbour)}
	defer f.releaseAll()
	return r.follow(ctx, f, watch)
}

func (r *Resolver) follow(ctx context.Context, f *follower, watch *watch) error {
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	var last time.Time // that routes were looked up
	var settled <-chan time.Time
	look := time.After(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-watch.failed:
			return err
		case <-r.wake:
			look = time.After(0)
			continue // at most one more round until it is looked at
		case <-watch.wake:
			news := watch.take()
			if news.lost {
				f.forget()
			}
			if (news.lost || news.routes || news.addresses) && look == nil {
				look = time.After(max(burst, lookEvery-time.Since(last)))
			}
			if f.hear(news.neighbours) && settled == nil {
				settled = time.After(burst)
			}
			continue
		case <-settled:
			settled = nil
		case <-ask.C:
			f.askAgain()
			continue
		case <-look:
			look, last = nil, time.Now()
			r.mu.Lock()
			want := r.want
			r.mu.Unlock()
			if err := f.look(want); err != nil {
				r.log.Error("the ways to backends are not known", "err", err)
				look = time.After(askEvery)
			}
		}
		r.publish(f.ways())
	}
}

func (r *Resolver) publish(ways map[netip.Addr]Way) {
	r.mu.Lock()
	same := reflect.DeepEqual(ways, r.ways)
	r.ways = ways
	r.mu.Unlock()
	if !same {
		r.changed()
	}
}
