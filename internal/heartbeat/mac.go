package heartbeat

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

const (
	macSize  = 16
	macLabel = "lb heartbeat 1" // keeps this use of the cluster's key apart from all others
)

// A signer makes and checks MACs: HMAC-SHA256, cut to 16 bytes. Its keys come from the cluster's
// by HKDF (RFC 5869).
type signer struct {
	keys [][]byte // the first makes, all check
}

// newSigner derives the keys; none means that the MAC is only a checksum.
func newSigner(secrets [][]byte) (*signer, error) {
	s := new(signer)
	if len(secrets) == 0 {
		secrets = [][]byte{[]byte("insecure")}
	}
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, macLabel, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive key: %w", err)
		}
		s.keys = append(s.keys, key)
	}
	return s, nil
}

// sign appends the MAC.
func (s *signer) sign(body []byte) []byte { return append(body, sum(s.keys[0], body)...) }

// verify says whether one of the keys made the MAC.
func (s *signer) verify(body, mac []byte) bool {
	ok := false
	for _, key := range s.keys {
		ok = hmac.Equal(sum(key, body), mac) || ok
	}
	return ok
}

func sum(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(body)
	return h.Sum(nil)[:macSize]
}
