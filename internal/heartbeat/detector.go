package heartbeat

import (
	"maps"
	"net"
	"slices"
	"time"
)

// A Peer is another node as its frames describe it.
type Peer struct {
	Name         string
	Life         uint64
	MAC          net.HardwareAddr // that its last frame came from
	LastHeard    time.Time        // when its last frame arrived
	Silent       bool             // nothing arrived for DeadAfter
	SilentSince  time.Time        // zero: is heard
	HearsMe      bool             // its last frame said that it hears this life of us
	HearsMeSince time.Time        // when HearsMe became what it is
	AbsentUntil  time.Time        // it asked to be waited for; zero: it did not
}

// A detector knows who is heard. It has no clock: each call says what time it is.
type detector struct {
	self      uint64 // our id
	life      uint32 // ours, low half
	deadAfter time.Duration
	hint      time.Duration
	pause     time.Duration // between two looks: more means that we were not running

	peers map[string]*tracked
	last  time.Time // of the last look
}

type tracked struct {
	Peer
	id      uint64
	counter uint64
	grace   time.Time // not silent before
}

func newDetector(o Options) *detector {
	return &detector{
		self: nodeID(o.Node), life: uint32(o.Life), deadAfter: o.DeadAfter, hint: o.Hint,
		pause: 2 * o.Interval, peers: make(map[string]*tracked),
	}
}

// A verdict is what became of a frame.
type verdict uint8

const (
	heardAgain   verdict = iota // only LastHeard changed
	heardNews                   // something else did
	heardBefore                 // not newer than what was heard before
	heardTooMany                // from one more peer than is listened to
)

// hear takes in a frame that arrived from a MAC at a time.
func (d *detector) hear(f *frame, from [6]byte, at time.Time) verdict {
	p, ok := d.peers[f.name]
	switch {
	case !ok && !d.room():
		return heardTooMany
	case !ok:
		p = &tracked{Peer: Peer{Name: f.name, HearsMeSince: at}, id: nodeID(f.name)}
		d.peers[f.name] = p
	case f.life < p.Life, f.life == p.Life && f.counter <= p.counter:
		return heardBefore
	}
	before := p.Peer
	p.Life, p.counter, p.LastHeard = f.life, f.counter, at
	p.Silent, p.SilentSince, p.AbsentUntil = false, time.Time{}, time.Time{}
	if string(p.MAC) != string(from[:]) {
		p.MAC = net.HardwareAddr(from[:]) // a new one: snapshots have the old
	}
	if f.absence > 0 {
		p.AbsentUntil = at.Add(f.absence)
	}
	if hears := d.heardBy(f); hears != p.HearsMe {
		p.HearsMe, p.HearsMeSince = hears, at
	}
	if !ok || p.Life != before.Life || string(p.MAC) != string(before.MAC) || p.Silent != before.Silent ||
		p.HearsMe != before.HearsMe || p.AbsentUntil.IsZero() != before.AbsentUntil.IsZero() {
		return heardNews
	}
	return heardAgain
}

// begin begins another life of ours, which nobody has heard yet.
func (d *detector) begin(life uint64, now time.Time) {
	d.life = uint32(life)
	for _, p := range d.peers {
		if p.HearsMe {
			p.HearsMe, p.HearsMeSince = false, now
		}
	}
}

// room makes place for one more peer: whoever is silent the longest is forgotten.
func (d *detector) room() bool {
	if len(d.peers) < maxHeard {
		return true
	}
	var longest *tracked
	for _, p := range d.peers {
		if p.Silent && (longest == nil || p.SilentSince.Before(longest.SilentSince)) {
			longest = p
		}
	}
	if longest == nil {
		return false
	}
	delete(d.peers, longest.Name)
	return true
}

// heardBy says whether the sender hears this life of us. One that remembers an earlier life may
// have sent the frame before we began: it could be a recording.
func (d *detector) heardBy(f *frame) bool {
	return slices.ContainsFunc(f.heard, func(h heard) bool { return h.id == d.self && h.life == d.life && h.lately })
}

// look finds out who fell silent. When we were not running ourselves, frames may wait to be read,
// and everybody gets a moment more.
func (d *detector) look(now time.Time) (changed bool) {
	paused := !d.last.IsZero() && now.Sub(d.last) > d.pause
	d.last = now
	for _, p := range d.peers {
		if paused && !p.Silent {
			p.grace = now.Add(d.pause)
		}
		if !p.Silent && !now.Before(p.deadline(d.deadAfter)) {
			p.Silent, p.SilentSince, changed = true, now, true
		}
	}
	return changed
}

func (p *tracked) deadline(deadAfter time.Duration) time.Time {
	if at := p.LastHeard.Add(deadAfter); at.After(p.grace) {
		return at
	}
	return p.grace
}

// next returns when the next peer falls silent; zero: none does.
func (d *detector) next() (at time.Time) {
	for _, p := range d.peers {
		if deadline := p.deadline(d.deadAfter); !p.Silent && (at.IsZero() || deadline.Before(at)) {
			at = deadline
		}
	}
	return at
}

// report returns what our frames say about the peers: that we hear those that we heard lately, as
// far as confirms agrees.
func (d *detector) report(now time.Time, confirms func(string, uint64) bool) []heard {
	var out []heard
	for _, name := range slices.Sorted(maps.Keys(d.peers)) {
		p := d.peers[name]
		lately := now.Sub(p.LastHeard) < d.hint && (confirms == nil || confirms(p.Name, p.Life))
		out = append(out, heard{id: p.id, life: uint32(p.Life), lately: lately})
	}
	return out
}

// snapshot returns the peers sorted by name.
func (d *detector) snapshot() []Peer {
	var out []Peer
	for _, name := range slices.Sorted(maps.Keys(d.peers)) {
		out = append(out, d.peers[name].Peer)
	}
	return out
}
