package cluster

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// knownFile holds what we know of the peers, below the state directory.
	knownFile = "peers.json"
	// knownVersion changes when older programs would misread the file.
	knownVersion = 1
)

// known is the file: which key each name is bound to, and its newest life.
type known struct {
	Version int                  `json:"version"`
	Peers   map[string]knownPeer `json:"peers"`
}

type knownPeer struct {
	Key  ed25519.PublicKey `json:"key"`
	Life uint64            `json:"life"`
}

// loadKnown reads the file; there is none before the first peer was met. One that cannot be read
// is an error: to start without it would be to believe the first who comes.
func loadKnown(dir string) (known, error) {
	path := filepath.Join(dir, knownFile)
	k := known{Version: knownVersion, Peers: make(map[string]knownPeer)}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, nil
	case err != nil:
		return known{}, fmt.Errorf("known peers: %w", err)
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return known{}, fmt.Errorf("known peers %s: %w: restore it, or remove it to trust who comes first", path, err)
	}
	if k.Version != knownVersion {
		return known{}, fmt.Errorf("known peers %s: version %d, want %d", path, k.Version, knownVersion)
	}
	for name, p := range k.Peers {
		if len(p.Key) != ed25519.PublicKeySize {
			return known{}, fmt.Errorf("known peers %s: %s: key of %d bytes", path, name, len(p.Key))
		}
	}
	return k, nil
}

func (k known) save(dir string) error {
	data, err := json.MarshalIndent(k, "", "\t")
	if err == nil {
		err = replaceFile(filepath.Join(dir, knownFile), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save known peers: %w", err)
	}
	return nil
}
