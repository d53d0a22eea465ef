package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
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

// News returns up to so many notes about what the programs noted since the last call, and more only when
// some were missed. It does not wait.
func (d *Datapath) News(most int) ([]Note, error) {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return nil, nil
	}
	if d.news == nil {
		reader, err := ringbuf.NewReader(d.maps.maps["news"])
		if err != nil {
			return nil, fmt.Errorf("read news: %w", err)
		}
		d.news = reader
	}
	var notes []Note
	if d.news.AvailableBytes() > 0 {
		var err error
		if notes, err = d.maps.readNews(d.news, most); err != nil {
			return nil, err
		}
	}
	missed, err := d.missedNews(Monotonic())
	return append(notes, missed...), err
}

// missedNews are about all flows that came by lately when there was no room for news of some, as may be
// found out once in a while.
func (d *Datapath) missedNews(now time.Duration) ([]Note, error) {
	untold := atomic.LoadUint64(&d.maps.published().Untold)
	if untold == d.untold || now-d.missedAt < missedEvery {
		return nil, nil
	}
	d.untold, d.missedAt = untold, now
	return d.maps.notes(2 * missedEvery)
}

func (s *mapSet) readNews(reader *ringbuf.Reader, most int) ([]Note, error) {
	owners, err := s.regionOwners()
	if err != nil {
		return nil, err
	}
	reader.SetDeadline(time.Now())
	var notes []Note
	var record ringbuf.Record
	for len(notes) < most {
		err := reader.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read news: %w", err)
		}
		note, ok, err := s.newsNote(owners, record.RawSample)
		if err != nil {
			return nil, err
		}
		if ok {
			notes = append(notes, note)
		}
	}
	return notes, nil
}

func (s *mapSet) newsNote(owners map[uint32]regionOwner, sample []byte) (Note, bool, error) {
	if len(sample) >= 8 && NoteKind(binary.NativeEndian.Uint64(sample)) == NoteSource {
		return s.newsSource(owners, sample)
	}
	var item lbNewsNoted
	if _, err := binary.Decode(sample, binary.NativeEndian, &item); err != nil {
		return Note{}, false, fmt.Errorf("decode news: %w", err)
	}
	key, value := lbNotedFlow(item.Flow), lbNoted(item.Noted)
	note, ok := s.flowNote(owners, &key, &value, Monotonic())
	return note, ok, nil
}

// Notes returns all that others should know: of flows that came by here within some time, or of all
// when it is 0.
func (d *Datapath) Notes(within time.Duration) ([]Note, error) {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return nil, nil
	}
	return d.maps.notes(within)
}

func (s *mapSet) notes(within time.Duration) ([]Note, error) {
	owners, err := s.regionOwners()
	if err != nil {
		return nil, err
	}
	now := Monotonic()
	var notes []Note
	err = s.eachNoted(func(key *lbNotedFlow, value *lbNoted) {
		if _, ok := s.exception(owners, key, value, now); !ok || within > 0 && now-time.Duration(value.SeenNs) > within {
			return
		}
		if note, ok := s.flowNote(owners, key, value, now); ok {
			notes = append(notes, note)
		}
	})
	if err != nil {
		return nil, err
	}
	sourced, err := s.sourceNotes(owners, within)
	return append(notes, sourced...), err
}

// Take makes what another director told part of the memory here. What was seen here just now counts for
// more; what has no room, or is about what is not served here, is left out.
func (d *Datapath) Take(notes []Note) error {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return nil
	}
	owners, err := d.maps.regionOwners()
	if err != nil {
		return err
	}
	t := taker{set: d.maps, now: Monotonic(), regions: make(map[servedAt]uint32, len(owners)), places: make(map[placeOf]uint16)}
	t.vips = d.maps.vipScopes()
	t.pools = make(map[uint32]uint32)
	for region, owner := range owners {
		t.regions[servedAt{owner.service, owner.vip}] = region
		if owner.scheduled {
			t.pools[region] = owner.pool
		}
		for place, e := range d.maps.backends.items[int(region)*int(lbLimitsBACKENDS):][:lb.MaxBackends] {
			if e.Ifindex != 0 {
				t.places[placeOf{region, netip.AddrPortFrom(address(e.AddrHi, e.AddrLo), e.Port)}] = uint16(place)
			}
		}
	}
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
	value := lbNoted{SeenNs: before.SeenNs, HeardNs: max(before.HeardNs, uint64(max(1, t.now-n.silent))), Slot: uint32(n.slot), Place: place, Flags: n.flags}
	if before.Place == place {
		value.Flags |= before.Flags
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

// count adds to the connections of a backend, if its service has them counted.
func (t *taker) count(key *lbNotedFlow, value *lbNoted, n int) {
	pool, scheduled := t.pools[key.Region]
	if !scheduled || key.Protocol == uint8(lbNotedProtocolNOTED_CLIENT) || value.Flags&uint16(lbNotedFlagsNOTED_CLOSING) != 0 {
		return
	}
	load := &t.set.loads.items[pool*uint32(lbLimitsBACKENDS)+uint32(value.Place)]
	atomic.AddUint64(&load.Open, uint64(n))
}
