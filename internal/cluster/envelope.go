package cluster

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// envelopeVersion is the first byte of every message.
	envelopeVersion = 1
	// MaxMessage is the size of the largest message in bytes.
	MaxMessage = 4 << 20
	// envelopeContext separates signatures of messages from all others by the same key.
	envelopeContext = "lb message 1\x00"
)

// A kind says what a payload is.
type kind uint8

const (
	userMessage kind = iota
	challenge        // a number for the peer to repeat
	answer           // the number
	kindCount
)

// An envelope is what travels: a message for one life of one node, from one life of another.
type envelope struct {
	kind      kind
	cluster   string
	from, to  string
	fromLife  uint64
	toLife    uint64
	sequence  uint64 // grows with each message from that life to that node
	payload   []byte
	signed    []byte // all but the signature
	signature []byte
}

// seal returns the bytes of a signed envelope.
func (e *envelope) seal(key ed25519.PrivateKey) []byte {
	b := make([]byte, 0, 2+3*256+3*8+4+len(e.payload)+ed25519.SignatureSize)
	b = append(b, envelopeVersion, byte(e.kind))
	b = appendString8(b, e.cluster)
	b = appendString8(b, e.from)
	b = binary.BigEndian.AppendUint64(b, e.fromLife)
	b = appendString8(b, e.to)
	b = binary.BigEndian.AppendUint64(b, e.toLife)
	b = binary.BigEndian.AppendUint64(b, e.sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.payload)))
	b = append(b, e.payload...)
	return append(b, ed25519.Sign(key, append([]byte(envelopeContext), b...))...)
}

// parseEnvelope takes bytes apart and believes nothing of them. What it returns shares their
// memory.
func parseEnvelope(b []byte) (*envelope, error) {
	r := reader{rest: b}
	if v := r.uint8(); r.err == nil && v != envelopeVersion {
		return nil, fmt.Errorf("version %d, want %d", v, envelopeVersion)
	}
	e := &envelope{kind: kind(r.uint8()), cluster: string(r.bytes8()), from: string(r.bytes8())}
	if e.kind >= kindCount {
		return nil, fmt.Errorf("kind %d", e.kind)
	}
	e.fromLife = r.uint64()
	e.to = string(r.bytes8())
	e.toLife = r.uint64()
	e.sequence = r.uint64()
	size := r.uint32()
	if size > MaxMessage {
		return nil, errors.New("too large")
	}
	e.payload = r.take(int(size))
	e.signed = b[:len(b)-len(r.rest)]
	e.signature = r.take(ed25519.SignatureSize)
	if r.err != nil {
		return nil, r.err
	}
	if len(r.rest) != 0 {
		return nil, errors.New("bytes after the signature")
	}
	return e, nil
}

// signedBy says whether the holder of key made the envelope.
func (e *envelope) signedBy(key ed25519.PublicKey) bool {
	return ed25519.Verify(key, append([]byte(envelopeContext), e.signed...), e.signature)
}
