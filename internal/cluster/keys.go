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

// ReadKeys returns the keys of a key file; see ReadRing.
func ReadKeys(path string) ([]Key, error) {
	ring, err := ReadRing(path)
	return ring.Keys, err
}

// WriteKeys replaces a key file in one step; see Ring.Write.
func WriteKeys(path string, keys []Key) error { return Ring{Keys: keys}.Write(path) }

// Text returns the key as a key file holds it. It is the secret itself.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

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
