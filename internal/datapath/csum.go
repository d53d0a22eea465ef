package datapath

import (
	"encoding/binary"
	"net/netip"
)

// A sum is one of 16-bit words as they lie in a packet, as csum.h adds them up: what the program can
// know of a checksum before it sees a packet.
type sum uint64

// add adds bytes, an even number of them.
func (s *sum) add(b []byte) {
	for ; len(b) > 0; b = b[2:] {
		*s += sum(binary.LittleEndian.Uint16(b))
	}
}

// replace adds what the replacement of bytes by others changes.
func (s *sum) replace(from, to []byte) {
	for i := 0; i < len(from); i += 2 {
		*s += sum(^binary.LittleEndian.Uint16(from[i:]))
		*s += sum(binary.LittleEndian.Uint16(to[i:]))
	}
}

// replacePort is replace for a port, which stays when it becomes 0.
func (s *sum) replacePort(from, to uint16) {
	if to != 0 {
		s.replace(binary.BigEndian.AppendUint16(nil, from), binary.BigEndian.AppendUint16(nil, to))
	}
}

// fold returns the sum in one word, which is 0 only if nothing was added.
func (s sum) fold() uint16 {
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// changesOf returns what the checksums of an IPv4 header, which is one hop older, and of a transport
// change by when an address and a port become others.
func changesOf(from, to netip.Addr, fromPort, toPort uint16) (header, transport uint16) {
	var addresses, hop sum
	addresses.replace(from.AsSlice(), to.AsSlice())
	hop.replace([]byte{1, 0}, []byte{0, 0}) // of the word of TTL and protocol
	header = (addresses + hop).fold()
	addresses.replacePort(fromPort, toPort)
	return header, addresses.fold()
}

// outerSum is what the words of an outer IPv4 header add up to but for its length and type of service,
// 0 for an outer IPv6 header.
func outerSum(from, to netip.Addr, protocol uint8) uint16 {
	if !from.Is4() {
		return 0
	}
	const dontFragment = 0x40
	var s sum
	s.add([]byte{0x45, 0, dontFragment, 0, uint8(lbLimitsTUNNEL_HOPS), protocol})
	s.add(from.AsSlice())
	s.add(to.AsSlice())
	return s.fold()
}
