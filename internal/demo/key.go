package demo

import (
	"path/filepath"

	gossip "github.com/lbctl/lbctl/internal/cluster"
)

func (p place) keyFile() string { return filepath.Join(p.workDir, "cluster.key") }

// makeKey writes the secret that the members share.
func (p place) makeKey() error {
	return gossip.WriteKeys(p.keyFile(), []gossip.Key{gossip.GenerateKey()})
}
