package rendezvous

import (
	"math"
	"runtime"
	"sync"

	"github.com/lbctl/lbctl/internal/lb"
)

// block is the number of buckets that are computed at a time, for all tables: 64 nodes' draws for
// 1,024 buckets fit into the second cache of a core, those for all buckets do not.
const block = 1024

// An update is a table on its way from one set of nodes to another.
type update struct {
	old, owners *[lb.Buckets]int16 // old is nil when every bucket is decided anew
	candidates  []candidate
	byRank      [lb.MaxNodes]int16     // index of a candidate, or NoNode
	kept        [2 * lb.MaxNodes]int16 // by old owner: its index if it lost no weight, or anew
	byIndex     [lb.MaxNodes]candidate
	gainers     []candidate
}

// anew marks owners whose buckets are up for anyone.
const anew = -1

func newUpdate(c Change, candidates []candidate) *update {
	u := &update{
		owners:     new([lb.Buckets]int16),
		candidates: candidates,
	}
	for i := range u.byRank {
		u.byRank[i] = lb.NoNode
	}
	for _, n := range candidates {
		u.byRank[n.rank] = n.index
		u.byIndex[n.index] = n
	}
	u.compare(c)
	// To let one node bid for what others hold costs as much as three bids for what is free.
	if c.Table != nil && 3*len(u.gainers) <= len(candidates) {
		u.old = (*[lb.Buckets]int16)(c.Table.Owners)
	}
	return u
}

// compare finds out whose buckets stay with them unless somebody gained, and who gained.
func (u *update) compare(c Change) {
	for i := range u.kept {
		u.kept[i] = anew
	}
	before := make(map[string]int, len(c.Old))
	for i, n := range c.Old {
		before[n.Name] = i
	}
	for _, n := range u.candidates {
		weight, oldWeight := c.New[n.index].Weight, 0
		if i, ok := before[c.New[n.index].Name]; ok {
			oldWeight = c.Old[i].Weight
			if weight >= oldWeight {
				u.kept[i] = n.index
			}
		}
		if weight > oldWeight {
			u.gainers = append(u.gainers, n)
		}
	}
}

// compute runs all updates a block at a time, the blocks shared between processors.
func compute(updates []*update) {
	var workers sync.WaitGroup
	n := min(runtime.GOMAXPROCS(0), lb.Buckets/block)
	for first := range n {
		workers.Go(func() {
			var s scratch
			for start := first * block; start < lb.Buckets; start += n * block {
				for _, u := range updates {
					u.run(start, &s)
				}
			}
		})
	}
	workers.Wait()
}

// scratch is what run needs for a while: to clear it for each block of each table would take as
// long as to replace a node.
type scratch struct {
	buckets [block]uint16
	lowest  [block]uint64
}

// run computes the block that starts at a bucket.
func (u *update) run(start int, s *scratch) {
	if u.old == nil {
		for i := range s.buckets {
			s.buckets[i] = uint16(start + i)
		}
		u.decide(s.buckets[:], &s.lowest)
		return
	}
	u.decide(u.keep(start, s.buckets[:0]), &s.lowest)
	for i := range u.gainers {
		u.gain(start, &u.gainers[i])
	}
}

// keep leaves buckets to their owners where it can and appends the others to rest.
func (u *update) keep(start int, rest []uint16) []uint16 {
	owners := u.owners[start:][:block]
	for i, owner := range u.old[start:][:block] {
		index := u.kept[uint(owner)%uint(len(u.kept))]
		owners[i] = index
		if index == anew {
			rest = append(rest, uint16(start+i))
		}
	}
	return rest
}

// decide gives each of the buckets, at most a block, to the best candidate.
func (u *update) decide(buckets []uint16, array *[block]uint64) {
	lowest := array[:len(buckets)]
	for i := range lowest {
		lowest[i] = math.MaxUint64
	}
	for _, c := range u.candidates {
		draws, inverse, rank := c.draws, c.inverse, c.rank
		for i, bucket := range buckets {
			lowest[i] = min(lowest[i], score(draws[bucket], inverse, rank))
		}
	}
	for i, bucket := range buckets {
		u.owners[bucket] = u.byRank[lowest[i]&rankMask]
	}
}

// gain gives a node that gained weight the buckets of a block in which it beats the owner.
func (u *update) gain(start int, n *candidate) {
	index, inverse, rank := n.index, n.inverse, n.rank
	owners := u.owners[start:][:block]
	for i, draw := range n.draws[start:][:block] {
		owner := &u.byIndex[uint(owners[i])%lb.MaxNodes]
		// As 16 bits, the bucket needs no check of bounds.
		if score(draw, inverse, rank) < score(owner.draws[uint16(start+i)], owner.inverse, owner.rank) {
			owners[i] = index
		}
	}
}
