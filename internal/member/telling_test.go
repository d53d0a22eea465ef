package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
)

// allThereIs is how many flows a director can remember.
const allThereIs = 1 << 18

// A pupil takes note of which flows it was told, each of which takes it some time.
type pupil struct {
	known [allThereIs]bool
	taken int // notes
	each  time.Duration
}

func (p *pupil) take(notes []datapath.Note) error {
	time.Sleep(time.Duration(len(notes)) * p.each)
	p.taken += len(notes)
	for i := range notes {
		p.known[binary.BigEndian.Uint32(notes[i].Key)] = true
	}
	return nil
}

func (p *pupil) knows() (n int) {
	for _, known := range p.known {
		if known {
			n++
		}
	}
	return n
}

// everyNote yields all there is, in parts, as often as it is asked.
func everyNote(within time.Duration) iter.Seq2[[]datapath.Note, error] {
	return func(yield func([]datapath.Note, error) bool) {
		for first := 0; within == 0 && first < allThereIs; first += maxNotes {
			notes := make([]datapath.Note, maxNotes)
			for i := range notes {
				notes[i] = datapath.Note{Kind: datapath.NoteFlow, Key: binary.BigEndian.AppendUint32(nil, uint32(first+i))}
			}
			if !yield(notes, nil) {
				return
			}
		}
	}
}

// However long it takes, who is told everything knows it in the end, and is told little of it twice.
func TestTellingEverythingEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		peers []time.Duration // what one note takes them
		ends  time.Duration
	}{
		{"one", []time.Duration{5 * time.Microsecond}, 3 * time.Second},
		{"four", slices.Repeat([]time.Duration{5 * time.Microsecond}, 4), 3 * time.Second},
		{"a slow one", []time.Duration{200 * time.Microsecond}, 2 * time.Minute},
		{"four, one is slow", []time.Duration{5 * time.Microsecond, 5 * time.Microsecond, 200 * time.Microsecond, 5 * time.Microsecond}, 2 * time.Minute},
		{"one that needs longer for a message than it may", []time.Duration{time.Millisecond}, 10 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newDirectors(t, 1+len(test.peers))
				n1 := all["n1"]
				n1.opts.Notes = everyNote
				pupils := make(map[string]*pupil)
				for i, each := range test.peers {
					name := fmt.Sprint("n", i+2)
					pupils[name] = &pupil{each: each}
					all[name].opts.Take = pupils[name].take
				}
				start, most := time.Now(), 0
				told := make(map[string]time.Duration)
				for slices.ContainsFunc(slices.Sorted(keysOf(pupils)), func(name string) bool { return !n1.memory.knows(name) }) {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
					most = max(most, n1.waits())
					for name := range pupils {
						if told[name] == 0 && n1.memory.knows(name) {
							told[name] = time.Since(start)
						}
					}
					if time.Since(start) > test.ends {
						t.Fatalf("not told in %s", test.ends)
					}
				}
				t.Logf("told in %s, at most %d messages are kept; %v", time.Since(start), most, told)
				if limit := maxBehind * len(test.peers); most > limit {
					t.Errorf("%d messages wait for an answer, more than %d", most, limit)
				}
				for name, p := range pupils {
					if known := p.knows(); known != allThereIs || p.taken > allThereIs+allThereIs/4 {
						t.Errorf("%s knows %d flows of %d, and was told %d times of one", name, known, allThereIs, p.taken)
					}
				}
			})
		})
	}
}

func keysOf(pupils map[string]*pupil) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range pupils {
			if !yield(name) {
				return
			}
		}
	}
}

// waits is how many messages wait for an answer.
func (d *director) waits() (n int) {
	d.memory.mu.Lock()
	defer d.memory.mu.Unlock()
	for _, p := range d.memory.peers {
		distinct := make(map[*untold]bool)
		for _, u := range p.waiting {
			distinct[u] = true
		}
		n += len(distinct)
	}
	return n
}

// remembers makes a director remember flows that nobody else was told of.
func (d *director) remembers(flows int) []string {
	var many []string
	for i := range flows {
		many = append(many, fmt.Sprintf("flow %06d", i))
	}
	d.but(func() {
		for _, key := range many {
			d.entries[key] = true
		}
	})
	return many
}

func TestAMessageThatIsLostIsToldAgainAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		time.Sleep(time.Second)
		many := n1.remembers(10 * maxNotes)
		before := n2.heard()
		n2.but(func() { n2.fails = 1 })
		n1.memory.demand(everything)
		time.Sleep(answerTime + time.Second)
		n2.knows(t, "but for one failure", many...)
		if told := n2.heard() - before; told != 10+1+1 { // the parts, the end, and one of them again
			t.Errorf("it is told by %d messages, want 12", told)
		}
	})
}

func TestWhoDoesNotAnswerHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 3)
		n1, n2, n3 := all["n1"], all["n2"], all["n3"]
		time.Sleep(time.Second)
		many := n1.remembers(10 * maxNotes)
		n2.but(func() { n2.cut = true })
		n1.memory.demand(everything)
		time.Sleep(2*answerTime + time.Second)
		n3.knows(t, "while another one does not answer", many...)
		n2.knows(t, "while it hears nothing")
		n2.but(func() { n2.cut = false })
		time.Sleep(2*answerTime + time.Second)
		n2.knows(t, "in the end", many...)
	})
}

// What is kept for a peer that does not answer has an end; then it is told everything.
func TestTooManyNewsAreToldAsAllThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		time.Sleep(time.Second)
		n2.but(func() { n2.cut = true })
		var many []string
		for i := range 60 {
			var some []string
			for n := range maxNotes {
				some = append(some, fmt.Sprintf("flow %02d/%05d", i, n))
			}
			n1.note(some...)
			many = append(many, some...)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			n1.memory.mu.Lock()
			if kept := n1.memory.peers["n2"].unheard; kept > maxUnheard {
				t.Fatalf("%d bytes are kept", kept)
			}
			n1.memory.mu.Unlock()
		}
		if n1.memory.knows("n2") {
			t.Error("it is said to know everything")
		}
		n2.but(func() { n2.cut = false })
		time.Sleep(2*answerTime + time.Second)
		n2.knows(t, "in the end", many...)
	})
}

func TestWhatWasMissedIsToldAsWhatCameByLately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		time.Sleep(time.Second)
		n1.remembers(10)
		n1.but(func() { n1.missed, n1.lately = time.Second, []string{"flow 000003", "flow 000004"} })
		time.Sleep(100 * time.Millisecond)
		n2.knows(t, "told what came by lately", "flow 000003", "flow 000004")
	})
}

func TestWhatCannotBeReadIsToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newDirectors(t, 2)
		n1, n2 := all["n1"], all["n2"]
		time.Sleep(time.Second)
		many := n1.remembers(3 * maxNotes)
		n1.but(func() { n1.unread = 2 })
		n1.memory.demand(everything)
		time.Sleep(3*wantEvery + 100*time.Millisecond)
		n2.knows(t, "after two failures", many...)
		if told := strings.Count(n1.log.String(), errUnread.Error()); told != 2 {
			t.Errorf("it is said %d times that something failed: %s", told, n1.log.String())
		}
	})
}

var errUnread = errors.New("no more can be read")
