package rendezvous

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// draws are what one node drew: -log2(u) in units of 2^-26, for a u in (0, 1) per bucket.
type draws struct {
	hash     uint64 // of the name
	byBucket *[lb.Buckets]uint32
}

func (b *Builder) drawsOf(name string) *draws {
	if d, ok := b.draws[name]; ok {
		return d
	}
	sum := sha256.Sum256([]byte(name))
	// Large allocations begin at a page, where lines of all nodes would compete for the same few
	// places of the first cache. Each node begins a line later.
	const line = 16
	shift := len(b.draws) % lb.MaxNodes * line
	d := &draws{
		hash:     binary.BigEndian.Uint64(sum[:]),
		byBucket: (*[lb.Buckets]uint32)(make([]uint32, lb.MaxNodes*line+lb.Buckets)[shift:]),
	}
	for i := range d.byBucket {
		d.byBucket[i] = b.minusLog2(mix(d.hash ^ uint64(i)))
	}
	b.draws[name] = d
	return d
}

// forget bounds the memory: when more nodes came and went than a cluster can have, those that are
// not in use go.
func (b *Builder) forget(used []Node) {
	if len(b.draws) <= lb.MaxNodes {
		return
	}
	maps.DeleteFunc(b.draws, func(name string, _ *draws) bool {
		return !slices.ContainsFunc(used, func(n Node) bool { return n.Name == name })
	})
}

// mix is the finisher of SplitMix64 (Steele, Lea and Flood, 2014; constants of Stafford's variant
// 13): a bijection in which every bit of x changes every bit of the result with probability 1/2.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

const (
	log2Bits     = 10 // bits of the mantissa that select a step of the table
	log2Steps    = 1 << log2Bits
	log2Fraction = 26 // 6 bits are left for the integer part, which is below 64
)

// log2Table returns log2(1 + i/log2Steps) in units of 2^-26, rounded.
func log2Table() [log2Steps + 1]uint32 {
	var table [log2Steps + 1]uint32
	for i := range log2Steps {
		// A binary digit of a logarithm per squaring: log2(y²) = 2 log2(y). y is in [1, 2),
		// in units of 2^-63, and is halved when it leaves that range.
		y := uint64(log2Steps+i) << (63 - log2Bits)
		var digits uint32
		for range log2Fraction + 1 {
			hi, lo := bits.Mul64(y, y)
			digits = digits<<1 | uint32(hi>>63)
			if hi>>63 == 1 {
				y = hi
			} else {
				y = hi<<1 | lo>>63
			}
		}
		table[i] = (digits + 1) >> 1
	}
	table[log2Steps] = 1 << log2Fraction
	return table
}

// minusLog2 returns -log2(x / 2^64) in units of 2^-26, interpolated between two steps of the
// table. Bit 1 is set in x, so that the result stays below 64.
func (b *Builder) minusLog2(x uint64) uint32 {
	x |= 2
	zeros := bits.LeadingZeros64(x)
	mantissa := x << zeros << 1 // without its leading 1
	step := mantissa >> (64 - log2Bits)
	rest := mantissa << log2Bits >> 32
	low, high := uint64(b.log2[step]), uint64(b.log2[step+1])
	return uint32(uint64(zeros+1)<<log2Fraction - low - (high-low)*rest>>32)
}

// rankMask selects the candidate's rank in a score: the lowest score is also the answer to whose it
// is, and no two are equal.
const rankMask = lb.MaxNodes - 1

// inverse returns 2^32/weight, cut to a multiple of 64 so that products leave the rank's bits free.
// That shifts a share by less than 2^-17, for the largest weight by nothing.
func inverse(weight int) uint64 {
	return (1 << 32 / uint64(weight)) &^ rankMask
}

// score is draw/weight as a product, which cannot overflow: a draw is below 2^32 and an inverse at
// most 2^32. A higher weight never gives a higher score, on which Update relies.
func score(draw uint32, inverse, rank uint64) uint64 {
	return uint64(draw)*inverse + rank
}
