package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// A Box is what a node gets new keys in. Gossip is encrypted with the old key, which may be rotated
// because somebody has it: who recorded the rotation and has the old key still does not learn the
// new one. Nothing of a Box outlives its process.
//
// Who a public half is from, and who sealed a key, is said by the signature of the message.
type Box struct{ private *ecdh.PrivateKey }

// NewBox returns a box of its own.
func NewBox() (*Box, error) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("box for keys: %w", err)
	}
	return &Box{private}, nil
}

// Public returns what others seal keys with: 32 bytes.
func (b *Box) Public() []byte { return b.private.PublicKey().Bytes() }

const publicSize = 32 // of X25519

// SealKey returns a key that only the box with that public half opens.
func SealKey(public []byte, key Key) ([]byte, error) {
	to, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	once, err := NewBox()
	if err != nil {
		return nil, err
	}
	seal, err := sealer(once.private, to, once.Public(), public)
	if err != nil {
		return nil, fmt.Errorf("seal key: %w", err)
	}
	return seal.Seal(once.Public(), make([]byte, seal.NonceSize()), key[:], nil), nil
}

// OpenKey returns what SealKey sealed for this box.
func (b *Box) OpenKey(sealed []byte) (Key, error) {
	if len(sealed) < publicSize {
		return Key{}, errors.New("open key: too short")
	}
	from, err := ecdh.X25519().NewPublicKey(sealed[:publicSize])
	if err != nil {
		return Key{}, fmt.Errorf("open key: %w", err)
	}
	seal, err := sealer(b.private, from, sealed[:publicSize], b.Public())
	if err != nil {
		return Key{}, fmt.Errorf("open key: %w", err)
	}
	key, err := seal.Open(nil, make([]byte, seal.NonceSize()), sealed[publicSize:], nil)
	if err != nil || len(key) != KeySize {
		return Key{}, errors.New("open key: not for this box")
	}
	return Key(key), nil
}

// sealer is made for one message: half of what it comes from is used once, so the nonce may be zero.
func sealer(private *ecdh.PrivateKey, public *ecdh.PublicKey, from, to []byte) (cipher.AEAD, error) {
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, err
	}
	secret, err := hkdf.Key(sha256.New, shared, nil, "lb cluster key 1\x00"+string(from)+string(to), KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
