package datapath

import (
	"errors"
	"sync/atomic"

	"github.com/lbctl/lbctl/internal/lb"
)

// errTooSmall means that a map set has no room; Set then makes a larger one.
var errTooSmall = errors.New("the map set is too small")

// bucketWord is the entry of a bucket of a node, by its number in the kernel. The owner is always
// named, also of buckets that are ignored, so that the tables tell everything without lbd.
func bucketWord(owner int, local bool, mark lb.Mark) uint64 {
	verb := lbVerbVERB_IGNORE
	switch {
	case local && mark&lb.MarkWaiting == 0:
		verb = lbVerbVERB_ACCEPT
	case !local && mark&lb.MarkDelegate != 0:
		verb = lbVerbVERB_DELEGATE
	}
	return uint64(verb)<<lbBucketLayoutBUCKET_VERB_SHIFT |
		bucketFlags(mark)<<lbBucketLayoutBUCKET_FLAGS_SHIFT |
		uint64(owner)<<lbBucketLayoutBUCKET_TARGET_SHIFT
}

// nobodysWord is the entry of a bucket that no node owns: all that can be left of it is sockets.
func nobodysWord(mark lb.Mark) uint64 {
	return bucketFlags(mark&lb.MarkMaybeLocal) << lbBucketLayoutBUCKET_FLAGS_SHIFT
}

func bucketFlags(mark lb.Mark) uint64 {
	var flags lbBucketFlags
	// a node that waits has in its sockets what was sent on to it
	if mark&(lb.MarkMaybeLocal|lb.MarkWaiting) != 0 {
		flags |= lbBucketFlagsBUCKET_MAYBE_LOCAL
	}
	if mark&lb.MarkContested != 0 {
		flags |= lbBucketFlagsBUCKET_CONTESTED
	}
	if mark&lb.MarkUDPNoted != 0 {
		flags |= lbBucketFlagsBUCKET_UDP_NOTED
	}
	if mark&lb.MarkUDPKept != 0 {
		flags |= lbBucketFlagsBUCKET_UDP_KEPT
	}
	if mark&lb.MarkUDPAway != 0 {
		flags |= lbBucketFlagsBUCKET_UDP_AWAY
	}
	return uint64(flags)
}

// assignTables maps indexes of want.Tables to tables in the kernel. A table in the kernel is
// changed in place only when all that use it want the same; the others get a free one, which
// nobody sees before it is full.
func (s *mapSet) assignTables(want *lb.State, scopes map[string]uint16) ([]uint32, error) {
	wanted := make(map[uint16]int) // scope -> index in want.Tables
	for i := range want.VIPs {
		wanted[scopes[vipLabel(&want.VIPs[i])]] = want.VIPs[i].Table
	}
	for i := range want.Services {
		svc := &want.Services[i]
		wanted[scopes[ServiceScope(svc, &want.VIPs[svc.VIP])]] = svc.Table
	}
	inUse := make(map[uint32]int) // table in the kernel -> index in want.Tables, or -1
	for scope, table := range s.scopeTables() {
		index, ok := wanted[scope]
		if !ok {
			index = -1
		}
		if before, seen := inUse[table]; seen && before != index {
			index = -1
		}
		inUse[table] = index
	}
	assigned := make([]uint32, len(want.Tables))
	done := make([]bool, len(want.Tables))
	for table := range uint32(s.sizes.tables) {
		if index, ok := inUse[table]; ok && index >= 0 && !done[index] {
			assigned[index], done[index] = table, true
		}
	}
	free := uint32(0)
	for index := range assigned {
		if done[index] {
			continue
		}
		for _, used := inUse[free]; used; _, used = inUse[free] {
			free++
		}
		if int(free) >= s.sizes.tables {
			return nil, errTooSmall
		}
		assigned[index] = free
		free++
	}
	return assigned, nil
}

// scopeTables reads from the live directory which table each VIP and service uses.
func (s *mapSet) scopeTables() map[uint16]uint32 {
	tables := make(map[uint16]uint32)
	vips, services := s.liveHalf()
	for i := range vips {
		if v := &vips[i]; v.Scope != 0 {
			tables[v.Scope] = v.Table
		}
	}
	for i := range services {
		if v := &services[i]; v.Selector != 0 {
			tables[v.Scope] = v.Table
		}
	}
	return tables
}

// hotWords are in the hot part of one table.
const hotWords = lb.Buckets / uint32(lbLimitsHOT_BUCKETS)

// hotBits is what the hot part says of a bucket with this word.
func hotBits(word uint64) uint64 {
	switch uint16(word) { // verb and flags
	case uint16(lbVerbVERB_ACCEPT):
		return uint64(lbHotLayoutHOT_ACCEPT)
	case uint16(lbVerbVERB_IGNORE):
		return uint64(lbHotLayoutHOT_IGNORE)
	}
	return uint64(lbHotLayoutHOT_SEE_WORD)
}

// writeTables stores what differs, a bucket at a time, and returns how many did. nodes are the
// numbers of want.Nodes in the kernel.
//
// A packet reads either a bucket's word or its hot bits, never one because of the other, so it
// meets the old meaning or the new one whatever the order; but bits that say nothing send it to
// the word. So words are written first: bits that begin to say nothing then lead to the new word,
// and bits that said nothing lead to it already.
func (s *mapSet) writeTables(want *lb.State, assigned []uint32, nodes []int) int {
	var words [lb.MaxNodes + 1]uint64 // by owner + 1; nobody's is 0, VERB_NONE
	var bits [lb.MaxNodes + 1]uint64
	for i, n := range nodes {
		words[i+1] = bucketWord(n, want.Nodes[i].Local, 0)
		bits[i+1] = hotBits(words[i+1])
	}
	written := 0
	for index, t := range want.Tables {
		entries := s.tables.items[int(assigned[index])*lb.Buckets:][:lb.Buckets]
		hot := s.hot.items[assigned[index]*hotWords:][:hotWords]
		for w := range hot {
			const n = int(lbLimitsHOT_BUCKETS)
			summary := uint64(0)
			group := entries[w*n:][:n]
			for b, owner := range t.Owners[w*n:][:n] {
				word, two := words[owner+1], bits[owner+1]
				if t.Marks != nil && t.Marks[w*n+b] != 0 {
					word = markedWord(want, nodes, owner, t.Marks[w*n+b])
					two = hotBits(word)
				}
				if group[b] != word {
					atomic.StoreUint64(&group[b], word)
					written++
				}
				summary |= two << (b * int(lbHotLayoutHOT_BITS))
			}
			// also where no word changed: another may have been killed between the two
			if hot[w] != summary {
				atomic.StoreUint64(&hot[w], summary)
			}
		}
	}
	return written
}

func markedWord(want *lb.State, nodes []int, owner int16, mark lb.Mark) uint64 {
	if owner == lb.NoNode {
		return nobodysWord(mark)
	}
	return bucketWord(nodes[owner], want.Nodes[owner].Local, mark)
}
