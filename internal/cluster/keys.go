package cluster

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// KeySize is the length of a cluster key in bytes: AES-256.
const KeySize = 32

// A Key is a secret that all nodes of a cluster share. It does not show itself in logs.
type Key [KeySize]byte

// GenerateKey returns a random key.
func GenerateKey() Key {
	var k Key
	rand.Read(k[:]) // never fails: crypto/rand
	return k
}

// String hides the key.
func (k Key) String() string { return "cluster key" }

// GoString hides the key.
func (k Key) GoString() string { return "cluster key" }

// encode returns the key as a key file holds it.
func (k Key) encode() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ParseKeys reads the contents of a key file: one key per line, 32 bytes in base64. The first
// one encrypts, all of them decrypt. Empty lines and lines that start with # are ignored. Errors
// name the line and never quote it.
func ParseKeys(r io.Reader) ([]Key, error) {
	var keys []Key
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: not base64", n)
		}
		if len(raw) != KeySize {
			return nil, fmt.Errorf("line %d: %d bytes, want %d", n, len(raw), KeySize)
		}
		key := Key(raw)
		if slices.Contains(keys, key) {
			return nil, fmt.Errorf("line %d: the same key as before", n)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("no key")
	}
	return keys, nil
}

// ReadKeys reads a key file. It refuses one that others than its owner can read or write.
func ReadKeys(path string) ([]Key, error) {
	data, err := readSecret(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	keys, err := ParseKeys(strings.NewReader(string(data)))
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return keys, nil
}

// WriteKeys replaces a key file in one step. Only its owner can read it.
func WriteKeys(path string, keys []Key) error {
	var text strings.Builder
	for _, k := range keys {
		fmt.Fprintln(&text, k.encode())
	}
	if err := replaceFile(path, []byte(text.String())); err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	return nil
}

// The three steps of a rotation. Each is brought to all nodes before the next one begins; then no
// node ever meets a message that it cannot read.

// AddKey is the first step: every node learns to read the new key, none writes with it.
func AddKey(keys []Key, key Key) ([]Key, error) {
	if slices.Contains(keys, key) {
		return nil, errors.New("add key: it is there already")
	}
	return append(slices.Clone(keys), key), nil
}

// PromoteKey is the second step: the newest, which is the last, goes first. From now on this node
// writes with it.
func PromoteKey(keys []Key) ([]Key, error) {
	if len(keys) < 2 {
		return nil, errors.New("promote key: there is only one")
	}
	last := len(keys) - 1
	return slices.Concat(keys[last:], keys[:last]), nil
}

// DropKeys is the third step: all keys but the first are forgotten.
func DropKeys(keys []Key) ([]Key, error) {
	if len(keys) < 2 {
		return nil, errors.New("drop keys: there is only one")
	}
	return slices.Clone(keys[:1]), nil
}

// readSecret reads a file that must be its owner's alone.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what is read, whatever takes its name meanwhile
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %04o lets others in: chmod 600 it", path, mode)
	}
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
