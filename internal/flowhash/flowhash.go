// Package flowhash is the Go twin of flow_hash in bpf/include/flow.h: which bucket a flow is in.
package flowhash

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/lbctl/lbctl/internal/lb"
)

// Keys are the hash's secret: a 64-bit multiplier for each 32-bit word of source address (four)
// and ports (one), and a last one that is added.
type Keys [6]uint64

// NewKeys expands a cluster's seed. Every node gets the same keys, whatever its byte order.
func NewKeys(seed [32]byte) Keys {
	var keys Keys
	for i := range keys {
		block := sha256.Sum256(append(seed[:], byte(i)))
		keys[i] = binary.BigEndian.Uint64(block[:])
	}
	return keys
}

// Mask says which bits of a flow its hash is made of. Addresses are 128-bit numbers, high half
// first; Ports is of source port << 16 | destination port.
type Mask struct {
	Hi, Lo uint64
	Ports  uint32
}

// NewMask returns the mask of a service's hash fields for one address family.
func NewMask(fields lb.HashFields, v4 bool) Mask {
	bits := fields.SourceBits6
	if v4 {
		bits = 96 + fields.SourceBits4 // ::ffff:0:0/96
	}
	m := Mask{Hi: prefix64(bits), Lo: prefix64(bits - 64)}
	if fields.SourcePort {
		m.Ports |= 0xffff0000
	}
	if fields.DestPort {
		m.Ports |= 0xffff
	}
	return m
}

func prefix64(bits int) uint64 {
	return ^uint64(0) << (64 - min(max(bits, 0), 64))
}

// Halves returns an address as the number that is hashed: IPv4 as ::ffff:a.b.c.d.
func Halves(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// Sum hashes a flow: multilinear over 32-bit words, strongly universal (Lemire and Kaser, 2014),
// then a bijective finisher that breaks up the sequences that a client's ports are.
func (k Keys) Sum(m Mask, src netip.Addr, srcPort, dstPort uint16) uint64 {
	hi, lo := Halves(src)
	hi, lo = hi&m.Hi, lo&m.Lo
	ports := (uint32(srcPort)<<16 | uint32(dstPort)) & m.Ports

	h := k[5]
	h += k[0] * (hi >> 32)
	h += k[1] * uint64(uint32(hi))
	h += k[2] * (lo >> 32)
	h += k[3] * uint64(uint32(lo))
	h += k[4] * uint64(ports)
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>32
}

// Bucket is the slot of an ownership table that a hash selects.
func Bucket(hash uint64) int { return int(hash & (lb.Buckets - 1)) }

// Slot is the slot of a lb.Choice that a hash selects: by its upper half, as the lower one selects the
// bucket, whose flows would otherwise share a few slots.
func Slot(hash uint64) int { return int((hash >> 32) * lb.Slots >> 32) }
