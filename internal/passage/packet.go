package passage

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

const (
	header4, header6  = 20, 40 // bytes of an IP header without options
	headerTCP         = 20
	headerUDP         = 8
	headerGUE         = 4
	portGUE           = 6080
	hopLimit          = 64
	dontFragment      = 0x40 // first byte of the IPv4 fragment field
	moreFragments     = 0x20
	firstDynamicPort  = 0xc000 // RFC 6335
	checksumTCP       = 16     // offset in the header
	checksumUDP       = 6
	protocolIPv4      = unix.IPPROTO_IPIP
	protocolIPv6      = unix.IPPROTO_IPV6
	ipv6PayloadLength = 4
)

// A parsed packet is one of TCP or UDP that is in one piece.
type parsed struct {
	flow
	transport []byte // with its header
}

// flowOf says what a packet belongs to; false for what no probe sends or gets.
func flowOf(packet []byte) (flow, bool) {
	p, ok := parse(packet)
	return p.flow, ok
}

func parse(packet []byte) (p parsed, ok bool) {
	var source, dest netip.Addr
	switch {
	case len(packet) >= header4 && packet[0]>>4 == 4:
		length, total := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
		if length < header4 || total < length || total > len(packet) || packet[6]&^dontFragment != 0 || packet[7] != 0 {
			return p, false
		}
		source, dest = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
		p.protocol, p.transport = packet[9], packet[length:total]
	case len(packet) >= header6 && packet[0]>>4 == 6:
		total := header6 + int(binary.BigEndian.Uint16(packet[ipv6PayloadLength:]))
		if total > len(packet) {
			return p, false
		}
		source, dest = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
		p.protocol, p.transport = packet[6], packet[header6:total]
	default:
		return p, false
	}
	least := headerTCP
	if p.protocol == unix.IPPROTO_UDP {
		least = headerUDP
	} else if p.protocol != unix.IPPROTO_TCP {
		return p, false
	}
	if len(p.transport) < least {
		return p, false
	}
	p.source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(p.transport))
	p.dest = netip.AddrPortFrom(dest, binary.BigEndian.Uint16(p.transport[2:]))
	return p, true
}

// checksummed returns a packet with a checksum of its own. What receive offload put together, or never
// was on a wire, has none.
func checksummed(packet []byte) ([]byte, bool) {
	p, ok := parse(packet)
	if !ok {
		return nil, false
	}
	at := checksumTCP
	if p.protocol == unix.IPPROTO_UDP {
		at = checksumUDP
	}
	field := p.transport[at:][:2]
	clear(field)
	pseudo := append(p.source.Addr().AsSlice(), p.dest.Addr().AsSlice()...)
	sum := checksum(p.transport, checksumOf(pseudo)+uint32(p.protocol)+uint32(len(p.transport)))
	if sum == 0 && p.protocol == unix.IPPROTO_UDP {
		sum = 0xffff // 0 is for none, RFC 768
	}
	binary.BigEndian.PutUint16(field, sum)
	return packet, true
}

// checksum is the Internet checksum, RFC 1071.
func checksum(data []byte, sum uint32) uint16 {
	sum += checksumOf(data)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func checksumOf(data []byte) (sum uint32) {
	for ; len(data) > 1; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	return sum
}

// wrap returns what goes to the backend: the packet itself, or the packet in a tunnel, as the datapath
// makes it.
func (w *Way) wrap(packet []byte, port uint16) []byte {
	if w.Forward != lb.ForwardTunnel {
		return packet
	}
	protocol, class := uint8(protocolIPv4), packet[1]
	if packet[0]>>4 == 6 {
		protocol, class = protocolIPv6, packet[0]<<4|packet[1]>>4
	}
	payload := packet
	if w.Encap == lb.EncapGUE {
		length := headerUDP + headerGUE + len(packet)
		payload = binary.BigEndian.AppendUint16(nil, firstDynamicPort|port)
		payload = binary.BigEndian.AppendUint16(payload, portGUE)
		payload = binary.BigEndian.AppendUint16(payload, uint16(length))
		payload = append(payload, 0, 0 /* no checksum */, 0, protocol, 0, 0)
		payload = append(payload, packet...)
		protocol = unix.IPPROTO_UDP
	}
	return append(w.outer(protocol, class, len(payload)), payload...)
}

// outer is the header of a tunnel.
func (w *Way) outer(protocol, class uint8, payload int) []byte {
	if w.Backend.Is6() {
		header := []byte{6<<4 | class>>4, class << 4, 0, 0, byte(payload >> 8), byte(payload), protocol, hopLimit}
		return append(append(header, w.Hop.Source.AsSlice()...), w.Backend.AsSlice()...)
	}
	total := header4 + payload
	header := []byte{4<<4 | header4/4, class, byte(total >> 8), byte(total), 0, 0, dontFragment, 0, hopLimit, protocol, 0, 0}
	header = append(append(header, w.Hop.Source.AsSlice()...), w.Backend.AsSlice()...)
	binary.BigEndian.PutUint16(header[10:], checksum(header, 0))
	return header
}
