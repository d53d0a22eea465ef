package datapath

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
)

// The map replies is the hot part of the map reverse: a copy of each entry that has its slot for itself.
// The program looks up the rest in the map, by a helper that costs more than all else it does with a reply.

// replySlot is where hot_reverse of reverse.h looks.
func replySlot(addrHi, addrLo, port uint64) int {
	const golden = 0x9e3779b97f4a7c15
	return int((addrHi ^ addrLo ^ port<<40) * golden >> (64 - lbLimitsREPLY_BITS))
}

// replyPort is the third word of an entry's key.
func replyPort(key *lbReverseKey) uint64 { return uint64(key.Protocol)<<16 | uint64(key.Port) }

// repliesOf lays out what there is room for. Of two entries of one slot it is always the same that
// gets it.
func repliesOf(want reverses) map[int]lbReply {
	keys := slices.SortedFunc(maps.Keys(want), func(a, b lbReverseKey) int {
		return cmp.Or(cmp.Compare(a.AddrHi, b.AddrHi), cmp.Compare(a.AddrLo, b.AddrLo), cmp.Compare(replyPort(&a), replyPort(&b)))
	})
	slots := make(map[int]lbReply)
	for _, key := range keys {
		port := replyPort(&key)
		slot := replySlot(key.AddrHi, key.AddrLo, port)
		if _, taken := slots[slot]; !taken {
			slots[slot] = lbReply{AddrHi: key.AddrHi, AddrLo: key.AddrLo, Port: port, Reverse: want[key]}
		}
	}
	return slots
}

// writeReplies follows the map reverse, in which all of want is. What is not wanted any more stays until
// forgetReplies.
func (s *mapSet) writeReplies(want reverses) {
	for slot, reply := range repliesOf(want) {
		storeReply(&s.replies.items[slot], &reply)
	}
}

// forgetReplies takes out what is not wanted any more.
func (s *mapSet) forgetReplies(want reverses) {
	for i := range s.replies.items {
		reply := &s.replies.items[i]
		if reply.Port == 0 {
			continue
		}
		key := lbReverseKey{AddrHi: reply.AddrHi, AddrLo: reply.AddrLo, Port: uint16(reply.Port), Protocol: uint8(reply.Port >> 16)}
		if _, wanted := want[key]; !wanted {
			storeReply(reply, &lbReply{})
		}
	}
}

// storeReply changes a slot that packets may look at: while it changes, it is nobody's.
func storeReply(to, reply *lbReply) {
	if *to == *reply {
		return
	}
	fresh := *reply
	fresh.Port = 0
	atomic.StoreUint64(&to.Port, 0)
	*to = fresh
	atomic.StoreUint64(&to.Port, reply.Port)
}
