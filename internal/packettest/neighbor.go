package packettest

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Operations of ARP.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is RFC 826's packet for Ethernet and IPv4.
type ARP struct {
	Operation            uint16
	SenderMAC, TargetMAC net.HardwareAddr // nil is zero
	Sender, Target       netip.Addr
}

func (a ARP) wrap(b *building) {
	header := make([]byte, 28)
	copy(header, []byte{0, 1, 8, 0, 6, 4})
	binary.BigEndian.PutUint16(header[6:], a.Operation)
	copy(header[8:], a.SenderMAC)
	copy(header[14:], a.Sender.AsSlice())
	copy(header[18:], a.TargetMAC)
	copy(header[24:], a.Target.AsSlice())
	b.put(header, 0x0806)
}

// Types of ICMPv6 that are neighbor discovery, and flags of an advertisement.
const (
	Solicitation  = 135
	Advertisement = 136

	FlagSolicited = 1 << 30
	FlagOverride  = 1 << 29
)

// Options of neighbor discovery.
const (
	SourceLink = 1
	TargetLink = 2
	Nonce      = 14 // RFC 3971
)

// Neighbor is a neighbor solicitation or advertisement, RFC 4861 sections 4.3 and 4.4. Its options
// are the layers that follow.
type Neighbor struct {
	Type, Code uint8
	Flags      uint32
	Target     netip.Addr
}

func (n Neighbor) wrap(b *building) {
	header := []byte{n.Type, n.Code, 0, 0}
	header = binary.BigEndian.AppendUint32(header, n.Flags)
	b.putICMP(append(header, n.Target.AsSlice()...))
}

// Option is an option of neighbor discovery; its data and two bytes are a multiple of 8.
type Option struct {
	Type uint8
	Data []byte
}

func (o Option) wrap(b *building) {
	b.put(append([]byte{o.Type, byte((2 + len(o.Data)) / 8)}, o.Data...), 0)
}
