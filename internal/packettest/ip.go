package packettest

import (
	"encoding/binary"
	"net/netip"
)

// The numbers of IP protocols and of IPv6 extension headers.
const (
	ProtocolHopByHop     = 0
	ProtocolICMP         = 1
	ProtocolTCP          = 6
	ProtocolUDP          = 17
	ProtocolRouting      = 43
	ProtocolFragment     = 44
	ProtocolESP          = 50
	ProtocolAH           = 51
	ProtocolICMPv6       = 58
	ProtocolNoNextHeader = 59
	ProtocolDestination  = 60
)

// IPv4 is its header, RFC 791.
type IPv4 struct {
	Src, Dst netip.Addr
	Options  []byte // a multiple of 4
	ID       uint16
	Offset   int // of a fragment, in bytes: a multiple of 8
	More     bool
	Dont     bool  // fragment
	TTL      uint8 // 0 is 64
	TOS      uint8
}

func (ip IPv4) wrap(b *building) {
	size := 20 + len(ip.Options)
	header := make([]byte, 20, size)
	header[0] = 0x40 | byte(size/4)
	header[1] = ip.TOS
	binary.BigEndian.PutUint16(header[2:], uint16(size+len(b.bytes)))
	binary.BigEndian.PutUint16(header[4:], ip.ID)
	fragment := uint16(ip.Offset / 8)
	if ip.More {
		fragment |= 0x2000
	}
	if ip.Dont {
		fragment |= 0x4000
	}
	binary.BigEndian.PutUint16(header[6:], fragment)
	header[8] = ip.TTL
	if ip.TTL == 0 {
		header[8] = 64
	}
	header[9] = byte(b.next)
	copy(header[12:], ip.Src.AsSlice())
	copy(header[16:], ip.Dst.AsSlice())
	header = append(header, ip.Options...)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	b.put(header, 0x0800)
}

// IPv6 is its fixed header, RFC 8200.
type IPv6 struct {
	Src, Dst     netip.Addr
	HopLimit     uint8 // 0 is 64
	TrafficClass uint8
	FlowLabel    uint32
}

func (ip IPv6) wrap(b *building) {
	header := make([]byte, 8, 40)
	binary.BigEndian.PutUint32(header, 6<<28|uint32(ip.TrafficClass)<<20|ip.FlowLabel)
	binary.BigEndian.PutUint16(header[4:], uint16(len(b.bytes)))
	header[6] = byte(b.next)
	header[7] = ip.HopLimit
	if ip.HopLimit == 0 {
		header[7] = 64
	}
	header = append(append(header, ip.Src.AsSlice()...), ip.Dst.AsSlice()...)
	b.put(header, 0x86dd)
}

// Extension is an IPv6 extension header in the common form, filled with padding: hop-by-hop,
// routing or destination options.
type Extension struct {
	Kind uint8
	Size int // in bytes, a multiple of 8; 0 is 8
}

func (e Extension) wrap(b *building) {
	header := make([]byte, max(e.Size, 8))
	header[0] = byte(b.next)
	header[1] = byte(len(header)/8 - 1)
	b.put(header, uint16(e.Kind))
}

// AH is the authentication header, RFC 4302, whose length counts in 4 bytes.
type AH struct {
	Size int // in bytes, a multiple of 8 in IPv6; 0 is 16
}

func (a AH) wrap(b *building) {
	size := a.Size
	if size == 0 {
		size = 16
	}
	header := make([]byte, size)
	header[0] = byte(b.next)
	header[1] = byte(size/4 - 2)
	b.put(header, ProtocolAH)
}

// Fragment is IPv6's fragment header.
type Fragment struct {
	ID     uint32
	Offset int // in bytes, a multiple of 8
	More   bool
}

func (f Fragment) wrap(b *building) {
	header := make([]byte, 8)
	header[0] = byte(b.next)
	offset := uint16(f.Offset)
	if f.More {
		offset |= 1
	}
	binary.BigEndian.PutUint16(header[2:], offset)
	binary.BigEndian.PutUint32(header[4:], f.ID)
	b.put(header, ProtocolFragment)
}
