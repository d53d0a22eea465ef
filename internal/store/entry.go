package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of what a store holds, in bytes and keys. The whole of it travels in one message.
const (
	MaxKey   = 256
	MaxValue = 4 << 10
	MaxNode  = 64 // of a node's name
	// MaxKeys is where a node stops to make new keys. Deleted keys count: they are never forgotten,
	// or a node that was away for long would bring their old values back.
	MaxKeys = 4096
	// maxMerged is what Merge still takes: nodes that came to MaxKeys at the same time must be able
	// to agree.
	maxMerged = 2 * MaxKeys
)

// ErrFull is the cause when there are too many keys for another one.
var ErrFull = errors.New("too many keys")

// An Entry is the last write to a key that a node knows.
type Entry struct {
	Key     string
	Value   []byte // nil when deleted
	Deleted bool
	Stamp   Stamp
	Node    string // the writer
}

// compare orders writes to one key; the greatest is the last. Stamps of two nodes can be equal, so
// the writer counts as well. Equal in both are only the writes of a node that lost its disk and
// its clock, or of two with one name: the content decides, so that all still agree.
func (e Entry) compare(other Entry) int {
	deleted := map[bool]int{true: 1}
	return cmp.Or(
		cmp.Compare(e.Stamp, other.Stamp),
		cmp.Compare(e.Node, other.Node),
		cmp.Compare(deleted[e.Deleted], deleted[other.Deleted]),
		bytes.Compare(e.Value, other.Value),
	)
}

// hash is the entry's share in a digest.
func (e Entry) hash() uint64 {
	sum := sha256.Sum256(appendEntry(nil, e))
	return binary.BigEndian.Uint64(sum[:])
}

// check says what is wrong with an entry.
func (e Entry) check() error {
	if err := checkText("key", e.Key, MaxKey); err != nil {
		return err
	}
	if err := checkText("node name", e.Node, MaxNode); err != nil {
		return fmt.Errorf("key %s: %w", e.Key, err)
	}
	if len(e.Value) > MaxValue {
		return fmt.Errorf("key %s: value of %d bytes, at most %d are allowed", e.Key, len(e.Value), MaxValue)
	}
	if e.Deleted && len(e.Value) > 0 {
		return fmt.Errorf("key %s: deleted, but with a value of %d bytes", e.Key, len(e.Value))
	}
	return nil
}

// checkText allows printable ASCII without spaces: keys and names end in logs and on terminals.
func checkText(what, s string, limit int) error {
	if s == "" {
		return fmt.Errorf("empty %s", what)
	}
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes, at most %d are allowed", what, len(s), limit)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("%s %q: only printable ASCII without spaces is allowed", what, s)
		}
	}
	return nil
}
