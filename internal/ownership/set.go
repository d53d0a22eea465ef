package ownership

import (
	"encoding/binary"
	"errors"
	"iter"
	"math/bits"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Set is a set of buckets, a bitmap: bucket b is bit b%64 of word b/64. Nil is the empty set, and
// words that are missing at the end are zero. Only the methods with a pointer receiver change it.
type Set []uint64

// SetOf returns the set of some buckets.
func SetOf(buckets ...int) Set {
	var s Set
	for _, b := range buckets {
		s.Add(b)
	}
	return s
}

// Has says whether a bucket is in the set.
func (s Set) Has(b int) bool { return b>>6 < len(s) && s[b>>6]>>(b&63)&1 != 0 }

// Add puts a bucket in.
func (s *Set) Add(b int) {
	s.grow(b>>6 + 1)
	(*s)[b>>6] |= 1 << (b & 63)
}

func (s *Set) grow(words int) {
	if words > len(*s) {
		*s = append(*s, make([]uint64, words-len(*s))...)
	}
}

// AddAll puts all buckets of another set in.
func (s *Set) AddAll(other Set) {
	s.grow(len(other))
	for i, w := range other {
		(*s)[i] |= w
	}
}

// RemoveAll takes all buckets of another set out.
func (s *Set) RemoveAll(other Set) {
	for i := range min(len(*s), len(other)) {
		(*s)[i] &^= other[i]
	}
}

// And returns the buckets that are in both sets.
func (s Set) And(other Set) Set {
	both := slices.Clone(s[:min(len(s), len(other))])
	for i := range both {
		both[i] &= other[i]
	}
	return both
}

// Without returns the buckets that are in s and not in another set.
func (s Set) Without(other Set) Set {
	if s.in(other) {
		return nil // as it is most of the time, and a bitmap is not small
	}
	rest := slices.Clone(s)
	rest.RemoveAll(other)
	return rest
}

// in says whether another set has all buckets of s.
func (s Set) in(other Set) bool {
	for i, w := range s[:min(len(s), len(other))] {
		if w&^other[i] != 0 {
			return false
		}
	}
	return len(s) <= len(other) || s[len(other):].Empty()
}

// Len counts the buckets.
func (s Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty says whether there is none.
func (s Set) Empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// Equal says whether two sets have the same buckets.
func (s Set) Equal(other Set) bool {
	if len(s) > len(other) {
		s, other = other, s
	}
	return slices.Equal(s, other[:len(s)]) && other[len(s):].Empty()
}

// All returns the buckets in ascending order.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// max returns the highest bucket, -1 of the empty set.
func (s Set) max() int {
	for i, w := range slices.Backward(s) {
		if w != 0 {
			return i<<6 + 63 - bits.LeadingZeros64(w)
		}
	}
	return -1
}

// The two ways in which a set is written, after its number of buckets. Rendezvous sets are random:
// below a density of 1/8 or so the distances between buckets are shorter than a bitmap.
const (
	setGaps   = 0
	setBitmap = 1
)

var errSet = errors.New("malformed set")

// appendSet appends the shorter of the two ways.
func appendSet(b []byte, s Set) []byte {
	start, last := len(b), -1
	b = append(b, setGaps)
	b = binary.AppendUvarint(b, uint64(s.Len()))
	for bucket := range s.All() {
		b = binary.AppendUvarint(b, uint64(bucket-last-1))
		last = bucket
	}
	words := last>>6 + 1
	if len(b)-start <= 3+8*words {
		return b
	}
	b = append(b[:start], setBitmap)
	b = binary.AppendUvarint(b, uint64(words))
	for _, w := range s[:words] {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func (r *reader) set() Set {
	way, n := r.byte(), r.uvarint(lb.Buckets)
	switch way {
	case setGaps:
		return r.gaps(n)
	case setBitmap:
		raw := r.take(8 * n)
		if n > lb.Buckets/64 || r.err != nil {
			r.fail(errSet)
			return nil
		}
		s := make(Set, n)
		for i := range s {
			s[i] = binary.LittleEndian.Uint64(raw[8*i:])
		}
		return s
	}
	r.fail(errSet)
	return nil
}

func (r *reader) gaps(n int) Set {
	var s Set
	for b := -1; n > 0 && r.err == nil; n-- {
		b += 1 + r.uvarint(lb.Buckets)
		if b >= lb.Buckets {
			r.fail(errSet)
			break
		}
		s.Add(b)
	}
	if r.err != nil {
		return nil
	}
	return s
}
