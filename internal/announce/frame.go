package announce

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
)

const (
	ethertypeARP  = 0x0806
	ethertypeIPv6 = 0x86dd
	icmpv6        = 58

	arpRequest = 1
	arpReply   = 2
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// announcements are the frames that say that an address is at a MAC. They come from that MAC, so that
// switches learn where it is.
func announcements(addr netip.Addr, mac net.HardwareAddr) ([][]byte, error) {
	if addr.Is4() {
		return [][]byte{arp(arpRequest, addr, mac), arp(arpReply, addr, mac)}, nil
	}
	frame, err := advertisement(addr, mac)
	return [][]byte{frame}, err
}

// arp is RFC 5227's announcement: sender and target are the address.
func arp(operation uint16, addr netip.Addr, mac net.HardwareAddr) []byte {
	ip := addr.As4()
	target := make(net.HardwareAddr, 6)
	if operation == arpReply {
		target = broadcast // as the frame, RFC 5944 section 4.6
	}
	b := ethernet(broadcast, mac, ethertypeARP)
	b = append(b, 0, 1, 8, 0, 6, 4) // Ethernet and IPv4
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(append(b, mac...), ip[:]...)
	b = append(append(b, target...), ip[:]...)
	return append(b, make([]byte, 60-len(b))...)
}

// advertisement overrides what neighbours have, and answers nobody.
func advertisement(addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}, addr, allNodes)
	if err != nil {
		return nil, fmt.Errorf("advertise %s: %w", addr, err)
	}
	to, from := allNodes.As16(), addr.As16()
	b := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, ethertypeIPv6) // RFC 2464 section 7
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, icmpv6, 255) // the hop limit of those who are on the link, RFC 4861 section 7.1.2
	b = append(append(b, from[:]...), to[:]...)
	return append(b, body...), nil
}

func ethernet(to, from net.HardwareAddr, ethertype uint16) []byte {
	b := append(append(make([]byte, 0, 128), to...), from...)
	return binary.BigEndian.AppendUint16(b, ethertype)
}
