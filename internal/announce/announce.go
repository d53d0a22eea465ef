package announce

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A VIP is an address that this machine has at the moment.
type VIP struct {
	Addr      netip.Addr
	Interface string
	MAC       net.HardwareAddr // to which neighbours are to send; nil is the interface's own
}

func (v VIP) equal(other VIP) bool {
	return v.Addr == other.Addr && v.Interface == other.Interface && bytes.Equal(v.MAC, other.MAC)
}

const (
	// refreshEvery is below the five minutes after which switches forget a MAC.
	refreshEvery = time.Minute
	// defendEvery is DEFEND_INTERVAL of RFC 5227 section 2.4: two that both believe an address to be
	// theirs are not to fill the link.
	defendEvery = 10 * time.Second
)

// repeats are the times after the first announcement at which it is made again.
var repeats = [...]time.Duration{
	50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
}

// An Announcer announces the addresses that it was given last. Its methods may be called from any
// goroutine.
type Announcer struct {
	log  *slog.Logger
	send func(VIP) error
	wake chan struct{}

	mu     sync.Mutex
	vips   map[netip.Addr]*announced
	failed map[string]bool // interfaces of which a failure was logged
}

// announced is an address and when it is announced next.
type announced struct {
	vip      VIP
	since    time.Time
	times    int
	next     time.Time
	defended time.Time
}

// New returns an Announcer that sends nothing before Run.
func New(log *slog.Logger) *Announcer {
	return &Announcer{
		log: log, wake: make(chan struct{}, 1),
		vips: make(map[netip.Addr]*announced), failed: make(map[string]bool),
	}
}

// Set replaces the addresses that this machine has. Those that are new are announced at once, others go
// on as they were.
func (a *Announcer) Set(vips []VIP) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for addr, old := range a.vips {
		if !slices.ContainsFunc(vips, old.vip.equal) {
			delete(a.vips, addr)
			a.log.Info("address is not announced any more", "vip", addr)
		}
	}
	now := time.Now()
	for _, v := range vips {
		if a.vips[v.Addr] == nil {
			a.vips[v.Addr] = &announced{vip: v, since: now, next: now}
			a.log.Info("announcing an address", "vip", v.Addr, "iface", v.Interface)
		}
	}
	a.stir()
}

// Defend announces an address again that somebody else claims, at most once in ten seconds; nothing when
// this machine does not have it.
func (a *Announcer) Defend(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if v := a.vips[addr]; v != nil && now.Sub(v.defended) >= defendEvery {
		v.defended, v.next = now, now
		a.stir()
	}
}

func (a *Announcer) stir() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run announces until ctx ends, and then returns nil. It works in the network namespace of the calling
// thread.
func (a *Announcer) Run(ctx context.Context) error {
	if a.send == nil {
		links := make(links)
		defer links.close()
		a.send = links.announce
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-timer.C:
		}
		due, next := a.due(time.Now())
		for _, v := range due {
			a.announce(v)
		}
		timer.Reset(time.Until(next))
	}
}

// due returns what is to be announced now, by address, and when to look again.
func (a *Announcer) due(now time.Time) (due []VIP, next time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next = now.Add(refreshEvery)
	for _, v := range a.vips {
		if !v.next.After(now) {
			due = append(due, v.vip)
			v.next = v.after(now)
		}
		if v.next.Before(next) {
			next = v.next
		}
	}
	slices.SortFunc(due, func(a, b VIP) int { return a.Addr.Compare(b.Addr) })
	return due, next
}

// after returns when to announce next: what was missed is not made up.
func (v *announced) after(now time.Time) time.Time {
	for ; v.times < len(repeats); v.times++ {
		if at := v.since.Add(repeats[v.times]); at.After(now) {
			return at
		}
	}
	return now.Add(refreshEvery)
}

// announce says once that an interface does not work; the next time comes soon.
func (a *Announcer) announce(v VIP) {
	err := a.send(v)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && !a.failed[v.Interface] {
		a.log.Warn("an address is not announced", "vip", v.Addr, "iface", v.Interface, "err", err)
	}
	a.failed[v.Interface] = err != nil
}
