package member

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
)

// A director is what a memory is kept the same of: its entries, and those that are new.
type director struct {
	memory *memory
	opts   Options
	log    strings.Builder

	mu      sync.Mutex
	entries map[string]bool
	fresh   []datapath.Note
	missed  time.Duration
	lately  []string // what came by within that time
	unread  int      // so many times not all can be read
	fails   int      // so many times it cannot take what it is told
	cut     bool
	carried int // messages with notes that came
	largest int
}

type directors map[string]*director

// newDirectors runs so many, n1, n2, ..., until the test ends; each can be heard by all.
func newDirectors(t *testing.T, n int) directors {
	t.Helper()
	all := make(directors)
	for i := range n {
		name, d := fmt.Sprint("n", i+1), &director{entries: make(map[string]bool)}
		d.opts = Options{News: d.news, Notes: d.notes, Take: d.take, Log: slog.New(slog.NewTextHandler(&d.log, nil))}
		d.memory = newMemory(&d.opts, func(to string, message []byte) error { return all[to].carry(name, message) })
		all[name] = d
	}
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	for _, d := range all {
		runs.Go(func() { _ = d.memory.run(ctx) })
	}
	t.Cleanup(func() { cancel(); runs.Wait() })
	for name, d := range all {
		for peer := range all {
			if peer != name {
				d.memory.changed(cluster.Peer{Name: peer, Alive: true, Life: 1})
			}
		}
	}
	return all
}

func (d *director) news(most int) ([]datapath.Note, time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	some := d.fresh[:min(most, len(d.fresh))]
	d.fresh = d.fresh[len(some):]
	missed := d.missed
	d.missed = 0
	return some, missed, nil
}

// notes says that nothing goes on, but what there was no room for among the news.
func (d *director) notes(within time.Duration) iter.Seq2[[]datapath.Note, error] {
	return func(yield func([]datapath.Note, error) bool) {
		d.mu.Lock()
		keys := d.lately
		if within == 0 {
			keys = slices.Sorted(maps.Keys(d.entries))
		}
		failed := d.unread > 0
		d.unread--
		d.mu.Unlock()
		for keys := range slices.Chunk(keys, maxNotes) {
			var some []datapath.Note
			for _, key := range keys {
				some = append(some, note(key))
			}
			if !yield(some, nil) {
				return
			}
			if failed {
				yield(nil, errUnread)
				return
			}
		}
	}
}

func (d *director) take(notes []datapath.Note) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails > 0 {
		d.fails--
		return errors.New("not now")
	}
	for i := range notes {
		d.entries[string(notes[i].Key)] = true
	}
	return nil
}

func (d *director) carry(from string, message []byte) error {
	kind, payload, err := unframe(message)
	if err != nil {
		return err
	}
	d.mu.Lock()
	cut := d.cut
	if kind == kindNotes {
		d.carried++
		d.largest = max(d.largest, len(message))
	}
	d.mu.Unlock()
	switch {
	case cut:
		return cluster.ErrBusy
	case kind == kindNotes:
		return d.memory.told(from, payload)
	}
	return d.memory.answered(from, payload)
}

func note(key string) datapath.Note {
	return datapath.Note{Kind: datapath.NoteFlow, Key: []byte(key), Value: []byte("at b1")}
}

// but does something to a director between two messages.
func (d *director) but(do func()) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

// heard is how many messages with notes came.
func (d *director) heard() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.carried
}

// note has a director find something out.
func (d *director) note(keys ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range keys {
		d.entries[key] = true
		d.fresh = append(d.fresh, note(key))
	}
}

func (d *director) knows(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	got := make([]string, 0, len(d.entries))
	for key := range d.entries {
		got = append(got, key)
	}
	slices.Sort(got)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestWhatIsNewIsToldToAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 3)
		time.Sleep(time.Minute)
		before := all["n2"].heard()
		all["n1"].note("a", "b")
		all["n3"].note("c")
		time.Sleep(50 * time.Millisecond)
		for _, d := range all {
			d.knows(t, "in 50 ms", "a", "b", "c")
		}
		time.Sleep(time.Minute)
		if told := all["n2"].heard() - before; told != 2 {
			t.Errorf("n2 was told %d times, want once by each", told)
		}
	})
}

func TestWhoDidNotAnswerIsToldEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 3)
		n1, n2 := all["n1"], all["n2"]
		n2.but(func() { n2.cut, n2.fails = true, 1 })
		n1.note("a")
		time.Sleep(time.Second)
		n1.note("b")
		time.Sleep(5 * time.Second)
		n2.knows(t, "while it hears nothing")
		n2.but(func() { n2.cut = false })
		time.Sleep(2*answerTime + time.Second)
		n2.knows(t, "in the end", "a", "b")
		told := n2.heard()
		time.Sleep(time.Minute)
		if more := n2.heard() - told; more != 0 {
			t.Errorf("it answered, and is told %d times more", more)
		}
	})
}

func TestWhoComesIsToldEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		var many []string
		for i := range 3 * maxNotes {
			many = append(many, fmt.Sprintf("flow %06d", i))
		}
		n1.note(many...)
		time.Sleep(time.Second)
		n2.knows(t, "told as news", many...)
		n2.but(func() { n2.entries = make(map[string]bool) })
		n1.memory.changed(cluster.Peer{Name: "n2", Alive: false, Life: 1})
		n1.note("while it was away")
		time.Sleep(time.Second)
		n2.knows(t, "while it is away")
		n1.memory.changed(cluster.Peer{Name: "n2", Alive: true, Life: 2})
		time.Sleep(100 * time.Millisecond)
		n2.knows(t, "in another life", append(many, "while it was away")...)
		synctest.Wait()
		if n2.largest > cluster.MaxMessage/4 {
			t.Errorf("a message has %d bytes", n2.largest)
		}
	})
}

// A node that serves more than before asks for what it could not take before.
func TestEverythingIsToldToWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		n1.note("a")
		time.Sleep(time.Second)
		n2.but(func() { n2.entries = make(map[string]bool) }) // it served nothing yet
		n1.but(func() { n1.cut = true })
		(&Member{memory: n2.memory}).WantNotes()
		time.Sleep(3 * time.Second)
		n2.knows(t, "while nobody hears it ask")
		n1.but(func() { n1.cut = false })
		time.Sleep(wantEvery + time.Second)
		n2.knows(t, "after it asked again", "a")
		told := n2.heard()
		time.Sleep(time.Minute)
		if more := n2.heard() - told; more != 0 {
			t.Errorf("it asked %d times more", more)
		}
	})
}

func TestAnOfferWaitsUntilThePeerKnowsTheFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		time.Sleep(time.Second)
		n1.note("a")
		n1.memory.settle(t.Context(), "n2")
		n2.knows(t, "when the offer goes out", "a")
		n2.but(func() { n2.cut = true })
		n1.note("b")
		start := time.Now()
		n1.memory.settle(t.Context(), "n2")
		if took := time.Since(start); took != settleTime {
			t.Errorf("for one that does not answer it waits %s, want %s", took, settleTime)
		}
		start = time.Now()
		for range 5 {
			n1.memory.settle(t.Context(), "n2")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("five more offers wait %s for it", took)
		}
		time.Sleep(answerTime)
		start = time.Now()
		n1.memory.settle(t.Context(), "n2")
		if took := time.Since(start); took != settleTime {
			t.Errorf("one that is made later waits %s, want %s", took, settleTime)
		}
		n1.memory.settle(t.Context(), "n9")
		if !strings.Contains(n1.log.String(), "may not know all flows") {
			t.Errorf("nothing was said: %s", n1.log.String())
		}
	})
}

func TestNotesThatAreCutOffAreNotUnderstood(t *testing.T) {
	d := newMemory(&Options{}, nil)
	whole := append(binary.BigEndian.AppendUint64(nil, 7), encodeNotes(partLast, []datapath.Note{note("a flow"), note("")})...)
	number, part, notes, err := decodeNotes(whole)
	if diff := cmp.Diff([]datapath.Note{note("a flow"), {Kind: datapath.NoteFlow, Key: []byte{}, Value: []byte("at b1")}}, notes); diff != "" || number != 7 || part != partLast || err != nil {
		t.Errorf("number %d, part %v, %v (-want +got):\n%s", number, part, err, diff)
	}
	ends := []int{notesHeader, notesHeader + noteSizes + len("a flow") + len("at b1"), len(whole)} // of a note each
	for n := range whole {
		if err := d.told("n2", whole[:n]); (err == nil) != slices.Contains(ends, n) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	if err := d.answered("n2", []byte("four")); err == nil {
		t.Error("an answer of 4 bytes is understood")
	}
}
