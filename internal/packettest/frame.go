package packettest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// A Layer is one header of a frame, or its payload. Zero fields that a sender computes (lengths,
// checksums, the number of the next header) are filled in; a test that wants them wrong changes
// the bytes of the finished frame.
type Layer interface {
	// wrap puts the layer around what b holds.
	wrap(b *building)
}

// building is a frame in the making, from the inside out.
type building struct {
	bytes    []byte
	next     uint16     // what bytes start with: an ethertype, or an IP protocol
	src, dst netip.Addr // of the IP header around, which pseudo-headers are made of
}

// put makes header, which is called number by the layer around, the start of the frame.
func (b *building) put(header []byte, number uint16) {
	b.bytes = append(header, b.bytes...)
	b.next = number
}

// Frame builds a frame, or from an IP header on a packet, out of its layers, the outermost first.
func Frame(layers ...Layer) []byte {
	var b building
	for i, layer := range slices.Backward(layers) {
		b.src, b.dst = addressesAround(layers[:i])
		layer.wrap(&b)
	}
	return b.bytes
}

func addressesAround(layers []Layer) (src, dst netip.Addr) {
	for _, layer := range slices.Backward(layers) {
		switch ip := layer.(type) {
		case IPv4:
			return ip.Src, ip.Dst
		case IPv6:
			return ip.Src, ip.Dst
		}
	}
	return netip.Addr{}, netip.Addr{}
}

// Pad fills a frame up with zeros to n bytes, as senders do to Ethernet's minimum of 60.
func Pad(frame []byte, n int) []byte {
	return append(frame, make([]byte, max(0, n-len(frame)))...)
}

// Ethernet is the link-layer header.
type Ethernet struct {
	Dst, Src net.HardwareAddr
	Type     uint16 // 0: what follows says
}

func (e Ethernet) wrap(b *building) {
	number := e.Type
	if number == 0 {
		number = b.next
	}
	header := append(append([]byte{}, e.Dst...), e.Src...)
	b.put(binary.BigEndian.AppendUint16(header, number), 0)
}

// VLAN is a tag: 802.1Q, or 802.1ad, as the outer one of two is.
type VLAN struct {
	ID       uint16
	Priority uint8
	Service  bool // 802.1ad
}

func (v VLAN) wrap(b *building) {
	header := binary.BigEndian.AppendUint16(nil, uint16(v.Priority)<<13|v.ID)
	number := uint16(0x8100)
	if v.Service {
		number = 0x88a8
	}
	b.put(binary.BigEndian.AppendUint16(header, b.next), number)
}

// Raw is a payload, or a header that this package does not know.
type Raw struct {
	Number uint16 // what the layer around calls it
	Bytes  []byte
}

func (r Raw) wrap(b *building) { b.put(append([]byte{}, r.Bytes...), r.Number) }

// checksum is the Internet checksum of RFC 1071 in its plainest form, over whole messages.
func checksum(parts ...[]byte) uint16 {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	sum := uint32(0)
	for i := 0; i < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// pseudoHeader is what a transport's checksum covers besides its message: RFC 9293 section 3.1,
// RFC 8200 section 8.1.
func pseudoHeader(src, dst netip.Addr, protocol uint8, length int) []byte {
	header := append(src.AsSlice(), dst.AsSlice()...)
	header = binary.BigEndian.AppendUint32(header, uint32(length))
	return append(header, 0, 0, 0, protocol)
}
