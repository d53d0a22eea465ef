package heartbeat

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

const (
	// EtherType is the frames' own: IEEE 802's "local experimental 1".
	EtherType = 0x88b5

	frameVersion = 1
	maxHeard     = 64 // peers in a frame
	headerSize   = 1 + 2 + 8 + 8 + 8 + 4 + 1 + 1
	heardSize    = 8 + 4 + 1
	maxFrame     = headerSize + maxName + maxHeard*heardSize + macSize // 1,026 bytes: fits any link
)

// group is the address that frames are sent to.
var group = [6]byte(lb.NodesMAC())

// A frame is what a node says. On the wire, after the Ethernet header, all numbers big-endian:
//
//	 1  version
//	 2  length of everything from the version to the end of the MAC: links pad short frames
//	 8  cluster: a hash of its name
//	 8  life of the sender
//	 8  counter: grows with every frame of that life
//	 4  absence: milliseconds that the sender may stay silent from now on
//	 1  length of the name, and the name of the sender
//	 1  number of peers, and for each:
//	    8  a hash of its name
//	    4  the low half of its life
//	    1  1: heard lately, 0: not any more
//	16  MAC over all that
type frame struct {
	cluster uint64
	life    uint64
	counter uint64
	absence time.Duration // whole milliseconds
	name    string
	heard   []heard
}

// heard is what a node says about a peer.
type heard struct {
	id     uint64
	life   uint32
	lately bool
}

// encode returns the frame up to the MAC, with room for it.
func (f *frame) encode() []byte {
	size := headerSize + len(f.name) + len(f.heard)*heardSize + macSize
	b := append(make([]byte, 0, size), frameVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = binary.BigEndian.AppendUint64(b, f.cluster)
	b = binary.BigEndian.AppendUint64(b, f.life)
	b = binary.BigEndian.AppendUint64(b, f.counter)
	b = binary.BigEndian.AppendUint32(b, uint32(min(f.absence.Milliseconds(), math.MaxUint32)))
	b = append(append(b, byte(len(f.name))), f.name...)
	b = append(b, byte(len(f.heard)))
	for _, h := range f.heard {
		b = binary.BigEndian.AppendUint64(b, h.id)
		b = binary.BigEndian.AppendUint32(b, h.life)
		b = append(b, bit(h.lately))
	}
	return b
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

var errMalformed = errors.New("malformed frame")

// split returns a frame's bytes up to the MAC, and the MAC, without the padding behind it.
func split(b []byte) (body, mac []byte, err error) {
	if len(b) < headerSize+macSize || b[0] != frameVersion {
		return nil, nil, errMalformed
	}
	size := int(binary.BigEndian.Uint16(b[1:]))
	if size < headerSize+macSize || size > min(len(b), maxFrame) {
		return nil, nil, errMalformed
	}
	return b[:size-macSize], b[size-macSize : size], nil
}

// clusterOf returns which cluster a body, as split returns it, is from.
func clusterOf(body []byte) uint64 { return binary.BigEndian.Uint64(body[3:]) }

// parse reads a body, as split returns it.
func parse(body []byte) (*frame, error) {
	f := &frame{
		cluster: clusterOf(body),
		life:    binary.BigEndian.Uint64(body[11:]),
		counter: binary.BigEndian.Uint64(body[19:]),
		absence: time.Duration(binary.BigEndian.Uint32(body[27:])) * time.Millisecond,
	}
	rest := body[31:]
	n := int(rest[0])
	if n == 0 || n > maxName || len(rest) < 1+n+1 {
		return nil, errMalformed
	}
	f.name, rest = string(rest[1:1+n]), rest[1+n:]
	n, rest = int(rest[0]), rest[1:]
	if n > maxHeard || len(rest) != n*heardSize || f.life == 0 || f.counter == 0 {
		return nil, errMalformed
	}
	for ; n > 0; n-- {
		if rest[12] > 1 {
			return nil, errMalformed
		}
		f.heard = append(f.heard, heard{
			id: binary.BigEndian.Uint64(rest), life: binary.BigEndian.Uint32(rest[8:]), lately: rest[12] == 1,
		})
		rest = rest[heardSize:]
	}
	return f, nil
}

// hash shortens a name. The labels keep the two uses apart.
func hash(label, name string) uint64 {
	sum := sha256.Sum256([]byte(label + "\x00" + name))
	return binary.BigEndian.Uint64(sum[:])
}

func clusterID(name string) uint64 { return hash("lb heartbeat cluster", name) }

func nodeID(name string) uint64 { return hash("lb heartbeat node", name) }
