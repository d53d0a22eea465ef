package member

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
)

// A demand is for a telling.
type demand struct {
	wanted bool
	since  time.Time // flows that came by since then; zero: all
	fresh  bool      // the peer does not know them, so that who hands buckets to it waits
}

var everything = demand{wanted: true, fresh: true}

// add demands more.
func (d *demand) add(other demand) {
	if d.wanted && d.since.Before(other.since) {
		other.since = d.since
	}
	*d = demand{wanted: true, since: other.since, fresh: d.fresh || other.fresh}
}

// A telling tells some peers what they demand, from the first to the last flow, and the next part when all of
// them have answered most of those before: no faster than they can take it, and keeping no more.
type telling struct {
	demand
	to   map[string]*listener
	next func() ([]datapath.Note, error, bool)
	stop func()
	read bool // to the end
}

const (
	maxBehind = 4                      // messages of a telling that a peer has not answered when it is sent another one
	holdUp    = 500 * time.Millisecond // for which others wait for a peer
)

// advance begins the tellings that are demanded, and goes on with all.
func (m *memory) advance(now time.Time) error {
	m.begin(now, true)
	m.begin(now, false)
	var errs []error
	going := m.tellings[:0]
	for _, t := range m.tellings {
		if err := m.goOn(t, now); err != nil {
			errs = append(errs, err)
		}
		if len(t.to) == 0 {
			t.stop()
		} else {
			going = append(going, t)
		}
	}
	clear(m.tellings[len(going):])
	m.tellings = going
	return errors.Join(errs...)
}

// begin begins a telling for those who demand all, or not all, and are told nothing else.
func (m *memory) begin(now time.Time, all bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &telling{to: make(map[string]*listener)}
	for name, p := range m.peers {
		if p.due.wanted && p.due.since.IsZero() == all && p.telling == nil && !now.Before(m.patient) {
			t.add(p.due)
			p.due, p.telling, p.behind = demand{}, t, 0
			t.to[name] = p
		}
	}
	if len(t.to) == 0 {
		return
	}
	within := time.Duration(0)
	if !all {
		within = max(now.Sub(t.since), time.Millisecond)
	}
	t.next, t.stop = iter.Pull2(m.opts.Notes(within))
	m.tellings = append(m.tellings, t)
}

// goOn sends as many parts as all peers may be sent.
func (m *memory) goOn(t *telling, now time.Time) error {
	for m.ready(t, now) {
		part := byte(partNews)
		if t.since.IsZero() {
			part = partOfAll
		}
		notes, err, ok := t.next()
		if err != nil {
			m.patient = now.Add(wantEvery)
			m.abandon(t)
			return fmt.Errorf("a telling is begun again: %w", err)
		}
		if !ok {
			t.read = true
			if part == partNews {
				continue
			}
			part = partLast
		}
		m.tellPart(t, encodeNotes(part, notes), now)
	}
	return nil
}

// ready says whether the peers of a telling can be told more, and lets go of those that went, that know
// everything, or that keep others waiting, who are told from the beginning.
func (m *memory) ready(t *telling, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ready := !t.read
	for name, p := range t.to {
		switch {
		case m.peers[name] != p:
			delete(t.to, name)
		case t.read && p.behind == 0:
			p.telling = nil
			delete(t.to, name)
		case p.behind < maxBehind || t.read:
		case len(t.to) > 1 && now.Sub(p.blocks) >= holdUp:
			p.leave(t)
			delete(t.to, name)
		default:
			ready = false
		}
	}
	return ready && len(t.to) > 0
}

// tellPart sends a part to all peers of a telling.
func (m *memory) tellPart(t *telling, body []byte, now time.Time) {
	var letters []numbered
	m.mu.Lock()
	for name, p := range t.to {
		if p.behind++; p.behind == maxBehind {
			p.blocks = now
		}
		letters = append(letters, p.send(name, &untold{body: body, telling: t}, now))
	}
	m.mu.Unlock()
	m.sendAll(letters)
}

// abandon has the peers of a telling told anew.
func (m *memory) abandon(t *telling) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range t.to {
		p.leave(t)
	}
	clear(t.to)
}

// leave has a peer told in another telling what this one would have told it.
func (p *listener) leave(t *telling) {
	for number, u := range p.waiting {
		if u.telling == t {
			delete(p.waiting, number)
		}
	}
	p.telling, p.behind = nil, 0
	p.due.add(t.demand)
}
