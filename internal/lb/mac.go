package lb

import (
	"net"
	"net/netip"
)

// SharedMAC is the link-layer address that a VIP gets in a form; nil for MACExplicit, which is the
// operator's, and MACOwn. It ends in the last four bytes of the address, or as much of them as fits.
func SharedMAC(form MACForm, vip netip.Addr) net.HardwareAddr {
	b := vip.As16()
	low := b[12:]
	switch form {
	case MACMulticast:
		return append(net.HardwareAddr{0x03, 0xbf}, low...)
	case MACUnicast:
		return append(net.HardwareAddr{0x02, 0xbf}, low...)
	case MACGroup:
		return groupMAC(Group(form, vip))
	case MACExplicit, MACOwn:
	}
	return nil
}

// Group is the multicast group that nodes join for a VIP in the form MACGroup, so that snooping
// switches bring them its frames; the zero Addr in any other form. 239.127.0.0/16 is of the
// organization's local scope (RFC 2365), ff15::/16 of a transient group of the site (RFC 4291).
func Group(form MACForm, vip netip.Addr) netip.Addr {
	if form != MACGroup {
		return netip.Addr{}
	}
	b := vip.As16()
	if vip.Is4() {
		return netip.AddrFrom4([4]byte{239, 127, b[14], b[15]})
	}
	group := [16]byte{0: 0xff, 1: 0x15}
	copy(group[12:], b[12:])
	return netip.AddrFrom16(group)
}

// groupMAC maps a group as RFC 1112 section 6.4 and RFC 2464 section 7 do.
func groupMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	if group.Is4() {
		return net.HardwareAddr{0x01, 0x00, 0x5e, b[13] & 0x7f, b[14], b[15]}
	}
	return append(net.HardwareAddr{0x33, 0x33}, b[12:]...)
}

// NodesMAC is the group address that all nodes listen to on the interfaces of VIPs: locally administered,
// multicast, "lbhb".
func NodesMAC() net.HardwareAddr { return net.HardwareAddr{0x03, 0x6c, 0x62, 0x68, 0x62, 0x01} }
