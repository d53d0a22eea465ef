package packettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// An anatomy says where the parts of an IP packet are in the bytes that hold it. Written for the
// reference rewrites alone: it shares nothing with the datapath's parser but the RFCs.
type anatomy struct {
	bytes    []byte // from the IP header on
	end      int    // of the packet by its own length field, or of the bytes where those end before
	whole    bool   // all of the packet is there
	v6       bool
	protocol uint8 // of the transport, after IPv6 extension headers
	l4       int   // offset of the transport header
	first    bool  // a first fragment
	later    bool  // a later one: at l4 is payload
}

var errShort = errors.New("cut short")

// packetIn finds the IP packet of a frame, behind any number of VLAN tags.
func packetIn(frame []byte) (int, error) {
	at := 12
	for ; len(frame) >= at+4; at += 4 {
		switch kind := binary.BigEndian.Uint16(frame[at:]); kind {
		case 0x8100, 0x88a8:
		case 0x0800, 0x86dd:
			return at + 2, nil
		default:
			return 0, fmt.Errorf("ethertype %#04x: not IP", kind)
		}
	}
	return 0, errShort
}

// dissect reads the headers of an IP packet.
func dissect(b []byte) (*anatomy, error) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return dissect4(b)
	case len(b) >= 40 && b[0]>>4 == 6:
		return dissect6(b)
	}
	return nil, fmt.Errorf("ip header: %w", errShort)
}

func dissect4(b []byte) (*anatomy, error) {
	length := int(binary.BigEndian.Uint16(b[2:]))
	fragment := binary.BigEndian.Uint16(b[6:])
	a := &anatomy{
		bytes:    b,
		end:      min(length, len(b)),
		whole:    length <= len(b),
		protocol: b[9],
		l4:       int(b[0]&15) * 4,
		later:    fragment&0x1fff != 0,
	}
	a.first = fragment&0x2000 != 0 && !a.later
	if a.l4 < 20 || a.l4 > a.end {
		return nil, fmt.Errorf("ip header of %d bytes: %w", a.l4, errShort)
	}
	return a, nil
}

func dissect6(b []byte) (*anatomy, error) {
	length := 40 + int(binary.BigEndian.Uint16(b[4:]))
	a := &anatomy{bytes: b, end: min(length, len(b)), whole: length <= len(b), v6: true, protocol: b[6], l4: 40}
	chain := []uint8{ProtocolHopByHop, ProtocolRouting, ProtocolFragment, ProtocolAH, ProtocolDestination}
	for slices.Contains(chain, a.protocol) && !a.later {
		if a.l4+8 > a.end {
			return nil, fmt.Errorf("extension header %d: %w", a.protocol, errShort)
		}
		size := (int(b[a.l4+1]) + 1) * 8
		switch a.protocol {
		case ProtocolFragment:
			size = 8
			offset := binary.BigEndian.Uint16(b[a.l4+2:])
			a.later = offset&^7 != 0
			a.first = offset&1 != 0 && !a.later
		case ProtocolAH:
			size = (int(b[a.l4+1]) + 2) * 4
		}
		a.protocol = b[a.l4]
		a.l4 += size
	}
	if a.l4 > a.end {
		return nil, fmt.Errorf("extension headers: %w", errShort)
	}
	return a, nil
}

// An End is one of the two of a packet or a flow.
type End int

// The ends of a packet.
const (
	Source End = iota
	Destination
)

func (e End) other() End { return 1 - e }

// addr is the field of an end's address, port that of its port; nil when it is not there.
func (a *anatomy) addr(e End) []byte {
	if a.v6 {
		return a.bytes[8+16*int(e):][:16]
	}
	return a.bytes[12+4*int(e):][:4]
}

func (a *anatomy) port(e End) []byte {
	if a.later || (a.protocol != ProtocolTCP && a.protocol != ProtocolUDP) || a.l4+4 > a.end {
		return nil
	}
	return a.bytes[a.l4+2*int(e):][:2]
}

// message is the transport header and what follows, as far as it is there.
func (a *anatomy) message() []byte { return a.bytes[a.l4:a.end] }

// sum is the field of the transport's checksum; nil when there is none, or not here.
func (a *anatomy) sum() []byte {
	offsets := map[uint8]int{ProtocolTCP: 16, ProtocolUDP: 6, ProtocolICMP: 2, ProtocolICMPv6: 2}
	at, known := offsets[a.protocol]
	at += a.l4
	if !known || a.later || at+2 > a.end {
		return nil
	}
	return a.bytes[at:][:2]
}

// optional says whether a sender may leave the transport's checksum out, with 0 in its place.
func (a *anatomy) optional() bool { return a.protocol == ProtocolUDP }

// pseudo is the pseudo-header that the transport's checksum covers; ICMP of IPv4 has none.
func (a *anatomy) pseudo() []byte {
	if a.protocol == ProtocolICMP {
		return nil
	}
	src, _ := netip.AddrFromSlice(a.addr(Source))
	dst, _ := netip.AddrFromSlice(a.addr(Destination))
	return pseudoHeader(src, dst, a.protocol, a.end-a.l4)
}

// quote is the packet that an ICMP error carries; nil for what is no error or names no flow.
func (a *anatomy) quote() *anatomy {
	if a.later || a.l4+8 > a.end {
		return nil
	}
	kind := a.bytes[a.l4]
	isError := a.protocol == ProtocolICMP && slices.Contains([]uint8{3, 4, 11, 12}, kind) ||
		a.protocol == ProtocolICMPv6 && kind >= 1 && kind <= 4
	if !isError {
		return nil
	}
	inner, err := dissect(a.bytes[a.l4+8 : a.end])
	if err != nil || inner.later {
		return nil
	}
	return inner
}

// HeadersOf is the length of the headers before an IP packet's transport header. The packet must be
// a valid one.
func HeadersOf(packet []byte) int {
	a, err := dissect(packet)
	if err != nil {
		panic(err)
	}
	return a.l4
}

// Transport is where in a frame the header behind those of IP is.
func Transport(frame []byte) (int, error) {
	at, err := packetIn(frame)
	if err != nil {
		return 0, err
	}
	a, err := dissect(frame[at:])
	if err != nil {
		return 0, err
	}
	return at + a.l4, nil
}
