package nexthop

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A watch gathers what the kernel tells until it is taken.
type watch struct {
	socket *nl.NetlinkSocket
	ended  chan struct{}
	wake   chan struct{}
	failed chan error

	mu   sync.Mutex
	news news
}

// News is what happened since the last look.
type news struct {
	routes     bool // or what they depend on
	addresses  bool // one is new or renewed
	lost       bool // anything may have happened
	neighbours []heard
}

// Heard is one message about a neighbour.
type heard struct {
	netlink.Neigh
	gone bool
}

// newWatch subscribes in the network namespace of the calling thread, also to more groups.
func newWatch(more ...uint) (*watch, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, append(more,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_NEXTHOP)...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to routes and neighbours: %w", err)
	}
	w := &watch{socket: socket, ended: make(chan struct{}), wake: make(chan struct{}, 1), failed: make(chan error, 1)}
	go w.read()
	return w, nil
}

func (w *watch) close() {
	w.socket.Close()
	<-w.ended
}

func (w *watch) read() {
	defer close(w.ended)
	for {
		messages, _, err := w.socket.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS): // they came faster than they were read
			w.tell(func(n *news) { n.lost = true })
		case err != nil:
			w.failed <- fmt.Errorf("watch routes and neighbours: %w", err)
			return
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
				if neigh, err := netlink.NeighDeserialize(m.Data); err == nil && ofIP(neigh) {
					w.tell(func(n *news) {
						n.neighbours = append(n.neighbours, heard{*neigh, m.Header.Type == unix.RTM_DELNEIGH})
					})
				}
			case unix.RTM_NEWADDR:
				w.tell(func(n *news) { n.addresses = true })
			default:
				w.tell(func(n *news) { n.routes = true })
			}
		}
	}
}

// ofIP is false for the forwarding entries of bridges, which come this way too.
func ofIP(n *netlink.Neigh) bool { return n.Family == unix.AF_INET || n.Family == unix.AF_INET6 }

func (w *watch) tell(what func(*news)) {
	w.mu.Lock()
	what(&w.news)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) take() news {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.news
	w.news = news{}
	return n
}
