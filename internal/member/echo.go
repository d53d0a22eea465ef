package member

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
)

// echoes do over gossip what heartbeats do, with those peers whose heartbeats are late or say that ours do
// not arrive: they tell who hears us. Without them a majority would be lost with the heartbeats alone.
type echoes struct {
	begun time.Time     // times in echoes are since then
	late  time.Duration // that a heartbeat may be old before echoes take its place
	every time.Duration // between two questions

	mu    sync.Mutex
	peers map[string]*echoed
}

// echoed is what became of the echoes of one peer.
type echoed struct {
	asked    time.Time // when the newest of ours went out
	heard    time.Time // when anything came last
	life     uint64    // of ours, that was answered last
	answered time.Time // when the newest that was answered went out
}

// An echo is a question or its answer. On the wire, big-endian: 1 byte, 1 for an answer; 8 bytes, the life
// of who asks; 8 bytes, when, in nanoseconds of a clock that only he knows.
type echo struct {
	answer bool
	life   uint64
	at     time.Duration
}

const echoSize = 1 + 8 + 8

func (e echo) encode() []byte {
	b := make([]byte, 1, echoSize)
	if e.answer {
		b[0] = 1
	}
	b = binary.BigEndian.AppendUint64(b, e.life)
	return binary.BigEndian.AppendUint64(b, uint64(e.at))
}

func decodeEcho(b []byte) (echo, error) {
	if len(b) != echoSize || b[0] > 1 {
		return echo{}, errors.New("malformed echo")
	}
	return echo{b[0] == 1, binary.BigEndian.Uint64(b[1:]), time.Duration(binary.BigEndian.Uint64(b[9:]))}, nil
}

// newEchoes takes the time for which it counts that a peer heard us: two heartbeats and a half.
func newEchoes(hint time.Duration) *echoes {
	return &echoes{begun: time.Now(), late: hint * 4 / 5, every: hint / 2, peers: make(map[string]*echoed)}
}

func (e *echoes) peer(name string) *echoed {
	p := e.peers[name]
	if p == nil {
		p = new(echoed)
		e.peers[name] = p
	}
	return p
}

// due returns who is to be asked now, and notes that he was: those that gossip brings and of whom no
// heartbeat said lately that they hear us.
func (e *echoes) due(gossip []cluster.Peer, seen map[string]sighting, now time.Time) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for _, p := range gossip {
		s := seen[p.Name]
		if !p.Alive || s.hearsMe && now.Sub(s.heard) < e.late || now.Sub(e.peer(p.Name).asked) < e.every {
			continue
		}
		e.peer(p.Name).asked = now
		names = append(names, p.Name)
	}
	return names
}

// note takes what came from a peer.
func (e *echoes) note(from string, came echo, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peer(from)
	p.heard = now
	at := e.begun.Add(came.at)
	if !came.answer || came.at < 0 || at.After(now) {
		return
	}
	if came.life > p.life || came.life == p.life && at.After(p.answered) {
		p.life, p.answered = came.life, at
	}
}

// into puts together what is seen and what echoes tell, of this life of ours. Who asks us counts on not
// being silent to us for as long as one whose heartbeats arrive.
func (e *echoes) into(seen map[string]sighting, life uint64, deadAfter time.Duration, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, p := range e.peers {
		s, known := seen[name]
		if !known {
			continue
		}
		s.silent = s.silent && (p.heard.IsZero() || now.Sub(p.heard) >= deadAfter)
		if p.life == life && !p.answered.IsZero() && (!s.hearsMe || p.answered.After(s.heard)) {
			s.says, s.hearsMe, s.heard = true, true, p.answered
		}
		seen[name] = s
	}
}

// echo takes an echo of a peer; it is called from the goroutine of gossip. It is answered as long as
// our heartbeats would say that they hear that life.
func (m *Member) echo(from string, payload []byte) error {
	came, err := decodeEcho(payload)
	if err != nil {
		return err
	}
	if !came.answer && !m.confirms(from, came.life) {
		return nil
	}
	m.echoes.note(from, came, time.Now())
	if !came.answer {
		came.answer = true
		_ = m.cluster.Send(from, frame(kindEcho, came.encode())) // it asks again
	}
	return nil
}

// askBack sends the echoes that are due.
func (m *Member) askBack(gossip []cluster.Peer, seen map[string]sighting) {
	now := time.Now()
	for _, name := range m.echoes.due(gossip, seen, now) {
		question := echo{life: m.status.Life, at: now.Sub(m.echoes.begun)}
		_ = m.cluster.Send(name, frame(kindEcho, question.encode())) // the next one is due soon
	}
}
