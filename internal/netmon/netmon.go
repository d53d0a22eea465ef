// Package netmon tells when links, addresses or neighbours of this machine change.
package netmon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// quiet is how long nothing may happen before changes are told: they come in bursts.
	quiet = 5 * time.Millisecond
	// latest is how long a burst may delay the telling.
	latest = 50 * time.Millisecond
)

// An Event says what has changed since the last one. Interface names are sorted and unique.
type Event struct {
	Links      []string // came, went, up, down, or another name or MAC
	Addresses  []string // an address came, went or became usable
	Neighbours []string // the MAC of a neighbour became known, another or unknown
	// Resync is set in the first event and when changes were lost: anything may have changed.
	Resync bool
}

// Run calls fn with events until ctx ends, and then returns nil. It watches the network namespace
// of the calling thread and calls fn on the calling goroutine; what happens meanwhile comes with
// the next event. The first event comes when the subscription stands: what is read from then on
// is current, or another event follows.
func Run(ctx context.Context, fn func(Event)) error {
	for ctx.Err() == nil {
		err := watch(ctx, fn)
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		// The kernel dropped messages that came faster than we read them. Start anew when the
		// storm had a moment to pass.
		select {
		case <-ctx.Done():
		case <-time.After(latest):
		}
	}
	return nil
}

// watch runs one subscription; it returns nil when ctx ends.
func watch(ctx context.Context, fn func(Event)) error {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_NEIGH)
	if err != nil {
		return fmt.Errorf("subscribe to network changes: %w", err)
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, socket.Close)() // ends Receive

	now, err := readWorld() // after subscribing, or a change in between would be missed
	if err != nil {
		return err
	}
	fn(Event{Resync: true})

	var pending changes
	var due time.Time // of pending, however long the burst
	for {
		if !pending.empty() && time.Until(due) <= 0 {
			fn(pending.event())
			pending = changes{}
		}
		var wait unix.Timeval // zero is for ever
		if !pending.empty() {
			wait = unix.NsecToTimeval(int64(max(time.Millisecond, min(quiet, time.Until(due)))))
		}
		if err := socket.SetReceiveTimeout(&wait); err != nil {
			return fmt.Errorf("watch network changes: %w", err)
		}
		messages, _, err := socket.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EAGAIN):
			due = time.Time{} // it has been quiet
			continue
		case err != nil:
			return fmt.Errorf("watch network changes: %w", err)
		}
		if pending.empty() {
			due = time.Now().Add(latest)
		}
		for _, m := range messages {
			now.note(m.Header.Type, m.Data, &pending)
		}
	}
}
