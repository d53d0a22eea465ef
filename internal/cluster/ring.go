package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A KeyID names a key and tells nothing about it. It is for people and messages.
type KeyID [8]byte

// ID returns the key's name.
func (k Key) ID() KeyID {
	sum := sha256.Sum256(append([]byte("lb cluster key id\x00"), k[:]...))
	return KeyID(sum[:8])
}

// String returns it in hexadecimal digits; nothing for the KeyID of no key.
func (id KeyID) String() string {
	if id == (KeyID{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// MarshalText is String.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *KeyID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = KeyID{}
		return nil
	}
	if hex.DecodedLen(len(text)) != len(id) {
		return errors.New("id of a key: want 16 hexadecimal digits")
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// A Ring is what a key file holds. Its methods are the steps of a rotation, which return another
// Ring. Each step is brought to all nodes before the next one begins: then no node ever meets a
// message that it cannot read. To repeat a step changes nothing.
type Ring struct {
	Keys []Key // the first encrypts, all decrypt
	Next KeyID // the one of Keys that shall be the only one; zero: no rotation is under way
}

// nextComment marks Next in a key file. Who edits the file by hand may leave it out.
const nextComment = "# rotating to "

// maxKeys is how many keys a ring may have for a rotation: the old and the new one.
const maxKeys = 2

// Add is the first step: the node learns to read the key, and writes with what it had.
func (r Ring) Add(key Key) (Ring, error) {
	switch {
	case len(r.Keys) == 1 && r.Keys[0] == key:
		return r, nil // the rotation is over here
	case slices.Contains(r.Keys, key):
		return Ring{r.Keys, key.ID()}, nil
	case len(r.Keys) >= maxKeys:
		return r, errors.New("add key: there are two already: another rotation is under way")
	}
	return Ring{append(slices.Clone(r.Keys), key), key.ID()}, nil
}

// Use is the second step: the node writes with the key.
func (r Ring) Use(id KeyID) (Ring, error) {
	i := r.index(id)
	if i == 0 {
		return r, nil
	}
	if i < 0 || r.Next != id {
		return r, fmt.Errorf("use key %s: no rotation to it is under way here", id)
	}
	return Ring{slices.Concat(r.Keys[i:i+1], r.Keys[:i], r.Keys[i+1:]), id}, nil
}

// Only is the third step: all other keys are forgotten.
func (r Ring) Only(id KeyID) (Ring, error) {
	switch i := r.index(id); {
	case i == 0 && len(r.Keys) == 1:
		return Ring{Keys: r.Keys}, nil
	case i != 0 || r.Next != id:
		return r, fmt.Errorf("drop all but key %s: it is not in use here", id)
	}
	return Ring{Keys: slices.Clone(r.Keys[:1])}, nil
}

// Key returns the key of that name.
func (r Ring) Key(id KeyID) (Key, bool) {
	if i := r.index(id); i >= 0 {
		return r.Keys[i], true
	}
	return Key{}, false
}

// IDs returns the names of the keys, in their order.
func (r Ring) IDs() []KeyID {
	ids := make([]KeyID, len(r.Keys))
	for i, k := range r.Keys {
		ids[i] = k.ID()
	}
	return ids
}

func (r Ring) index(id KeyID) int { return slices.Index(r.IDs(), id) }

// Equal says whether two rings are the same.
func (r Ring) Equal(other Ring) bool {
	return r.Next == other.Next && slices.Equal(r.Keys, other.Keys)
}

// ReadRing reads a key file. It refuses one that others than its owner can read or write.
func ReadRing(path string) (Ring, error) {
	data, err := readSecret(path)
	if err != nil {
		return Ring{}, fmt.Errorf("key file: %w", err)
	}
	ring, err := parseRing(string(data))
	if err != nil {
		return Ring{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return ring, nil
}

func parseRing(text string) (Ring, error) {
	keys, err := ParseKeys(strings.NewReader(text))
	ring := Ring{Keys: keys}
	if err != nil {
		return ring, err
	}
	for line := range strings.Lines(text) {
		word, ok := strings.CutPrefix(strings.TrimSpace(line), nextComment)
		var next KeyID
		// a key that somebody took out of the file by hand is not waited for
		if ok && next.UnmarshalText([]byte(word)) == nil && ring.index(next) >= 0 {
			ring.Next = next
		}
	}
	return ring, nil
}

// Write replaces a key file in one step. Only its owner can read it.
func (r Ring) Write(path string) error {
	var text strings.Builder
	if r.Next != (KeyID{}) {
		fmt.Fprintf(&text, "%s%s\n", nextComment, r.Next)
	}
	for _, k := range r.Keys {
		fmt.Fprintln(&text, k.Text())
	}
	if err := replaceFile(path, []byte(text.String())); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}
