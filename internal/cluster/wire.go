package cluster

import (
	"encoding/binary"
	"errors"
)

// errShort is the one thing that can be wrong with a field.
var errShort = errors.New("ends too early")

// appendString8 appends a string of up to 255 bytes after its length.
func appendString8[T string | []byte](b []byte, s T) []byte {
	return append(append(b, byte(len(s))), s...)
}

// A reader takes fields off the front of bytes; after the first one that is not there all are
// empty, and err says so.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.err = errShort
		return nil
	}
	field := r.rest[:n:n]
	r.rest = r.rest[n:]
	return field
}

func (r *reader) uint8() (v uint8) {
	if b := r.take(1); b != nil {
		v = b[0]
	}
	return v
}

func (r *reader) uint32() (v uint32) {
	if b := r.take(4); b != nil {
		v = binary.BigEndian.Uint32(b)
	}
	return v
}

func (r *reader) uint64() (v uint64) {
	if b := r.take(8); b != nil {
		v = binary.BigEndian.Uint64(b)
	}
	return v
}

func (r *reader) bytes8() []byte { return r.take(int(r.uint8())) }
