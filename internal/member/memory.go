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
	answerTime  = 2 * time.Second                     // after which who did not answer is told everything anew
	wantEvery   = time.Second                         // between questions for all that a peer has
	settleTime  = 200 * time.Millisecond              // for which an offer of buckets waits, at most
	maxNotes    = 16384                               // in a message, and from one look at what is new
	maxHeard    = 16                                  // messages that wait to be taken
	noteSizes   = 3                                   // bytes before a note: its kind, the lengths of key and value
	notesHeader = 9                                   // a number, and whether they are the last ones of all
)

// A memory keeps what directors remember of flows the same on all of them. What is new is told at once,
// what goes on again and again, and all of it to who comes, or did not answer.
type memory struct {
	opts  *Options
	post  func(to string, message []byte) error
	heard chan heardNotes
	flush chan chan struct{}

	mu    sync.Mutex
	peers map[string]*listener // those that are alive
}

// A listener is a peer that is told.
type listener struct {
	life    uint64
	number  uint64               // of the last message
	waiting map[uint64]time.Time // messages without an answer, and since when
	all     bool                 // it needs everything
	want    bool                 // it has not told everything yet
	asked   time.Time            // for it
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
		m.peers[p.Name] = &listener{life: p.Life, waiting: make(map[uint64]time.Time), all: true}
	}
}

func (m *memory) run(ctx context.Context) error {
	look := time.NewTicker(newsEvery)
	defer look.Stop()
	again := time.NewTicker(retellEvery)
	defer again.Stop()
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
		case <-look.C:
			err = errors.Join(m.tellNews(), m.tellAll(time.Now()))
		case <-again.C:
			err = m.tellAgain()
		}
		if err != nil {
			m.opts.Log.Warn("what directors remember of flows may differ", "err", err)
		}
	}
}

// tellNews tells everybody what is new.
func (m *memory) tellNews() error {
	notes, err := m.opts.News(maxNotes)
	if err != nil || len(notes) == 0 {
		return err
	}
	m.tell(m.listeners(func(*listener) bool { return true }), notes, false)
	return nil
}

// tellAgain tells everybody which flows go on.
func (m *memory) tellAgain() error {
	notes, err := m.opts.Notes(retellEvery + time.Second)
	if err != nil || len(notes) == 0 {
		return err
	}
	m.tell(m.listeners(func(*listener) bool { return true }), notes, false)
	return nil
}

// tellAll tells everything to whom it is new, and asks for the same.
func (m *memory) tellAll(now time.Time) error {
	for _, name := range m.listeners(func(p *listener) bool {
		want := p.want && now.Sub(p.asked) >= wantEvery
		if want {
			p.asked = now
		}
		return want
	}) {
		m.send(name, kindNoted, nil)
	}
	fresh := m.listeners(func(p *listener) bool {
		for _, since := range p.waiting {
			p.all = p.all || now.Sub(since) >= answerTime
		}
		if !p.all {
			return false
		}
		p.all, p.waiting = false, make(map[uint64]time.Time)
		return true
	})
	if len(fresh) == 0 {
		return nil
	}
	notes, err := m.opts.Notes(0)
	if err != nil {
		return err
	}
	m.tell(fresh, notes, true)
	return nil
}

// listeners are the names of peers, sorted, by some property.
func (m *memory) listeners(which func(*listener) bool) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(m.peers)) {
		if which(m.peers[name]) {
			names = append(names, name)
		}
	}
	return names
}

// tell sends notes, which may be all there are.
func (m *memory) tell(to []string, notes []datapath.Note, whole bool) {
	for first := true; first || len(notes) > 0; first = false {
		some := notes[:min(len(notes), maxNotes)]
		notes = notes[len(some):]
		for _, name := range to {
			number, ok := m.next(name)
			if ok {
				m.send(name, kindNotes, encodeNotes(number, whole && len(notes) == 0, some))
			}
		}
	}
}

// next numbers a message to a peer, which is to answer it.
func (m *memory) next(to string) (uint64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[to]
	if p == nil {
		return 0, false
	}
	p.number++
	p.waiting[p.number] = time.Now()
	return p.number, true
}

// send does not say whether it could: who does not answer is told everything.
func (m *memory) send(to string, kind byte, payload []byte) {
	if err := m.post(to, frame(kind, payload)); err != nil {
		m.opts.Log.Debug("a peer is not told of flows; it will be", "node", to, "err", err)
	}
}

func encodeNotes(number uint64, last bool, notes []datapath.Note) []byte {
	b := binary.BigEndian.AppendUint64(nil, number)
	b = append(b, 0)
	if last {
		b[len(b)-1] = 1
	}
	for i := range notes {
		n := &notes[i]
		b = append(b, byte(n.Kind), byte(len(n.Key)), byte(len(n.Value)))
		b = append(append(b, n.Key...), n.Value...)
	}
	return b
}

func decodeNotes(b []byte) (number uint64, last bool, notes []datapath.Note, err error) {
	if len(b) < notesHeader {
		return 0, false, nil, errors.New("notes: too short")
	}
	number, last, b = binary.BigEndian.Uint64(b), b[notesHeader-1] != 0, b[notesHeader:]
	for len(b) > 0 {
		if len(b) < noteSizes || len(b) < noteSizes+int(b[1])+int(b[2]) {
			return 0, false, nil, errors.New("notes: the last one is cut off")
		}
		key, value := b[noteSizes:noteSizes+int(b[1])], b[noteSizes+int(b[1]):noteSizes+int(b[1])+int(b[2])]
		notes = append(notes, datapath.Note{Kind: datapath.NoteKind(b[0]), Key: key, Value: value})
		b = b[noteSizes+len(key)+len(value):]
	}
	return number, last, notes, nil
}

// told has a peer's notes taken. For what nobody has time the peer gets no answer, and tells it again.
func (m *memory) told(from string, payload []byte) error {
	number, last, notes, err := decodeNotes(payload)
	if err != nil {
		return err
	}
	select {
	case m.heard <- heardNotes{from, number, notes}:
	default:
		return nil
	}
	if last {
		m.mu.Lock()
		defer m.mu.Unlock()
		if p := m.peers[from]; p != nil {
			p.want = false
		}
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
		p.all = true
	default:
		delete(p.waiting, binary.BigEndian.Uint64(payload))
	}
	return nil
}

// settle returns when a peer knows what this node knew when it was called, or after a while.
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
	for !m.knows(peer) {
		select {
		case <-ctx.Done():
			m.opts.Log.Warn("buckets move to a director that may not know all flows of theirs", "node", peer)
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// knows says whether a peer answered all that it was told.
func (m *memory) knows(peer string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[peer]
	return p == nil || !p.all && len(p.waiting) == 0
}
