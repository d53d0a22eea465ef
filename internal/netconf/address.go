package netconf

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addVIP adds an address that takes packets but does not become the source of our own, as their
// replies would go to another node. For IPv4 the scope host does it. IPv6 has no such scope; a
// deprecated address is only used when the node has no other of the needed scope, and then
// ownSources keeps the kernel from looking on lo.
func addVIP(index int, vip netip.Addr) error {
	addr := hostAddress(index, vip)
	if vip.Is6() {
		addr.Flags |= unix.IFA_F_NODAD // the other nodes hold it too
		addr.ValidLft = math.MaxUint32 // for ever, with a preferred lifetime of 0
	}
	return ignore(netlink.AddrAdd(nil, addr), unix.EEXIST)
}

// addGroup has the kernel join a group, which it goes on reporting by IGMP or MLD when we are
// gone. Such a join hangs on an address, as with `ip addr add <group> dev <if> autojoin`; its
// scope, and for IPv6 its being a group, keep it from becoming a source.
//
// An IPv6 address goes when the interface is switched off, but the kernel does not leave the
// group then (seen on 6.18): EADDRINUSE says that it is still a member, or thinks so, see member.
// That also means that such a join can only end with the interface.
func addGroup(index int, group netip.Addr) error {
	addr := hostAddress(index, group)
	addr.Flags |= unix.IFA_F_MCAUTOJOIN
	return ignore(netlink.AddrAdd(nil, addr), unix.EEXIST, unix.EADDRINUSE)
}

func removeAddress(index int, a netip.Addr) error {
	// ENODEV: the interface has no addresses of the family at all.
	return ignore(netlink.AddrDel(nil, hostAddress(index, a)), unix.EADDRNOTAVAIL, unix.ENODEV)
}

func hostAddress(index int, a netip.Addr) *netlink.Addr {
	return &netlink.Addr{
		IPNet:     &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
		LinkIndex: index,
		Scope:     unix.RT_SCOPE_HOST,
	}
}

func ignore(err error, harmless ...error) error {
	for _, h := range harmless {
		if errors.Is(err, h) {
			return nil
		}
	}
	return err
}

// addresses lists all addresses of the machine by interface index.
func addresses() ([]netlink.Addr, error) {
	// A dump that a change interrupted may lack entries: ask again.
	for range 10 {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return addrs, err
		}
	}
	return nil, fmt.Errorf("list addresses: %w", netlink.ErrDumpInterrupted)
}
