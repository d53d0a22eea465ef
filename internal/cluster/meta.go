package cluster

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const (
	metaVersion = 1
	metaContext = "lb node 1\x00"
	// MaxMeta is the size of Options.Meta in bytes: memberlist carries 512 with each node.
	MaxMeta = 255
	// MaxVersion is the size of Options.Version in bytes.
	MaxVersion = 32
)

// A nodeMeta is what a node says about itself in gossip, signed.
type nodeMeta struct {
	life    uint64
	key     ed25519.PublicKey
	version string // of the program
	extra   []byte // the user's
}

// seal returns the bytes of a signed nodeMeta. The name and the address are signed, too: gossip
// carries them beside it.
func (m nodeMeta) seal(cluster, name string, addr netip.AddrPort, key ed25519.PrivateKey) []byte {
	b := binary.BigEndian.AppendUint64([]byte{metaVersion}, m.life)
	b = append(b, m.key...)
	b = appendString8(b, m.version)
	b = appendString8(b, m.extra)
	return append(b, ed25519.Sign(key, metaSigned(cluster, name, addr, b))...)
}

// openMeta returns what a node says about itself, if it says so itself: whose key it is has to be
// judged by the caller.
func openMeta(b []byte, cluster, name string, addr netip.AddrPort) (nodeMeta, error) {
	r := reader{rest: b}
	if v := r.uint8(); r.err == nil && v != metaVersion {
		return nodeMeta{}, fmt.Errorf("version %d, want %d", v, metaVersion)
	}
	m := nodeMeta{life: r.uint64(), key: r.take(ed25519.PublicKeySize), version: string(r.bytes8()), extra: r.bytes8()}
	body := b[:len(b)-len(r.rest)]
	signature := r.take(ed25519.SignatureSize)
	switch {
	case r.err != nil:
		return nodeMeta{}, r.err
	case len(r.rest) != 0:
		return nodeMeta{}, errors.New("bytes after the signature")
	case !ed25519.Verify(m.key, metaSigned(cluster, name, addr, body), signature):
		return nodeMeta{}, errors.New("bad signature")
	}
	m.key, m.extra = append(ed25519.PublicKey(nil), m.key...), append([]byte(nil), m.extra...)
	return m, nil
}

func metaSigned(cluster, name string, addr netip.AddrPort, body []byte) []byte {
	b := []byte(metaContext)
	b = appendString8(b, cluster)
	b = appendString8(b, name)
	b = appendString8(b, addr.String())
	return append(b, body...)
}
