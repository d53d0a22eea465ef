package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// identityFile holds the node's own key, below the state directory.
const identityFile = "node.key"

// loadIdentity reads the node's own key, or makes it at the first start. A file that cannot be
// used is an error, never replaced: the peers know this node by the key in it.
func loadIdentity(dir string) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, identityFile)
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(path)
	}
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("node key %s: not %d bytes in base64: restore it, or remove it and let the peers forget this node", path, ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func newIdentity(path string) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err == nil {
		err = replaceFile(path, []byte(base64.StdEncoding.EncodeToString(private.Seed())+"\n"))
	}
	if err != nil {
		return nil, fmt.Errorf("make node key: %w", err)
	}
	return private, nil
}
