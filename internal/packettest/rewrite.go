package packettest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// The rewrites of a director, each as its RFC has it and in the plainest form: headers are taken
// apart anew and sums are made over whole messages, so that a mistake in the datapath's incremental
// ones cannot be here, too. All return a new frame and expect a valid one.

// A Hop is the way a frame leaves by.
type Hop struct {
	MAC net.HardwareAddr // of who is next
	Own net.HardwareAddr // of the interface
}

// Route sends a frame on to a hop: other MACs, and one hop less to live.
func (h Hop) Route(frame []byte) []byte {
	out := slices.Concat(h.MAC, h.Own, frame[12:])
	ip := packetOf(out).bytes
	if ip[0]>>4 == 6 {
		ip[7]--
		return out
	}
	ip[8]--
	resumHeader(ip, 0)
	return out
}

// A Tunnel puts a frame's packet into another one.
type Tunnel struct {
	Src, Dst netip.Addr // of the outer header
	// GUE is the source port of the UDP header; 0: no UDP and no GUE header.
	GUE uint16
}

// GUEPort is where GUE is listened for.
const GUEPort = 6080

// The numbers of IP inside IP: RFC 2003, RFC 2473.
const (
	ProtocolIPv4 = 4
	ProtocolIPv6 = 41
)

// Wrap puts the outer headers behind the Ethernet header and its tags. What pads the frame stays
// at its end, outside of both packets.
func (t Tunnel) Wrap(frame []byte) []byte {
	inner := packetOf(frame)
	link := len(frame) - len(inner.bytes)
	protocol, class := uint8(ProtocolIPv4), inner.bytes[1]
	if inner.v6 {
		protocol, class = ProtocolIPv6, uint8(binary.BigEndian.Uint16(inner.bytes)>>4)
	}
	var between []byte
	if t.GUE != 0 {
		between = binary.BigEndian.AppendUint16(between, t.GUE)
		between = binary.BigEndian.AppendUint16(between, GUEPort)
		between = binary.BigEndian.AppendUint16(between, uint16(12+inner.end))
		between = append(between, 0, 0, 0, protocol, 0, 0) // no checksum, then GUE version 0
		protocol = ProtocolUDP
	}
	length := len(between) + inner.end
	var ip []byte
	ethertype := uint16(0x0800)
	if t.Dst.Is4() {
		ip = append(ip, 0x45, class)
		ip = binary.BigEndian.AppendUint16(ip, uint16(20+length))
		ip = append(ip, 0, 0, 0x40, 0, 64, protocol, 0, 0)
	} else {
		ethertype = 0x86dd
		ip = binary.BigEndian.AppendUint32(ip, 6<<28|uint32(class)<<20)
		ip = binary.BigEndian.AppendUint16(ip, uint16(length))
		ip = append(ip, protocol, 64)
	}
	ip = append(append(ip, t.Src.AsSlice()...), t.Dst.AsSlice()...)
	if t.Dst.Is4() {
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	}
	out := slices.Concat(frame[:link], ip, between, inner.bytes)
	binary.BigEndian.PutUint16(out[link-2:], ethertype)
	return out
}

// Translate gives one end of a frame's flow another address, and another port unless that is 0. An
// ICMP error is about a packet of the other direction: there the quoted packet's other end is
// translated, and its own address.
func Translate(frame []byte, end End, to netip.AddrPort) []byte {
	out := slices.Clone(frame)
	outer := packetOf(out)
	change := func() { outer.set(end, to) }
	if inner := outer.quote(); inner != nil {
		change = func() {
			inner.keepingSums(func() { inner.set(end.other(), to) })
			outer.set(end, netip.AddrPortFrom(to.Addr(), 0))
		}
	}
	outer.keepingSums(change)
	return out
}

func (a *anatomy) set(e End, to netip.AddrPort) {
	copy(a.addr(e), to.Addr().AsSlice())
	if field := a.port(e); field != nil && to.Port() != 0 {
		binary.BigEndian.PutUint16(field, to.Port())
	}
}

// keepingSums makes the checksums as right after a change as they were before: those of a part of
// a packet, or of one that was damaged on its way, are off by as much as they were.
func (a *anatomy) keepingSums(change func()) {
	header := residue(a.bytes[:a.headerLength()])
	message := residue(a.pseudo(), a.message())
	field := a.sum()
	without := field != nil && a.optional() && field[0]|field[1] == 0
	change()
	if !a.v6 {
		resumHeader(a.bytes, header)
	}
	if field == nil || without {
		return
	}
	clear(field)
	sum := less(message, residue(a.pseudo(), a.message()))
	if a.optional() && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}

// ClampMSS cuts the maximum segment size that a SYN offers to mss.
func ClampMSS(frame []byte, mss uint16) []byte {
	out := slices.Clone(frame)
	a := packetOf(out)
	if a.protocol != ProtocolTCP || a.port(Source) == nil || a.l4+20 > a.end || a.bytes[a.l4+13]&SYN == 0 {
		return out
	}
	options := a.bytes[a.l4+20 : min(a.end, a.l4+int(a.bytes[a.l4+12]>>4)*4)]
	for len(options) >= 2 && options[0] != 0 {
		if options[0] == 1 {
			options = options[1:]
			continue
		}
		if options[0] == 2 && options[1] == 4 && len(options) >= 4 {
			if field := options[2:4]; binary.BigEndian.Uint16(field) > mss {
				a.keepingSums(func() { binary.BigEndian.PutUint16(field, mss) })
			}
			return out
		}
		if options[1] < 2 || int(options[1]) > len(options) {
			return out
		}
		options = options[options[1]:]
	}
	return out
}

// packetOf is the anatomy of a frame that the caller knows to be valid.
func packetOf(frame []byte) *anatomy {
	at, err := packetIn(frame)
	if err != nil {
		panic(err)
	}
	a, err := dissect(frame[at:])
	if err != nil {
		panic(err)
	}
	return a
}

// headerLength is that of the header which has a checksum of its own: none in IPv6.
func (a *anatomy) headerLength() int {
	if a.v6 {
		return 0
	}
	return int(a.bytes[0]&15) * 4
}

// residue is what 16-bit words add up to, modulo 0xffff: 0 where a checksum among them is right.
func residue(parts ...[]byte) uint16 { return (0xffff - checksum(parts...)) % 0xffff }

// less is a - b, modulo 0xffff.
func less(a, b uint16) uint16 { return uint16((uint32(a) + 0xffff - uint32(b)) % 0xffff) }

// resumHeader stores the checksum under which an IPv4 header has a residue.
func resumHeader(ip []byte, want uint16) {
	header := ip[:int(ip[0]&15)*4]
	clear(header[10:12])
	binary.BigEndian.PutUint16(header[10:], less(want, residue(header)))
}
