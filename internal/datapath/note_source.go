package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// A sourceNote is what a Note of the kind NoteSource says: where an established flow of full NAT is.
type sourceNote struct {
	service       string
	remote, local netip.AddrPort
	protocol      lb.Protocol
	backend       netip.AddrPort // as configured
	target        uint16         // the port that the backend has it at
	source        uint16         // the port of the VIP that it leaves from
	flags         uint8          // enum returned_flags
	silent        time.Duration  // to a second
}

const sourceValueLength = endLength + 2 + 2 + 1 + 4

func (n *sourceNote) encode() Note {
	key := appendEnd(appendEnd(make([]byte, 0, flowKeyLength+len(n.service)), n.remote), n.local)
	key = append(append(key, byte(n.protocol)), n.service...)
	value := appendEnd(make([]byte, 0, sourceValueLength), n.backend)
	value = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(value, n.target), n.source)
	value = binary.BigEndian.AppendUint32(append(value, n.flags), uint32(n.silent/time.Second))
	return Note{NoteSource, key, value}
}

func decodeSourceNote(note *Note) (n sourceNote, err error) {
	key, value := note.Key, note.Value
	if len(key) < flowKeyLength || len(value) < sourceValueLength {
		return n, errNote
	}
	n.remote, n.local, n.protocol = end(key), end(key[endLength:]), lb.Protocol(key[2*endLength])
	n.service, n.backend, value = string(key[flowKeyLength:]), end(value), value[endLength:]
	n.target, n.source, n.flags = binary.BigEndian.Uint16(value), binary.BigEndian.Uint16(value[2:]), value[4]
	n.silent = time.Duration(binary.BigEndian.Uint32(value[5:])) * time.Second
	return n, nil
}

// sourceNote names what a flow is about; false when it is about nothing that is served.
func (s *mapSet) sourceNote(owners map[uint32]regionOwner, e *sourceEntry, now time.Duration) (Note, bool) {
	owner, ok := owners[e.returned.Region]
	if !ok || uint32(e.source.Place) >= uint32(lbLimitsBACKENDS) {
		return Note{}, false
	}
	place := &s.backends.items[e.returned.Region*uint32(lbLimitsBACKENDS)+uint32(e.source.Place)]
	n := sourceNote{
		service: owner.service, protocol: lb.Protocol(e.key.Protocol),
		remote:  netip.AddrPortFrom(address(e.returned.SrcHi, e.returned.SrcLo), e.returned.SrcPort),
		local:   netip.AddrPortFrom(owner.vip, e.returned.DstPort),
		backend: netip.AddrPortFrom(address(place.AddrHi, place.AddrLo), place.Port),
		target:  e.key.Port, source: e.key.Source, flags: e.returned.Flags, silent: max(0, now-e.spoke()),
	}
	return n.encode(), placeTag(place) == e.source.Tag
}

// sourceNotes are about the flows that came by here since some time.
func (l *look) sourceNotes(since time.Duration, yield func([]Note, error) bool) {
	entries, err := readSources(l.maps)
	if err != nil {
		yield(nil, err)
		return
	}
	for entries := range slices.Chunk(entries, readAtOnce) {
		var notes []Note
		now := Monotonic()
		err := l.each(len(entries), func(s *mapSet, i int) {
			if e := &entries[i]; e.known && e.seen() >= since {
				if note, ok := s.sourceNote(l.owners, e, now); ok {
					notes = append(notes, note)
				}
			}
		})
		if err != nil {
			yield(nil, err)
			return
		}
		if len(notes) > 0 && !yield(notes, nil) {
			return
		}
	}
}

// source takes what another director told of a flow of full NAT.
func (t *taker) source(note *Note) error {
	n, err := decodeSourceNote(note)
	if err != nil {
		return err
	}
	region, served := t.regions[servedAt{n.service, n.local.Addr()}]
	place, known := t.places[placeOf{region, n.backend}]
	scope, serves := t.vips[n.local.Addr()]
	if !served || !known || !serves || n.source < sourcePorts.First {
		return nil
	}
	e := sourceEntry{
		key: lbReturnKey{Port: n.target, Source: n.source, Scope: scope, Protocol: uint8(n.protocol)},
		returned: lbReturned{
			Region: region, SrcPort: n.remote.Port(), DstPort: n.local.Port(), Flags: n.flags, Place: place,
		},
	}
	e.key.AddrHi, e.key.AddrLo = flowhash.Halves(n.backend.Addr())
	e.returned.SrcHi, e.returned.SrcLo = flowhash.Halves(n.remote.Addr())
	flow := e.flow()
	if err := t.set.maps["sources"].Lookup(&flow, &e.source); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("look for a flow of full NAT: %w", err)
	}
	before := sourceEntry{key: e.key}
	switch err := t.set.maps["returns"].Lookup(&e.key, &before.returned); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
	case err != nil:
		return fmt.Errorf("look for a flow of full NAT: %w", err)
	case before.flow() == flow:
		e.returned.SeenNs = before.returned.SeenNs
		if time.Duration(before.returned.SeenNs) >= t.now-n.silent-time.Second { // silence is told to a second
			e.returned.Flags |= before.returned.Flags
		}
	case !before.isOver() && (n.protocol == lb.ProtocolTCP || t.now-before.seen() < seenLately):
		return nil // the port is another flow's
	default:
		if err := t.forgetSource(&before); err != nil {
			return err
		}
	}
	if t.now-e.seen() < seenLately {
		return nil
	}
	e.source.Place, e.source.Port = place, n.source
	e.source.Tag = placeTag(&t.set.backends.items[region*uint32(lbLimitsBACKENDS)+uint32(place)])
	e.source.HeardNs = max(e.source.HeardNs, uint64(max(1, t.now-n.silent)))
	return t.put(&e, &flow)
}

// forgetSource takes out where a flow is whose port another one has now.
func (t *taker) forgetSource(e *sourceEntry) error {
	flow, known := e.flow(), lbSource{}
	if err := t.set.maps["sources"].Lookup(&flow, &known); err != nil || known.Port != e.key.Source {
		return nil // it is at another port, or nowhere
	}
	if err := t.set.maps["sources"].Delete(&flow); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget a flow of full NAT: %w", err)
	}
	return nil
}

// put stores both entries of a flow, or none.
func (t *taker) put(e *sourceEntry, flow *lbNotedFlow) error {
	err := t.set.maps["returns"].Put(&e.key, &e.returned)
	if err == nil {
		if err = t.set.maps["sources"].Put(flow, &e.source); err != nil {
			_ = t.set.maps["returns"].Delete(&e.key)
		}
	}
	if errors.Is(err, unix.E2BIG) {
		atomic.AddUint64(&t.set.published().Unnoted, 1)
		return nil
	}
	if err != nil {
		return fmt.Errorf("take a flow of full NAT: %w", err)
	}
	return nil
}

// vipScopes are the numbers of the VIPs that are served.
func (s *mapSet) vipScopes() map[netip.Addr]uint16 {
	vips, _ := s.liveHalf()
	scopes := make(map[netip.Addr]uint16)
	for i := range vips {
		if v := &vips[i]; v.Scope != 0 {
			scopes[address(v.AddrHi, v.AddrLo)] = v.Scope
		}
	}
	return scopes
}
