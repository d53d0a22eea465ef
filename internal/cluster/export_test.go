package cluster

import (
	"crypto/ed25519"
	"net/netip"
)

// Seal makes a message as a node would.
func Seal(cluster, from string, fromLife uint64, to string, toLife, sequence uint64, payload []byte, key ed25519.PrivateKey) []byte {
	e := envelope{cluster: cluster, from: from, fromLife: fromLife, to: to, toLife: toLife, sequence: sequence, payload: payload}
	return e.seal(key)
}

// SealMeta makes what a node says about itself.
func SealMeta(cluster, name string, life uint64, addr netip.AddrPort, key ed25519.PrivateKey) []byte {
	return nodeMeta{life: life, key: key.Public().(ed25519.PublicKey)}.seal(cluster, name, addr, key)
}
