package demo

import (
	"path/filepath"

	gossip "github.com/lbctl/lbctl/internal/cluster"
)

func keyFile() string { return filepath.Join(workDir, "cluster.key") }

// makeKey writes the secret that the members share.
func makeKey() error {
	return gossip.WriteKeys(keyFile(), []gossip.Key{gossip.GenerateKey()})
}
