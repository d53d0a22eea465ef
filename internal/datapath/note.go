package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// A NoteKind says what a Note is about.
type NoteKind uint8

// The kinds of notes: about flows of slots in transition and of services that
// remember all, and about established ones of full NAT.
const (
	NoteFlow   = NoteKind(lbNewsKindNEWS_NOTED)
	NoteSource = NoteKind(lbNewsKindNEWS_SOURCE)
)

// A Note is what one director tells others of its memory of flows. It is about names and addresses,
// which mean the same everywhere, so that any other may take over.
type Note struct {
	Kind       NoteKind
	Key, Value []byte
}

// seenLately is how long what a director sees itself counts for more than what others tell.
const seenLately = 2 * time.Second

// missedEvery is how often flows are looked for that there was no room for news of.
const missedEvery = time.Second

// News returns up to so many notes about what the programs noted since the last call. Of some there may
// have been no room for news: then Notes of what came by within missed has them. It does not wait.
func (d *Datapath) News(most int) (notes []Note, missed time.Duration, err error) {
	reader, missed, err := d.newsReader()
	if err != nil || reader == nil {
		return nil, missed, err
	}
	items, err := readNews(reader, most)
	if err != nil {
		return nil, 0, err
	}
	notes, err = d.newsNotes(items)
	return notes, missed, err
}

// newsReader returns what news are read from, nil when there are none, and whether some were missed, as may be
// found out once in a while.
func (d *Datapath) newsReader() (*ringbuf.Reader, time.Duration, error) {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return nil, 0, nil
	}
	if d.news == nil {
		reader, err := ringbuf.NewReader(d.maps.maps["news"])
		if err != nil {
			return nil, 0, fmt.Errorf("read news: %w", err)
		}
		d.news = reader
	}
	reader, missed := d.news, time.Duration(0)
	if now, untold := Monotonic(), atomic.LoadUint64(&d.maps.published().Untold); untold != d.untold && now-d.missedAt >= missedEvery {
		d.untold, d.missedAt, missed = untold, now, 2*missedEvery
	}
	if reader.AvailableBytes() == 0 {
		reader = nil
	}
	return reader, missed, nil
}

// A newsItem is a record of the ring buffer.
type newsItem struct {
	kind   NoteKind
	noted  lbNewsNoted
	source lbNewsSource
}

func readNews(reader *ringbuf.Reader, most int) ([]newsItem, error) {
	reader.SetDeadline(time.Now())
	var items []newsItem
	var record ringbuf.Record
	for len(items) < most {
		err := reader.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrClosed) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read news: %w", err)
		}
		item := newsItem{kind: NoteFlow}
		sample := record.RawSample
		if len(sample) >= 8 && NoteKind(binary.NativeEndian.Uint64(sample)) == NoteSource {
			item.kind = NoteSource
			_, err = binary.Decode(sample, binary.NativeEndian, &item.source)
		} else {
			_, err = binary.Decode(sample, binary.NativeEndian, &item.noted)
		}
		if err != nil {
			return nil, fmt.Errorf("decode news: %w", err)
		}
		items = append(items, item)
	}
	return items, nil
}

// newsNotes names what news are about.
func (d *Datapath) newsNotes(items []newsItem) (notes []Note, err error) {
	for some := range slices.Chunk(items, resolvedAtOnce) {
		err := d.resolve(func(s *mapSet) error {
			owners, err := s.regionOwners()
			if err != nil {
				return err
			}
			now := Monotonic()
			for i := range some {
				if note, ok := s.newsNote(owners, &some[i], now); ok {
					notes = append(notes, note)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return notes, nil
}

func (s *mapSet) newsNote(owners map[uint32]regionOwner, item *newsItem, now time.Duration) (Note, bool) {
	if item.kind == NoteSource {
		n := &item.source
		return s.sourceNote(owners, &sourceEntry{
			key: lbReturnKey(n.Key), returned: lbReturned(n.Returned), source: lbSource(n.Source), known: true,
		}, now)
	}
	key, value := lbNotedFlow(item.noted.Flow), lbNoted(item.noted.Noted)
	return s.flowNote(owners, &key, &value, now)
}

// Notes are all that others should know, a part at a time: of flows that came by here within some time, or of
// all when it is 0. No Set waits while it reads, nor between two parts.
func (d *Datapath) Notes(within time.Duration) iter.Seq2[[]Note, error] {
	return func(yield func([]Note, error) bool) {
		since := time.Duration(math.MinInt64) // some came by before the machine's clock began
		if within > 0 {
			since = Monotonic() - within
		}
		l, err := d.look()
		if err != nil {
			yield(nil, err)
		}
		if err != nil || l == nil {
			return
		}
		defer l.close()
		if l.flowNotes(since, yield) {
			l.sourceNotes(since, yield)
		}
	}
}

// flowNotes are about flows that came by here since some time; false when no more are wanted.
func (l *look) flowNotes(since time.Duration, yield func([]Note, error) bool) bool {
	for b, err := range batches[lbNotedFlow, lbNoted](l.maps["exceptions"]) {
		if err != nil {
			yield(nil, fmt.Errorf("read noted flows: %w", err))
			return false
		}
		var notes []Note
		now := Monotonic()
		err := l.each(len(b.keys), func(s *mapSet, i int) {
			key, value := &b.keys[i], &b.values[i]
			if time.Duration(value.SeenNs) < since {
				return
			}
			if _, ok := s.exception(l.owners, key, value, now); !ok {
				return
			}
			if note, ok := s.flowNote(l.owners, key, value, now); ok {
				notes = append(notes, note)
			}
		})
		if err != nil {
			yield(nil, err)
			return false
		}
		if len(notes) > 0 && !yield(notes, nil) {
			return false
		}
	}
	return true
}

// Take makes what another director told part of the memory here. What was seen here just now counts for
// more; what has no room, or is about what is not served here, is left out.
func (d *Datapath) Take(notes []Note) error {
	var t *taker
	for some := range slices.Chunk(notes, resolvedAtOnce) {
		err := d.resolve(func(s *mapSet) (err error) {
			if t == nil || t.set != s || t.written != d.written {
				if t, err = newTaker(s, d.written); err != nil {
					return err
				}
			}
			t.now = Monotonic()
			return t.take(some)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func newTaker(s *mapSet, written uint64) (*taker, error) {
	owners, err := s.regionOwners()
	if err != nil {
		return nil, err
	}
	t := &taker{
		set: s, written: written, regions: make(map[servedAt]uint32, len(owners)), pools: make(map[uint32]uint32),
		places: make(map[placeOf]uint16), vips: s.vipScopes(),
	}
	for region, owner := range owners {
		t.regions[servedAt{owner.service, owner.vip}] = region
		if owner.scheduled {
			t.pools[region] = owner.pool
		}
		for place, e := range s.backends.items[int(region)*int(lbLimitsBACKENDS):][:lb.MaxBackends] {
			if e.Ifindex != 0 {
				t.places[placeOf{region, netip.AddrPortFrom(address(e.AddrHi, e.AddrLo), e.Port)}] = uint16(place)
			}
		}
	}
	return t, nil
}

func (t *taker) take(notes []Note) error {
	for i := range notes {
		var err error
		switch notes[i].Kind {
		case NoteFlow:
			err = t.flow(&notes[i])
		case NoteSource:
			err = t.source(&notes[i])
		default: // of a newer version
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A taker finds numbers for names.
type taker struct {
	set     *mapSet
	written uint64
	now     time.Duration
	regions map[servedAt]uint32
	pools   map[uint32]uint32 // by region, of services that remember all flows
	places  map[placeOf]uint16
	vips    map[netip.Addr]uint16 // their scopes
}

type servedAt struct {
	service string
	vip     netip.Addr
}

type placeOf struct {
	region  uint32
	backend netip.AddrPort
}

// A flowNote is what a Note of the kind NoteFlow says. Without a backend the flow is forgotten.
type flowNote struct {
	service       string
	remote, local netip.AddrPort
	protocol      lb.Protocol
	slot          int
	backend       netip.AddrPort
	silent        time.Duration // to a second
	flags         uint16        // lbNotedFlags
}

// The lengths of what a note consists of: two ends and a protocol before the name of the service; a
// slot, a backend, seconds and flags.
const (
	endLength       = 16 + 2
	flowKeyLength   = 2*endLength + 1
	flowValueLength = 4 + endLength + 4 + 2
)

// flowNote names what an entry is about; false when it is about nothing that is served.
func (s *mapSet) flowNote(owners map[uint32]regionOwner, key *lbNotedFlow, value *lbNoted, now time.Duration) (Note, bool) {
	owner, ok := owners[key.Region]
	if !ok || value.Slot >= uint32(lbLimitsSLOTS) {
		return Note{}, false
	}
	n := flowNote{
		service: owner.service, protocol: lb.Protocol(key.Protocol), slot: int(value.Slot),
		remote: netip.AddrPortFrom(address(key.SrcHi, key.SrcLo), key.SrcPort), local: netip.AddrPortFrom(owner.vip, key.DstPort),
		silent: max(0, now-value.spoke()), flags: value.Flags,
	}
	if uint32(value.Place) == uint32(lbSlotLayoutSLOT_NOBODY) {
		return n.encode(), true
	}
	if uint32(value.Place) >= uint32(lbLimitsBACKENDS) {
		return Note{}, false
	}
	place := &s.backends.items[key.Region*uint32(lbLimitsBACKENDS)+uint32(value.Place)]
	n.backend = netip.AddrPortFrom(address(place.AddrHi, place.AddrLo), place.Port)
	return n.encode(), place.AddrHi|place.AddrLo != 0
}

func (n *flowNote) encode() Note {
	key := appendEnd(appendEnd(make([]byte, 0, flowKeyLength+len(n.service)), n.remote), n.local)
	key = append(append(key, byte(n.protocol)), n.service...)
	value := binary.BigEndian.AppendUint32(make([]byte, 0, flowValueLength), uint32(n.slot))
	value = binary.BigEndian.AppendUint32(appendEnd(value, n.backend), uint32(n.silent/time.Second))
	value = binary.BigEndian.AppendUint16(value, n.flags)
	return Note{NoteFlow, key, value}
}

var errNote = errors.New("a note that is too short")

func decodeFlowNote(note *Note) (n flowNote, err error) {
	key, value := note.Key, note.Value
	if len(key) < flowKeyLength || len(value) < flowValueLength {
		return n, errNote
	}
	n.remote, n.local, n.protocol = end(key), end(key[endLength:]), lb.Protocol(key[2*endLength])
	n.service = string(key[flowKeyLength:])
	n.slot, n.backend = int(binary.BigEndian.Uint32(value)), end(value[4:])
	n.silent = time.Duration(binary.BigEndian.Uint32(value[4+endLength:])) * time.Second
	n.flags = binary.BigEndian.Uint16(value[4+endLength+4:])
	return n, nil
}

// appendEnd writes an address, if it is one, and its port.
func appendEnd(b []byte, end netip.AddrPort) []byte {
	var addr [16]byte
	if end.Addr().IsValid() {
		addr = end.Addr().As16()
	}
	return binary.BigEndian.AppendUint16(append(b, addr[:]...), end.Port())
}

func end(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])).Unmap(), binary.BigEndian.Uint16(b[16:]))
}

// flow notes a flow, or forgets it.
func (t *taker) flow(note *Note) error {
	n, err := decodeFlowNote(note)
	if err != nil {
		return err
	}
	region, served := t.regions[servedAt{n.service, n.local.Addr()}]
	forgotten := n.backend.Addr().IsUnspecified()
	place, known := t.places[placeOf{region, n.backend}]
	if !served || !forgotten && !known || n.slot < 0 || n.slot >= lb.Slots {
		return nil
	}
	if pool := t.pools[region]; uint8(n.protocol) == uint8(lbNotedProtocolNOTED_CLIENT) {
		region = pool
	}
	key := lbNotedFlow{Region: region, SrcPort: n.remote.Port(), DstPort: n.local.Port(), Protocol: uint8(n.protocol)}
	key.SrcHi, key.SrcLo = flowhash.Halves(n.remote.Addr())
	m, update := t.set.maps["exceptions"], ebpf.UpdateAny
	var before lbNoted
	switch err := m.Lookup(&key, &before); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		update = ebpf.UpdateNoExist // the program may be quicker
	case err != nil:
		return fmt.Errorf("look for a noted flow: %w", err)
	case (forgotten || before.Place != place) && t.now-time.Duration(before.SeenNs) < seenLately:
		return nil
	}
	if forgotten {
		if err := m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a noted flow: %w", err)
		}
		t.count(&key, &before, -1)
		return nil
	}
	heard := uint64(max(1, t.now-n.silent))
	value := lbNoted{SeenNs: before.SeenNs, HeardNs: max(before.HeardNs, heard), SinceNs: heard, Slot: uint32(n.slot), Place: place, Flags: n.flags}
	if update == ebpf.UpdateAny && before.Place == place {
		value.join(&before, n.silent >= t.now-time.Duration(before.SeenNs))
	}
	switch err := m.Update(&key, &value, update); {
	case errors.Is(err, unix.E2BIG):
		atomic.AddUint64(&t.set.published().Unnoted, 1)
	case err != nil && !errors.Is(err, ebpf.ErrKeyExist):
		return fmt.Errorf("note a flow: %w", err)
	case err == nil:
		if update == ebpf.UpdateAny {
			t.count(&key, &before, -1)
		}
		t.count(&key, &value, 1)
	}
	return nil
}

// join adds what is known of a flow already to what is told of it. Who saw it last knows whether it is closed.
func (n *lbNoted) join(before *lbNoted, sawLast bool) {
	const closed = uint16(lbNotedFlagsNOTED_CLOSING | lbNotedFlagsNOTED_RESET)
	was := n.Flags & closed
	if sawLast {
		n.Flags |= before.Flags
	} else {
		n.Flags |= before.Flags &^ closed
	}
	if was == before.Flags&closed {
		n.SinceNs = before.SinceNs
	}
}

// count adds to the connections of a backend, if its service has them counted.
func (t *taker) count(key *lbNotedFlow, value *lbNoted, n int) {
	pool, scheduled := t.pools[key.Region]
	if !scheduled || !value.counts(key) {
		return
	}
	load := &t.set.loads.items[pool*uint32(lbLimitsBACKENDS)+uint32(value.Place)]
	atomic.AddUint64(&load.Open, uint64(n))
}
