package ownership

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
)

// newer says whether r says more than other, of the same node. It is a total order, so that
// knowledge of all nodes is a lattice, and merging it in any order gives the same.
func (r *Record) newer(other *Record) bool {
	switch {
	case r.Life != other.Life:
		return r.Life > other.Life
	case r.Dead != other.Dead:
		return r.Dead
	}
	return !r.Dead && r.Version > other.Version
}

// knowledge is the newest record of each node that was ever heard of.
type knowledge map[string]*Record

// fingerprint is equal on nodes that know the same. It covers versions, not contents: a set of
// nodes can become what it was, knowledge cannot. What a dead life said last does not matter.
func (k knowledge) fingerprint() uint64 {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(k)) {
		r := k[name]
		b = appendString(b, name)
		b = binary.BigEndian.AppendUint64(b, r.Life)
		if r.Dead {
			b = append(b, 1)
			continue
		}
		b = append(b, 0)
		b = binary.BigEndian.AppendUint64(b, r.Version)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// sorted returns the records in the order of names.
func (k knowledge) sorted() []*Record {
	records := make([]*Record, 0, len(k))
	for _, name := range slices.Sorted(maps.Keys(k)) {
		records = append(records, k[name])
	}
	return records
}

// alive says whether a node's newest life is not known to be dead.
func (k knowledge) alive(name string) bool { return k[name] != nil && !k[name].Dead }

// is says whether that life of a node is the newest known, and alive.
func (k knowledge) is(name string, life uint64) bool { return k.alive(name) && k[name].Life == life }

// lineage returns the oldest lineage of living members other than one, nil if there is none.
func (k knowledge) lineage(except string) *Record {
	var oldest *Record
	for name, r := range k {
		if name == except || r.Dead || r.Stage != StageMember {
			continue
		}
		if oldest == nil || r.Lineage.Compare(oldest.Lineage) < 0 {
			oldest = r
		}
	}
	return oldest
}
