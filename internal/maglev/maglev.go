// Package maglev computes which backend each slot of a service has: Maglev hashing (Eisenbud and
// others, "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).
//
// Every backend has an order of preference over the slots, a permutation that follows from its name
// alone. Backends take turns, and in its turn one takes the slot that it likes best of those that are
// left. So shares are exact, and as most slots fall to the same backend whoever else takes part, few
// move when one comes or goes.
//
// A backend takes its turns at the times 0, 1/w, 2/w, ... for a weight w. When its turns are depends
// on nobody else, as a count of rounds relative to the largest weight would: a change of one weight
// leaves all others in the order they had.
//
// Only names, weights and integers take part: directors that know the same backends agree without
// talking, whatever their architecture.
package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// MaxBackends is the number of backends that a table can have: as many as rankBits count.
	MaxBackends = 1 << rankBits
	// MaxWeight is the largest weight. The resolution is there for weights that grow in steps.
	MaxWeight = 1 << 16

	rankBits = 10
	timeBits = 32 // of the fraction of a turn's time
	pageBits = 12 // by which turns are laid out before they are sorted
)

// A Backend takes part with a weight of 0..MaxWeight. With 0 it has no slot, with more at least one.
type Backend struct {
	Name   string
	Weight int
}

// Build returns the table of backends, whose names are unique: for each slot a position in
// backends, or -1 in all of them with no weight above 0. The number of slots is a prime above that
// of backends and below 2^16 + 2.
func Build(slots int, backends []Backend) []int16 {
	if len(backends) > MaxBackends {
		panic(fmt.Sprintf("maglev: %d backends, at most %d", len(backends), MaxBackends))
	}
	table := slices.Repeat([]int16{-1}, slots)
	places := rank(backends)
	walks := walks(slots, places)
	if len(places) == 0 {
		return table
	}
	// Bits and walks are small enough for the nearest cache, which the table is not.
	taken := make([]uint64, (slots+63)/64)
	for _, who := range turns(slots, places) {
		w := &walks[who]
		for taken[w.next>>6]>>(w.next&63)&1 == 1 {
			w.advance(uint32(slots))
		}
		taken[w.next>>6] |= 1 << (w.next & 63)
		table[w.next] = places[who].index
	}
	return table
}

// A walk goes through the permutation of a backend: next is the slot that it likes best of those
// that it did not look at, skip the distance from one to the one after it.
type walk struct{ next, skip uint32 }

func (w *walk) advance(slots uint32) {
	w.next += w.skip
	if w.next >= slots {
		w.next -= slots
	}
}

func walks(slots int, places []place) []walk {
	list := make([]walk, len(places))
	for i := range places {
		hash := &places[i].hash
		list[i] = walk{uint32(hash[0] % uint64(slots)), uint32(hash[1]%uint64(slots-1)) + 1}
	}
	return list
}

// A place is a backend among those that have a weight.
type place struct {
	hash   [4]uint64 // of the name
	index  int16     // in the caller's backends
	weight uint64
}

// rank returns the backends with a weight in the order in which they take turns of the same time,
// which must not depend on who else takes part.
func rank(backends []Backend) []place {
	places := make([]place, 0, len(backends))
	for i, b := range backends {
		if b.Weight < 0 || b.Weight > MaxWeight {
			panic(fmt.Sprintf("maglev: %s: weight %d is not in 0..%d", b.Name, b.Weight, MaxWeight))
		}
		if b.Weight == 0 {
			continue
		}
		p := place{index: int16(i), weight: uint64(b.Weight)}
		sum := sha256.Sum256([]byte(b.Name))
		for j := range p.hash {
			p.hash[j] = binary.BigEndian.Uint64(sum[8*j:])
		}
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int { return slices.Compare(a.hash[2:], b.hash[2:]) })
	return places
}

// turns returns whose turn it is, as often as there are slots.
func turns(slots int, places []place) []uint16 {
	total := uint64(0)
	equal := true
	for i := range places {
		total += places[i].weight
		equal = equal && places[i].weight == places[0].weight
	}
	order := make([]uint16, slots)
	if equal {
		for i := range order {
			order[i] = uint16(i % len(places))
		}
		return order
	}
	// At the time slots/total all have taken at least as many turns together as there are slots,
	// and at most one more each. A turn is its time and, in the low bits, the backend's rank.
	end := (uint64(slots) << timeBits) / total
	list := make([]uint64, 0, slots+len(places))
	for i := range places {
		for k := uint64(0); ; k++ {
			at := k << timeBits / places[i].weight
			if at > end {
				break
			}
			list = append(list, at<<rankBits|uint64(i))
		}
	}
	for i, turn := range sorted(list, max(0, bits.Len64(end)-pageBits)+rankBits)[:slots] {
		order[i] = uint16(turn & (MaxBackends - 1))
	}
	return order
}

// sorted is slices.Sort for numbers that are spread evenly, in half the time: it lays them out by
// their high bits, above shift and pageBits many, and sorts the few that have the same.
func sorted(list []uint64, shift int) []uint64 {
	var ends [1<<pageBits + 1]uint32
	for _, x := range list {
		ends[x>>shift+1]++
	}
	for i := range ends[1:] {
		ends[i+1] += ends[i]
	}
	laid := make([]uint64, len(list))
	at := ends
	for _, x := range list {
		laid[at[x>>shift]] = x
		at[x>>shift]++
	}
	for i := range ends[1:] {
		slices.Sort(laid[ends[i]:ends[i+1]])
	}
	return laid
}
