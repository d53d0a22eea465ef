package ownership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// Limits of what is read from the network.
const (
	maxName      = 255
	maxRecords   = 1024 // nodes that were ever heard of, the dead included
	maxDomains   = 1024
	maxSignature = 255
)

// Every message begins with the version of the encoding and its kind.
const wireVersion = 1

const (
	kindState = iota
	kindOpinion
	kindMaybe
	kindOffer
	kindTaken
	kindRefused
	kindReleased
	kindClaim
	kindGrant
	kindAbsent
	kindAbsentGranted
)

// MarshalBinary implements Message.
func (m State) MarshalBinary() ([]byte, error) {
	b := header(kindState, m.Life, m.Number, m.Knowledge, uint64(m.Side.Members), m.Side.Lineage.Life)
	b = appendString(appendString(b, m.Side.Lineage.Founder), m.Side.First)
	b = binary.AppendUvarint(b, uint64(len(m.Records)))
	for i := range m.Records {
		r := &m.Records[i]
		b = r.appendSigned(b)
		b = append(b, flag(r.Dead))
		b = appendBytes(b, r.Signature)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Absences)))
	for _, a := range m.Absences {
		b = appendString(b, a.Name)
		b = binary.AppendUvarint(b, a.Life)
		b = binary.AppendUvarint(b, a.Number)
		b = binary.AppendUvarint(b, uint64(max(a.For, 0)))
	}
	return b, nil
}

// MarshalBinary implements Message.
func (m Opinion) MarshalBinary() ([]byte, error) {
	b := header(kindOpinion, m.Life, m.Number)
	b = binary.AppendUvarint(b, uint64(len(m.Silent)))
	for _, ref := range m.Silent {
		b = appendString(b, ref.Name)
		b = binary.AppendUvarint(b, ref.Life)
	}
	return b, nil
}

// MarshalBinary implements Message.
func (m Maybe) MarshalBinary() ([]byte, error) {
	return m.append(header(kindMaybe, m.Life)), nil
}

// MarshalBinary implements Message.
func (m Offer) MarshalBinary() ([]byte, error) {
	b := appendParts(header(kindOffer, m.Life, m.To, m.Number, m.Knowledge), m.Parts)
	b = binary.AppendUvarint(b, uint64(len(m.Others)))
	for _, w := range m.Others {
		b = appendString(b, w.Name)
		b = binary.AppendUvarint(b, w.Life)
		b = binary.AppendUvarint(b, w.Number)
		b = appendParts(b, w.Parts)
	}
	return b, nil
}

// MarshalBinary implements Message.
func (m Taken) MarshalBinary() ([]byte, error) {
	return header(kindTaken, m.Life, m.To, m.Number), nil
}

// MarshalBinary implements Message.
func (m Refused) MarshalBinary() ([]byte, error) {
	return m.Maybe.append(header(kindRefused, m.Life, m.To, m.Number)), nil
}

// MarshalBinary implements Message.
func (m Released) MarshalBinary() ([]byte, error) {
	return m.Maybe.append(header(kindReleased, m.Life, m.To, m.Number)), nil
}

// MarshalBinary implements Message.
func (m Claim) MarshalBinary() ([]byte, error) {
	return appendParts(header(kindClaim, m.Life, m.Number, m.Knowledge), m.Parts), nil
}

// MarshalBinary implements Message.
func (m Grant) MarshalBinary() ([]byte, error) {
	b := appendParts(header(kindGrant, m.Life, m.To, m.Number, m.Knowledge), m.Held)
	return m.Maybe.append(b), nil
}

// MarshalBinary implements Message.
func (m Absent) MarshalBinary() ([]byte, error) {
	return header(kindAbsent, m.Life, m.Number, uint64(max(m.For, 0))), nil
}

// MarshalBinary implements Message.
func (m AbsentGranted) MarshalBinary() ([]byte, error) {
	return header(kindAbsentGranted, m.Life, m.To, m.Number), nil
}

// append appends all but the life, which is the message's.
func (m Maybe) append(b []byte) []byte {
	return appendParts(appendParts(binary.AppendUvarint(b, m.Number), m.Parts), m.Kept)
}

func header(kind byte, numbers ...uint64) []byte {
	b := []byte{wireVersion, kind}
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendParts(b []byte, parts []Part) []byte {
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, p := range parts {
		b = appendSet(appendString(b, p.Domain), p.Set)
	}
	return b
}

// Unmarshal reads a message. It keeps nothing of b.
func Unmarshal(b []byte) (Message, error) {
	r := &reader{rest: b}
	if version := r.byte(); r.err == nil && version != wireVersion {
		return nil, fmt.Errorf("message of version %d, want %d", version, wireVersion)
	}
	kind := r.byte()
	m := r.message(kind)
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("message of kind %d: %w", kind, r.err)
	case len(r.rest) != 0:
		return nil, fmt.Errorf("message of kind %d: %d bytes too many", kind, len(r.rest))
	}
	return m, nil
}

func (r *reader) message(kind byte) Message {
	life := r.uint64()
	switch kind {
	case kindState:
		return State{life, r.uint64(), r.uint64(), r.side(), list(r, maxRecords, r.record), list(r, maxRecords, r.leave)}
	case kindOpinion:
		return Opinion{life, r.uint64(), list(r, maxRecords, func() Ref { return Ref{r.string(), r.uint64()} })}
	case kindMaybe:
		return r.maybe(life)
	case kindOffer:
		return Offer{life, r.uint64(), r.uint64(), r.uint64(), r.parts(), list(r, maxRecords, r.witnessed)}
	case kindTaken:
		return Taken{life, r.uint64(), r.uint64()}
	case kindRefused:
		return Refused{life, r.uint64(), r.uint64(), r.maybe(life)}
	case kindReleased:
		return Released{life, r.uint64(), r.uint64(), r.maybe(life)}
	case kindClaim:
		return Claim{life, r.uint64(), r.uint64(), r.parts()}
	case kindGrant:
		return Grant{life, r.uint64(), r.uint64(), r.uint64(), r.parts(), r.maybe(life)}
	case kindAbsent:
		return Absent{life, r.uint64(), r.duration()}
	case kindAbsentGranted:
		return AbsentGranted{life, r.uint64(), r.uint64()}
	}
	r.fail(errors.New("unknown kind"))
	return nil
}

func (r *reader) record() Record {
	record := Record{Name: r.string(), Life: r.uint64(), Version: r.uint64(), Stage: Stage(r.byte())}
	flags := r.byte()
	record.Waiting, record.Leaving = flags&1 != 0, flags&2 != 0
	record.Lineage = Lineage{r.uint64(), r.string()}
	if fixed := r.take(8); r.err == nil {
		record.Config = binary.BigEndian.Uint64(fixed)
	}
	for n := r.uvarint(maxDomains); n > 0 && r.err == nil; n-- {
		if record.Weights == nil {
			record.Weights = make(map[string]Weight)
		}
		domain := r.string()
		record.Weights[domain] = r.weight()
	}
	record.Meta = r.bytes(MaxMeta)
	record.Dead = r.bool()
	record.Signature = r.bytes(maxSignature)
	if record.Name == "" || record.Stage >= stageCount || flags > 3 {
		r.fail(errors.New("malformed record"))
	}
	return record
}

// weight reads what appendSigned writes. A domain that is spread is written as it was before there were
// others.
func (r *reader) weight() Weight {
	w := Weight{Weight: r.uvarint(lb.MaxWeight)}
	flags := r.byte()
	w.Healthy, w.MinNodes = flags&1 != 0, r.uvarint(lb.MaxNodes)
	if flags > 3 {
		r.fail(errors.New("malformed weight"))
	}
	if flags&2 != 0 {
		w.Whole = Whole{Is: true, Priority: r.uvarint(MaxPriority), Stay: r.bool(), Choice: Choice{r.uint64(), r.string()}}
	}
	return w
}

func (w Whole) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(w.Priority))
	b = append(b, flag(w.Stay))
	b = binary.AppendUvarint(b, w.Choice.Number)
	return appendString(b, w.Choice.Node)
}

func (r *reader) maybe(life uint64) Maybe { return Maybe{life, r.uint64(), r.parts(), r.parts()} }

func (r *reader) side() Side {
	return Side{r.uvarint(maxRecords), Lineage{r.uint64(), r.string()}, r.string()}
}

func (r *reader) leave() Leaves {
	return Leaves{r.string(), r.uint64(), r.uint64(), r.duration()}
}

func (r *reader) witnessed() Witnessed {
	return Witnessed{r.string(), r.uint64(), r.uint64(), r.parts()}
}

func (r *reader) parts() []Part {
	return list(r, maxDomains, func() Part { return Part{r.string(), r.set()} })
}

// list reads a number and as many items. It allocates only for what is there.
func list[T any](r *reader, limit int, item func() T) []T {
	var items []T
	for n := r.uvarint(limit); n > 0 && r.err == nil; n-- {
		items = append(items, item())
	}
	return items
}

// A reader takes values from the front of bytes. After an error it returns zero values.
type reader struct {
	rest []byte
	err  error
}

var errShort = errors.New("too short")

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.fail(errShort)
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); r.err == nil {
		return b[0]
	}
	return 0
}

func (r *reader) bool() bool {
	b := r.byte()
	if b > 1 {
		r.fail(errors.New("neither true nor false"))
	}
	return b == 1
}

func (r *reader) uint64() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || r.err != nil {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// uvarint reads a number of at most limit.
func (r *reader) uvarint(limit int) int {
	n := r.uint64()
	if n > uint64(limit) {
		r.fail(fmt.Errorf("%d, at most %d", n, limit))
		return 0
	}
	return int(n)
}

func (r *reader) duration() time.Duration { return time.Duration(r.uvarint(int(Forever))) }

func (r *reader) string() string { return string(r.take(r.uvarint(maxName))) }

func (r *reader) bytes(limit int) []byte {
	if b := r.take(r.uvarint(limit)); len(b) > 0 {
		return append([]byte(nil), b...)
	}
	return nil
}
