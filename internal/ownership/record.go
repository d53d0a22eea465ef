package ownership

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
)

// A Stage is how far a node is in a life. It only advances; a node that must go back begins
// another life.
type Stage uint8

// The stages of a life.
const (
	// StageDown has no lease. It holds nothing, takes nothing and need not be asked.
	StageDown Stage = iota
	// StageUp has a lease and is asked before a token is made, but holds and takes nothing yet.
	StageUp
	// StageMember has a lineage: it may take and make tokens. Until Record.Waiting is false it wants none.
	StageMember
	// StageLeft has handed everything over, and says so itself: its life is over for good.
	StageLeft
	stageCount
)

// String returns the word for status.
func (s Stage) String() string {
	if s < stageCount {
		return [stageCount]string{"down", "up", "member", "left"}[s]
	}
	return "unknown"
}

// A Lineage names the first node that made tokens, from which all others of its cluster descend.
// The older one, of the lower life, wins where two meet. Lives come from the wall clock, so that
// lower is older.
type Lineage struct {
	Life    uint64
	Founder string
}

// Compare orders lineages by age: negative if l is older.
func (l Lineage) Compare(other Lineage) int {
	return cmp.Or(cmp.Compare(l.Life, other.Life), cmp.Compare(l.Founder, other.Founder))
}

// A Record is what a node says about itself, but for Dead, which others say about its life.
type Record struct {
	Name      string
	Life      uint64
	Version   uint64 // grows with every change, from 1 in each life
	Dead      bool
	Stage     Stage
	Waiting   bool // not counted for ownership, unless nobody else is there
	Leaving   bool // hands everything over, for good
	Lineage   Lineage
	Config    uint64 // Config.Fingerprint
	Weights   map[string]Weight
	Meta      []byte
	Signature []byte
}

// appendSigned appends what a signature covers: everything that the node itself says.
func (r *Record) appendSigned(b []byte) []byte {
	b = appendString(b, r.Name)
	b = binary.AppendUvarint(b, r.Life)
	b = binary.AppendUvarint(b, r.Version)
	b = append(b, byte(r.Stage), flag(r.Waiting)|flag(r.Leaving)<<1)
	b = binary.AppendUvarint(b, r.Lineage.Life)
	b = appendString(b, r.Lineage.Founder)
	b = binary.BigEndian.AppendUint64(b, r.Config)
	b = binary.AppendUvarint(b, uint64(len(r.Weights)))
	for _, domain := range slices.Sorted(maps.Keys(r.Weights)) {
		w := r.Weights[domain]
		b = appendString(b, domain)
		b = binary.AppendUvarint(b, uint64(w.Weight))
		b = append(b, flag(w.Healthy)|flag(w.Whole.Is)<<1)
		b = binary.AppendUvarint(b, uint64(w.MinNodes))
		if w.Whole.Is {
			b = w.Whole.append(b)
		}
	}
	return appendBytes(b, r.Meta)
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}
