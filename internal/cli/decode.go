package cli

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// A decoded frame is as much of a captured one as people need to recognize it.
type decoded struct {
	protocol    string // "tcp", "arp", "ethertype 0x88cc", ...
	source      string
	destination string
}

// decode reads the start of an Ethernet frame. What is cut short is left out: the capture ends
// after the first headers.
func decode(data []byte) decoded {
	if len(data) < 14 {
		return decoded{protocol: "short frame"}
	}
	d := decoded{
		source:      net.HardwareAddr(data[6:12]).String(),
		destination: net.HardwareAddr(data[:6]).String(),
	}
	ethertype := binary.BigEndian.Uint16(data[12:])
	data = data[14:]
	for (ethertype == etherVLAN || ethertype == etherQinQ) && len(data) >= 4 {
		ethertype = binary.BigEndian.Uint16(data[2:])
		data = data[4:]
	}
	d.protocol = fmt.Sprintf("ethertype %#04x", ethertype)
	switch {
	case ethertype == etherARP && len(data) >= 28:
		return decodeARP(data)
	case ethertype == etherIPv4 && len(data) >= 20:
		return decodeIPv4(data)
	case ethertype == etherIPv6 && len(data) >= 40:
		return decodeIPv6(data)
	}
	return d
}

func decodeARP(data []byte) decoded {
	sender, _ := netip.AddrFromSlice(data[14:18])
	target, _ := netip.AddrFromSlice(data[24:28])
	return decoded{"arp", sender.String(), target.String()}
}

func decodeIPv4(data []byte) decoded {
	source, _ := netip.AddrFromSlice(data[12:16])
	destination, _ := netip.AddrFromSlice(data[16:20])
	header := min(int(data[0]&0xf)*4, len(data))
	later := binary.BigEndian.Uint16(data[6:])&0x1fff != 0
	return decodeTransport(source, destination, data[9], later, data[header:])
}

func decodeIPv6(data []byte) decoded {
	source, _ := netip.AddrFromSlice(data[8:24])
	destination, _ := netip.AddrFromSlice(data[24:40])
	next, later := data[6], false
	data = data[40:]
	for !later && isExtension(next) && len(data) >= 8 {
		size := (int(data[1]) + 1) * 8
		switch next {
		case protoFragment:
			size = 8
			later = binary.BigEndian.Uint16(data[2:])&0xfff8 != 0
		case protoAH:
			size = (int(data[1]) + 2) * 4
		}
		next = data[0]
		data = data[min(size, len(data)):]
	}
	return decodeTransport(source, destination, next, later, data)
}

// The other IPv6 extension headers of RFC 8200 section 4.1.
const (
	protoHopByHop    = 0
	protoRouting     = 43
	protoAH          = 51
	protoDestination = 60
)

func isExtension(protocol byte) bool {
	switch protocol {
	case protoHopByHop, protoRouting, protoFragment, protoAH, protoDestination:
		return true
	}
	return false
}

// decodeTransport adds the ports, which only TCP and UDP have, and no later fragment.
func decodeTransport(source, destination netip.Addr, protocol byte, later bool, data []byte) decoded {
	d := decoded{protocolName(protocol), source.String(), destination.String()}
	if later {
		d.protocol += " fragment"
		return d
	}
	if (protocol == protoTCP || protocol == protoUDP) && len(data) >= 4 {
		d.source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(data)).String()
		d.destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(data[2:])).String()
	}
	return d
}

func protocolName(protocol byte) string {
	switch protocol {
	case protoICMP:
		return "icmp"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoICMPv6:
		return "icmpv6"
	}
	return fmt.Sprintf("protocol %d", protocol)
}
