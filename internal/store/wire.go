package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// wireVersion is the first byte of a message.
const wireVersion = 1

// What follows the stamp in an encoded entry.
const (
	flagValue   = 0
	flagDeleted = 1
)

// Encode returns entries, which have to be in ascending order of their keys as [Store.Entries]
// returns them, as one message:
//
//	version 1 | number of entries
//	each: key | stamp, 8 bytes | node | 0 = value follows, 1 = deleted | value
//
// Numbers and the lengths before texts and values are unsigned varints, the stamp is big-endian.
func Encode(entries []Entry) []byte {
	msg := binary.AppendUvarint([]byte{wireVersion}, uint64(len(entries)))
	for _, e := range entries {
		msg = appendEntry(msg, e)
	}
	return msg
}

// Decode reads a message. Every list of entries has one encoding and anything else is refused, so
// nothing can hide in a message: no trailing bytes, no second value for a key, no long varints.
func Decode(msg []byte) ([]Entry, error) {
	if len(msg) == 0 || msg[0] != wireVersion {
		return nil, errors.New("decode entries: not a message of this version")
	}
	r := reader{rest: msg[1:]}
	entries := make([]Entry, 0, r.number(maxMerged)) // bounded by what a store takes
	for range cap(entries) {
		e := r.entry()
		if r.err != nil {
			break
		}
		if n := len(entries); n > 0 && e.Key <= entries[n-1].Key {
			return nil, fmt.Errorf("decode entries: key %s after %s", e.Key, entries[n-1].Key)
		}
		entries = append(entries, e)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%d bytes after the last entry", len(r.rest))
	}
	if r.err != nil {
		return nil, fmt.Errorf("decode entries: %w", r.err)
	}
	return entries, nil
}

func appendEntry(msg []byte, e Entry) []byte {
	return appendBody(appendBytes(msg, []byte(e.Key)), e)
}

// appendBody writes all but the key.
func appendBody(msg []byte, e Entry) []byte {
	msg = binary.BigEndian.AppendUint64(msg, uint64(e.Stamp))
	msg = appendBytes(msg, []byte(e.Node))
	if e.Deleted {
		return append(msg, flagDeleted)
	}
	return appendBytes(append(msg, flagValue), e.Value)
}

func appendBytes(msg, b []byte) []byte {
	return append(binary.AppendUvarint(msg, uint64(len(b))), b...)
}

var errShort = errors.New("message ends early")

// A reader takes values off the front of a message. After an error it returns zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) entry() Entry {
	key := string(r.bytes(MaxKey))
	return r.body(key)
}

func (r *reader) body(key string) Entry {
	e := Entry{Key: key}
	if b := r.take(8); b != nil {
		e.Stamp = Stamp(binary.BigEndian.Uint64(b))
	}
	e.Node = string(r.bytes(MaxNode))
	switch flag := r.take(1); {
	case flag == nil:
	case flag[0] == flagValue:
		e.Value = append([]byte{}, r.bytes(MaxValue)...) // the message is the caller's
	case flag[0] == flagDeleted:
		e.Deleted = true
	default:
		r.fail(fmt.Errorf("key %q: unknown flag %d", key, flag[0]))
	}
	if r.err == nil {
		r.fail(e.check())
	}
	return e
}

// number reads a varint of at most limit, in its shortest form.
func (r *reader) number(limit uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	switch {
	case r.err != nil:
		return 0
	case size == 0:
		r.fail(errShort)
		return 0
	case size < 0 || n > limit:
		r.fail(fmt.Errorf("a number is larger than %d", limit))
		return 0
	case size > 1 && n < 1<<(7*(size-1)):
		r.fail(errors.New("a number is longer than it has to be"))
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) bytes(limit int) []byte {
	return r.take(int(r.number(uint64(limit))))
}

// take returns the next n bytes, or nil when there are fewer.
func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.rest) {
		r.fail(errShort)
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
