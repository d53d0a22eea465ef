package main

import "encoding/binary"

// The frames are of the smallest size: what a load balancer sees most. Their addresses are for
// documentation (RFC 5737); the MAC is the one of the CLUSTERIP rule.
const (
	vip        = "192.0.2.80"
	clusterMAC = "01:00:5e:7f:02:50"
	port       = 443

	sourcePorts     = 1024   // a power of two that divides firstSourcePort
	firstSourcePort = 0x4000 // 16384

	offsetEtherType  = 12
	offsetSourcePort = 34
	headers          = 42 // Ethernet, IPv4, UDP
	frameSize        = 60 // Ethernet's least, without the FCS
)

func frame() []byte {
	f := make([]byte, frameSize)
	copy(f, []byte{0x01, 0x00, 0x5e, 0x7f, 0x02, 0x50, 0x02, 0, 0, 0, 0, 0x07, 0x08, 0x00})
	ip := f[14:34]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], frameSize-14)
	ip[8] = 64 // TTL
	ip[9] = 17 // UDP
	copy(ip[12:], []byte{198, 51, 100, 7})
	copy(ip[16:], []byte{192, 0, 2, 80})
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	udp := f[offsetSourcePort:]
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	return f // a UDP checksum of zero is none: the ports change
}

// checksum is that of RFC 1071, for a header of even length.
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
