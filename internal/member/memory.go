package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
)

const (
	newsEvery   = 20 * time.Millisecond               // between looks at what is new
	retellEvery = datapath.TellWithin - 5*time.Second // of flows that go on
	answerTime  = 2 * time.Second                     // after which a message without an answer is sent again, unless answers take longer
	wantEvery   = time.Second                         // between questions for all that a peer has, while it tells nothing
	settleTime  = 200 * time.Millisecond              // for which an offer of buckets waits, at most
	maxNews     = 16384                               // notes, from one look at what is new
	maxNotes    = 4096                                // in a message
	maxUnheard  = 4 << 20                             // bytes of news that wait for a peer's answers
	maxHeard    = 32                                  // messages that wait to be taken
	noteSizes   = 3                                   // bytes before a note: its kind, the lengths of key and value
	notesHeader = 9                                   // a number, and a part
)

// The parts of what a peer is told.
const (
	partNews  = 0 // what is new, or goes on
	partLast  = 1 // the last one of everything
	partOfAll = 2 // one before
)

// A memory keeps what directors remember of flows the same on all of them. What is new is told at once,
// what goes on again and again, and all of it to who comes, or asks.
type memory struct {
	opts  *Options
	post  func(to string, message []byte) error
	heard chan heardNotes
	flush chan chan struct{}

	// Of the goroutine of run:
	tellings []*telling
	retold   time.Time // when it was last asked for what goes on
	patient  time.Time // no telling begins before: there was nothing to be read

	mu    sync.Mutex
	peers map[string]*listener // those that are alive
}

// A listener is a peer that is told.
type listener struct {
	life     uint64
	number   uint64             // of the last message
	waiting  map[uint64]*untold // messages without an answer, by the numbers of their copies
	unheard  int                // bytes of news among them
	patience time.Duration      // until one is sent again
	due      demand             // for the next telling
	telling  *telling           // that tells it, nil if none does
	behind   int                // messages of that telling without an answer
	blocks   time.Time          // since when those are as many as may be
	late     time.Time          // when an offer went out that it did not know everything for
	want     bool               // it has not told everything yet
	asked    time.Time          // for it, or when it told some of it
}

// An untold is a message without an answer.
type untold struct {
	body    []byte
	copies  []sent
	telling *telling // nil for news
}

// A sent is a copy of a message: each has a number of its own, so that its answer says how long that takes.
type sent struct {
	number uint64
	at     time.Time
}

// heardNotes are a message that waits to be taken.
type heardNotes struct {
	from   string
	number uint64
	notes  []datapath.Note
}

func newMemory(opts *Options, post func(to string, message []byte) error) *memory {
	return &memory{
		opts: opts, post: post, heard: make(chan heardNotes, maxHeard), flush: make(chan chan struct{}), peers: make(map[string]*listener),
	}
}

// WantNotes asks all peers for what they remember: this node can take it from now on, or more of it than before.
func (m *Member) WantNotes() {
	m.memory.mu.Lock()
	defer m.memory.mu.Unlock()
	for _, p := range m.memory.peers {
		p.want, p.asked = true, time.Time{}
	}
}

// changed begins to tell a peer that came, or another life of it, and ends with one that went.
func (m *memory) changed(p cluster.Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.peers[p.Name]
	switch {
	case !p.Alive:
		delete(m.peers, p.Name)
	case known == nil || known.life != p.Life:
		m.peers[p.Name] = &listener{life: p.Life, waiting: make(map[uint64]*untold), patience: answerTime, due: everything}
	}
}

func (m *memory) run(ctx context.Context) error {
	look := time.NewTicker(newsEvery)
	defer look.Stop()
	again := time.NewTicker(retellEvery)
	defer again.Stop()
	defer func() {
		for _, r := range m.tellings {
			r.stop()
		}
	}()
	m.retold = time.Now()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case heard := <-m.heard:
			if err = m.opts.Take(heard.notes); err == nil {
				m.send(heard.from, kindNoted, binary.BigEndian.AppendUint64(nil, heard.number))
			}
		case done := <-m.flush:
			err = m.tellNews()
			close(done)
		case now := <-look.C:
			err = errors.Join(m.tellNews(), m.advance(now))
			m.repeat(now)
			m.ask(now)
		case now := <-again.C:
			m.demand(demand{wanted: true, since: m.retold.Add(-time.Second)})
			m.retold = now
		}
		if err != nil {
			m.opts.Log.Warn("what directors remember of flows may differ", "err", err)
		}
	}
}

// tellNews tells everybody what is new. What there was no room for is told as what came by lately.
func (m *memory) tellNews() error {
	notes, missed, err := m.opts.News(maxNews)
	if missed > 0 {
		m.demand(demand{wanted: true, since: time.Now().Add(-missed), fresh: true})
	}
	for some := range slices.Chunk(notes, maxNotes) {
		m.tell(encodeNotes(partNews, some))
	}
	return err
}

// tell tells everybody news. Who does not answer for so long that they become too many is told everything instead.
func (m *memory) tell(body []byte) {
	now := time.Now()
	var letters []numbered
	m.mu.Lock()
	for name, p := range m.peers {
		if p.unheard+len(body) > maxUnheard {
			maps.DeleteFunc(p.waiting, func(_ uint64, u *untold) bool { return u.telling == nil })
			p.unheard = 0
			p.due.add(everything)
			continue
		}
		p.unheard += len(body)
		letters = append(letters, p.send(name, &untold{body: body}, now))
	}
	m.mu.Unlock()
	m.sendAll(letters)
}

// demand has everybody told in a telling.
func (m *memory) demand(d demand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		p.due.add(d)
	}
}

// ask asks peers for everything, until they tell it.
func (m *memory) ask(now time.Time) {
	var names []string
	m.mu.Lock()
	for name, p := range m.peers {
		if p.want && now.Sub(p.asked) >= wantEvery {
			p.asked = now
			names = append(names, name)
		}
	}
	m.mu.Unlock()
	for _, name := range names {
		m.send(name, kindNoted, nil)
	}
}

const (
	maxRepeated = 16 // messages that are sent to a peer again at a time
	maxCopies   = 4  // of a message whose answers count
)

// repeat sends again what was not answered.
func (m *memory) repeat(now time.Time) {
	var letters []numbered
	m.mu.Lock()
	for name, p := range m.peers {
		repeated := 0
		for _, number := range slices.Sorted(maps.Keys(p.waiting)) {
			u := p.waiting[number]
			if last := u.copies[len(u.copies)-1]; repeated < maxRepeated && number == last.number && now.Sub(last.at) >= p.patience {
				repeated++
				letters = append(letters, p.send(name, u, now))
			}
		}
	}
	m.mu.Unlock()
	m.sendAll(letters)
}

// A numbered is a message with notes.
type numbered struct {
	to     string
	number uint64
	body   []byte
}

// send numbers a copy of a message to a peer, which is to answer it.
func (p *listener) send(name string, u *untold, now time.Time) numbered {
	p.number++
	p.waiting[p.number] = u
	if u.copies = append(u.copies, sent{p.number, now}); len(u.copies) > maxCopies {
		delete(p.waiting, u.copies[0].number)
		u.copies = u.copies[1:]
	}
	return numbered{name, p.number, u.body}
}

func (m *memory) sendAll(letters []numbered) {
	for _, l := range letters {
		m.send(l.to, kindNotes, append(binary.BigEndian.AppendUint64(nil, l.number), l.body...))
	}
}

// send does not say whether it could: what is not answered is sent again.
func (m *memory) send(to string, kind byte, payload []byte) {
	if err := m.post(to, frame(kind, payload)); err != nil {
		m.opts.Log.Debug("a peer is not told of flows; it will be", "node", to, "err", err)
	}
}

// encodeNotes is a message but for its number.
func encodeNotes(part byte, notes []datapath.Note) []byte {
	size := 1
	for i := range notes {
		size += noteSizes + len(notes[i].Key) + len(notes[i].Value)
	}
	b := append(make([]byte, 0, size), part)
	for i := range notes {
		n := &notes[i]
		b = append(b, byte(n.Kind), byte(len(n.Key)), byte(len(n.Value)))
		b = append(append(b, n.Key...), n.Value...)
	}
	return b
}

func decodeNotes(b []byte) (number uint64, part byte, notes []datapath.Note, err error) {
	if len(b) < notesHeader {
		return 0, 0, nil, errors.New("notes: too short")
	}
	number, part, b = binary.BigEndian.Uint64(b), b[notesHeader-1], b[notesHeader:]
	for len(b) > 0 {
		if len(b) < noteSizes || len(b) < noteSizes+int(b[1])+int(b[2]) {
			return 0, 0, nil, errors.New("notes: the last one is cut off")
		}
		key, value := b[noteSizes:noteSizes+int(b[1])], b[noteSizes+int(b[1]):noteSizes+int(b[1])+int(b[2])]
		notes = append(notes, datapath.Note{Kind: datapath.NoteKind(b[0]), Key: key, Value: value})
		b = b[noteSizes+len(key)+len(value):]
	}
	return number, part, notes, nil
}

// told has a peer's notes taken. For what nobody has time the peer gets no answer, and tells it again.
func (m *memory) told(from string, payload []byte) error {
	number, part, notes, err := decodeNotes(payload)
	if err != nil {
		return err
	}
	select {
	case m.heard <- heardNotes{from, number, notes}:
	default:
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[from]; p != nil && part != partNews {
		p.want, p.asked = p.want && part != partLast, time.Now()
	}
	return nil
}

// answered notes what a peer has taken, or that it asks for everything.
func (m *memory) answered(from string, payload []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[from]
	switch {
	case len(payload) != 0 && len(payload) != 8:
		return fmt.Errorf("answer to notes: %d bytes", len(payload))
	case p == nil:
	case len(payload) == 0:
		p.due.add(everything)
	default:
		p.answered(binary.BigEndian.Uint64(payload), time.Now())
	}
	return nil
}

func (p *listener) answered(number uint64, now time.Time) {
	u := p.waiting[number]
	if u == nil {
		return // another copy was
	}
	for _, c := range u.copies {
		delete(p.waiting, c.number)
		if c.number == number {
			p.patience = max(answerTime, 2*now.Sub(c.at)) // a machine that is slow would be slower if it heard all twice
		}
	}
	if u.telling != nil {
		p.behind--
	} else {
		p.unheard -= len(u.body)
	}
}

// settle returns when a peer knows what this node knew when it was called, or after a while. Of several offers one
// waits for a peer that is late: what a death makes the kernel do would wait with each.
func (m *memory) settle(ctx context.Context, peer string) {
	if m.opts.News == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	done := make(chan struct{})
	select {
	case m.flush <- done:
		<-done
	case <-ctx.Done():
		return
	}
	for !m.knows(peer) && !m.isLate(peer) {
		select {
		case <-ctx.Done():
			m.setLate(peer)
			m.opts.Log.Warn("buckets move to a director that may not know all flows of theirs", "node", peer)
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// knows says whether a peer answered all that it did not know.
func (m *memory) knows(peer string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[peer]
	return p == nil || p.unheard == 0 && !p.due.fresh && (p.telling == nil || !p.telling.fresh)
}

// isLate says whether an offer to a peer waited in vain lately.
func (m *memory) isLate(peer string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[peer]
	return p != nil && time.Since(p.late) < answerTime
}

func (m *memory) setLate(peer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[peer]; p != nil {
		p.late = time.Now()
	}
}
