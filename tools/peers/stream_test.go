package main

import (
	"encoding/binary"
	"testing"
)

// The injector writes a port or half an address, and its complement elsewhere, as here.
func TestSegmentsOfAllClientsHaveRightChecksums(t *testing.T) {
	for _, s := range []segment{opening(newcomer), answer(), established()} {
		f := s.bytes()
		port, address := offsetTCP, offsetSource+2
		if s.reply {
			port, address = port+2, address+4
		}
		for i := range 1000 {
			number := uint16(i * 40503)
			binary.BigEndian.PutUint16(f[port:], number)
			binary.BigEndian.PutUint16(f[offsetUrgent:], ^number)
			binary.BigEndian.PutUint16(f[address:], number+1)
			binary.BigEndian.PutUint16(f[offsetWindow:], ^(number + 1))
			binary.BigEndian.PutUint16(f[offsetID:], ^(number + 1))
			ip, tcp := f[14:offsetTCP], f[offsetTCP:segmentHeaders]
			if sum := checksum(ip); sum != 0 {
				t.Fatalf("flags %#x, number %d: the IP header adds up to %#04x", s.flags, i, sum)
			}
			pseudo := append([]byte{0, 6, 0, byte(len(tcp))}, ip[12:20]...)
			if sum := checksum(append(pseudo, tcp...)); sum != 0 {
				t.Fatalf("flags %#x, number %d: TCP adds up to %#04x", s.flags, i, sum)
			}
		}
	}
}
