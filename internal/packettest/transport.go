package packettest

import "encoding/binary"

// Flags of TCP.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// TCP is its header, RFC 9293.
type TCP struct {
	Src, Dst                 uint16
	Flags                    uint8
	Sequence, Acknowledgment uint32
	Options                  []byte // a multiple of 4
}

func (t TCP) wrap(b *building) {
	header := make([]byte, 20, 20+len(t.Options))
	binary.BigEndian.PutUint16(header, t.Src)
	binary.BigEndian.PutUint16(header[2:], t.Dst)
	binary.BigEndian.PutUint32(header[4:], t.Sequence)
	binary.BigEndian.PutUint32(header[8:], t.Acknowledgment)
	header[12] = byte(5+len(t.Options)/4) << 4
	header[13] = t.Flags
	binary.BigEndian.PutUint16(header[14:], 0xffff)
	header = append(header, t.Options...)
	b.sum(header, 16, ProtocolTCP)
	b.put(header, ProtocolTCP)
}

// UDP is its header, RFC 768.
type UDP struct {
	Src, Dst   uint16
	NoChecksum bool
}

func (u UDP) wrap(b *building) {
	header := make([]byte, 8)
	binary.BigEndian.PutUint16(header, u.Src)
	binary.BigEndian.PutUint16(header[2:], u.Dst)
	binary.BigEndian.PutUint16(header[4:], uint16(8+len(b.bytes)))
	if !u.NoChecksum {
		b.sum(header, 6, ProtocolUDP)
		if header[6] == 0 && header[7] == 0 {
			header[6], header[7] = 0xff, 0xff // 0 means none
		}
	}
	b.put(header, ProtocolUDP)
}

// ICMP is RFC 792's header, or RFC 4443's: as the IP header around is.
type ICMP struct {
	Type, Code uint8
	Rest       uint32
}

func (m ICMP) wrap(b *building) {
	header := []byte{m.Type, m.Code, 0, 0}
	b.putICMP(binary.BigEndian.AppendUint32(header, m.Rest))
}

func (b *building) putICMP(header []byte) {
	if b.dst.Is4() {
		binary.BigEndian.PutUint16(header[2:], checksum(header, b.bytes))
		b.put(header, ProtocolICMP)
		return
	}
	b.sum(header, 2, ProtocolICMPv6)
	b.put(header, ProtocolICMPv6)
}

// sum stores the checksum of pseudo-header, header and what is inside at an offset in the header.
func (b *building) sum(header []byte, at int, protocol uint8) {
	pseudo := pseudoHeader(b.src, b.dst, protocol, len(header)+len(b.bytes))
	binary.BigEndian.PutUint16(header[at:], checksum(pseudo, header, b.bytes))
}
