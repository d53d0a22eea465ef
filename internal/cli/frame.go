package cli

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Protocol numbers of IANA's registry, as the headers carry them.
const (
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44 // the IPv6 extension header
	protoICMPv6   = 58
)

// EtherTypes of IEEE 802.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd
	etherQinQ = 0x88a8
)

// tcpSYN opens a connection, RFC 9293 section 3.1.
const tcpSYN = 1 << 1

// A fragment says which part of a datagram a frame carries.
type fragment int

const (
	fragmentNone fragment = iota
	fragmentFirst
	fragmentLater
)

// fragmentSize is what the first fragment of a datagram carries, a multiple of 8 as RFC 791
// demands, with room for the longest transport header in use; the later one carries as much.
const fragmentSize = 32

// fragmentID names the datagram that made-up fragments belong to.
const fragmentID = 0x1bc7

// A frame is the description of one made-up Ethernet frame.
type frame struct {
	to       net.HardwareAddr
	from     net.HardwareAddr
	vlan     uint16 // 0: untagged
	protocol uint8  // protoTCP, protoUDP, protoICMP or protoICMPv6
	source   netip.AddrPort
	dest     netip.AddrPort // of the same family
	tcpFlags uint8
	fragment fragment
}

// bytes returns the frame as it would come from the wire, with every checksum right.
func (f *frame) bytes() []byte {
	payload := f.datagram()
	switch f.fragment {
	case fragmentNone:
	case fragmentFirst:
		payload = payload[:fragmentSize]
	case fragmentLater:
		payload = payload[fragmentSize:]
	}
	var out []byte
	out = append(out, f.to...)
	out = append(out, f.from...)
	if f.vlan != 0 {
		out = binary.BigEndian.AppendUint16(out, etherVLAN)
		out = binary.BigEndian.AppendUint16(out, f.vlan)
	}
	if f.dest.Addr().Is4() {
		out = binary.BigEndian.AppendUint16(out, etherIPv4)
		out = f.appendIPv4(out, len(payload))
	} else {
		out = binary.BigEndian.AppendUint16(out, etherIPv6)
		out = f.appendIPv6(out, len(payload))
	}
	return append(out, payload...)
}

// datagram returns the transport header and payload of the whole, unfragmented packet: its
// checksum covers all of it, whichever part travels in this frame.
func (f *frame) datagram() []byte {
	var out []byte
	checksum := 0
	switch f.protocol {
	case protoTCP:
		out = binary.BigEndian.AppendUint16(out, f.source.Port())
		out = binary.BigEndian.AppendUint16(out, f.dest.Port())
		out = append(out, 0, 0, 0, 1, 0, 0, 0, 0)    // sequence 1, nothing acknowledged
		out = append(out, 5<<4, f.tcpFlags, 0xff, 0) // five words of header, a window
		checksum = len(out)
		out = append(out, 0, 0, 0, 0)
	case protoUDP:
		out = binary.BigEndian.AppendUint16(out, f.source.Port())
		out = binary.BigEndian.AppendUint16(out, f.dest.Port())
		out = binary.BigEndian.AppendUint16(out, uint16(f.datagramSize(8)))
		checksum = len(out)
		out = append(out, 0, 0)
	case protoICMP, protoICMPv6:
		echo := byte(8) // RFC 792
		if f.protocol == protoICMPv6 {
			echo = 128 // RFC 4443 section 4.1
		}
		out = append(out, echo, 0)
		checksum = len(out)
		out = append(out, 0, 0, 0, 1, 0, 1) // identifier and sequence number
	}
	out = append(out, make([]byte, f.datagramSize(len(out))-len(out))...)

	sum := sumBytes(0, out)
	if f.protocol != protoICMP {
		sum = f.sumPseudoHeader(sum, len(out))
	}
	folded := fold(sum)
	if folded == 0 && f.protocol == protoUDP {
		folded = 0xffff // RFC 768: zero means "no checksum"
	}
	binary.BigEndian.PutUint16(out[checksum:], folded)
	return out
}

// datagramSize is the header alone, or enough for two fragments.
func (f *frame) datagramSize(header int) int {
	if f.fragment == fragmentNone {
		return header
	}
	return 2 * fragmentSize
}

func (f *frame) appendIPv4(out []byte, payload int) []byte {
	var id, offset uint16
	switch f.fragment {
	case fragmentNone:
	case fragmentFirst:
		id, offset = fragmentID, 1<<13 // more fragments
	case fragmentLater:
		id, offset = fragmentID, fragmentSize/8
	}
	start := len(out)
	out = append(out, 4<<4|5, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(20+payload))
	out = binary.BigEndian.AppendUint16(out, id)
	out = binary.BigEndian.AppendUint16(out, offset)
	out = append(out, 64, f.protocol, 0, 0)
	out = append(out, f.source.Addr().AsSlice()...)
	out = append(out, f.dest.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(out[start+10:], fold(sumBytes(0, out[start:])))
	return out
}

func (f *frame) appendIPv6(out []byte, payload int) []byte {
	next, extension := f.protocol, 0
	if f.fragment != fragmentNone {
		next, extension = protoFragment, 8
	}
	out = append(out, 6<<4, 0, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(extension+payload))
	out = append(out, next, 64)
	out = append(out, f.source.Addr().AsSlice()...)
	out = append(out, f.dest.Addr().AsSlice()...)
	switch f.fragment {
	case fragmentNone:
	case fragmentFirst: // offset 0, more fragments
		out = append(out, f.protocol, 0, 0, 1)
		out = binary.BigEndian.AppendUint32(out, fragmentID)
	case fragmentLater: // the offset is in units of 8 in the upper 13 bits: bytes as they are
		out = append(out, f.protocol, 0, 0, fragmentSize)
		out = binary.BigEndian.AppendUint32(out, fragmentID)
	}
	return out
}

// sumPseudoHeader adds what RFC 9293 section 3.1 and RFC 8200 section 8.1 put before the header.
// The two differ in the width of fields whose upper parts are zero here, so one sum does.
func (f *frame) sumPseudoHeader(sum uint32, length int) uint32 {
	sum = sumBytes(sum, f.source.Addr().AsSlice())
	sum = sumBytes(sum, f.dest.Addr().AsSlice())
	return sum + uint32(f.protocol) + uint32(length)
}

// sumBytes adds 16-bit words, RFC 1071; the data has an even length.
func sumBytes(sum uint32, data []byte) uint32 {
	for ; len(data) > 0; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
