package netconf

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A member is a socket of this process that is in a group which the kernel itself cannot join.
//
// The kernel's joins (see addGroup) hang on a socket of its own, which forgets nothing: when IPv6
// is taken off an interface and comes back, as with an MTU below 1280, the memberships are gone but
// that socket still has them on its list and refuses to join again, until the interface is made
// anew (seen on 6.18). A member lasts as long as this process; that is all there is left.
type member struct {
	index int // of the interface
	fd    int
}

// keepMembers makes this process a member of those groups that were added in vain, and ends what is
// not wanted any more. It returns an error for each group that it cannot join.
func (h *Host) keepMembers(now *snapshot, needs []need, added map[item]bool) error {
	want := wanted(needs)
	for it, m := range h.members {
		if !want[it] || m.index != now.index[it.Interface] {
			h.endMember(it)
		}
	}
	after := &snapshot{joined: make(map[item]bool)}
	if err := after.readGroups6(); err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	var errs []error
	for it := range added {
		if !it.isGroup6() || after.joined[it] {
			continue
		}
		h.endMember(it) // one that lost its membership stands in its own way
		fd, err := join(now.index[it.Interface], netip.MustParseAddr(it.Name))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: join: %w", it, err))
			continue
		}
		h.members[it] = member{now.index[it.Interface], fd}
	}
	return errors.Join(errs...)
}

func (h *Host) endMember(it item) {
	if m, ok := h.members[it]; ok {
		_ = unix.Close(m.fd) // leaves the group
		delete(h.members, it)
	}
}

// join returns a socket that is a member of an IPv6 group and receives nothing.
func join(index int, group netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	request := &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)}
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, request); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (it item) isGroup6() bool {
	return it.Kind == kindGroup && netip.MustParseAddr(it.Name).Is6()
}
