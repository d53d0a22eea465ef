package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/store"
)

// randomEntries writes to few keys with few stamps, so that many of them collide.
func randomEntries(r *rand.Rand) []store.Entry {
	entries := make([]store.Entry, 1+r.IntN(20))
	for i := range entries {
		e := store.Entry{
			Key:   fmt.Sprintf("k%d", r.IntN(4)),
			Stamp: store.Stamp(r.IntN(3)),
			Node:  fmt.Sprintf("n%d", r.IntN(3)),
		}
		if e.Deleted = r.IntN(4) == 0; !e.Deleted {
			e.Value = fmt.Appendf([]byte{}, "%d", r.IntN(3))
		}
		entries[i] = e
	}
	return entries
}

func TestTheOrderOfMeetingsMakesNoDifference(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		all := randomEntries(r)
		once := fresh(t, "once")
		if _, err := once.Merge(all); err != nil {
			t.Fatal(err)
		}
		want := once.Entries()

		// Two nodes hear it in pieces, in an order of their own, some of it more than once.
		nodes := []*store.Store{fresh(t, "a"), fresh(t, "b")}
		for _, s := range nodes {
			pieces := slices.Concat(all, all)
			r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			for len(pieces) > 0 {
				n := 1 + r.IntN(len(pieces))
				if _, err := s.Merge(pieces[:n]); err != nil {
					t.Fatal(err)
				}
				pieces = pieces[n:]
			}
		}
		// A third hears of it from the other two only.
		third := fresh(t, "c")
		for _, s := range nodes {
			if _, err := third.Merge(s.Entries()); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range append(nodes, third) {
			if diff := cmp.Diff(want, s.Entries()); diff != "" {
				t.Fatalf("seed %d, node %d (-want +got):\n%s", seed, i, diff)
			}
			if s.Digest() != once.Digest() {
				t.Fatalf("seed %d, node %d: same entries, another digest", seed, i)
			}
			if news, err := s.Merge(all); err != nil || len(news) > 0 {
				t.Fatalf("seed %d, node %d: still news: %v, %v", seed, i, news, err)
			}
		}
	}
}

func TestNodesThatWriteAndMeetAtRandomAgreeInTheEnd(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		nodes := []*store.Store{fresh(t, "a"), fresh(t, "b"), fresh(t, "c")}
		meet := func(into, from *store.Store) {
			if _, err := into.Merge(from.Entries()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 60 {
			s := nodes[r.IntN(3)]
			key := fmt.Sprintf("k%d", r.IntN(5))
			switch r.IntN(4) {
			case 0:
				set(t, s, key, fmt.Sprint(i))
			case 1:
				del(t, s, key)
			default:
				meet(s, nodes[r.IntN(3)])
			}
		}
		for range 2 {
			for i := range nodes {
				meet(nodes[(i+1)%3], nodes[i])
			}
		}
		for _, s := range nodes[1:] {
			if diff := cmp.Diff(nodes[0].Entries(), s.Entries()); diff != "" {
				t.Fatalf("seed %d (-a +other):\n%s", seed, diff)
			}
		}
	}
}

func TestMergeReturnsWhatIsNews(t *testing.T) {
	s := fresh(t, "n1")
	set(t, s, "new-here", "kept")
	kept := s.Entries()[0]
	old := store.Entry{Key: "new-here", Value: []byte("old"), Stamp: 1, Node: "n2"}
	a := store.Entry{Key: "a", Value: []byte("1"), Stamp: 1, Node: "n2"}
	b := store.Entry{Key: "b", Deleted: true, Stamp: 1, Node: "n2"}
	news, err := s.Merge([]store.Entry{b, old, a})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Entry{a, b}, news); diff != "" {
		t.Errorf("news (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]store.Entry{a, b, kept}, s.Entries()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestADeletionIsNotUndoneByAnOlderValue(t *testing.T) {
	a, away := fresh(t, "a"), fresh(t, "b")
	set(t, a, "k", "v")
	if _, err := away.Merge(a.Entries()); err != nil {
		t.Fatal(err)
	}
	del(t, a, "k")
	if _, err := a.Merge(away.Entries()); err != nil { // it comes back and knows the old value
		t.Fatal(err)
	}
	if v, ok := a.Get("k"); ok {
		t.Errorf("k is back: %q", v)
	}
}

func TestAClockAheadIsRefusedUntilItsTimeHasCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fresh(t, "n1")
		at := func(key string, ahead time.Duration) store.Entry {
			ms := time.Now().Add(ahead).UnixMilli()
			return store.Entry{Key: key, Value: []byte{}, Stamp: store.Stamp(ms << 16), Node: "n2"}
		}
		minute, hour, year := at("minute", time.Minute), at("hour", time.Hour), at("year", 365*24*time.Hour)
		all := []store.Entry{minute, year, hour}

		news, err := s.Merge(all)
		if diff := cmp.Diff([]store.Entry{minute}, news); diff != "" {
			t.Errorf("taken at once (-want +got):\n%s", diff)
		}
		skew, ok := errors.AsType[*store.SkewError](err)
		if !ok {
			t.Fatalf("error: %v", err)
		}
		if diff := cmp.Diff(&store.SkewError{Entry: year, Ahead: 365 * 24 * time.Hour, Refused: 2}, skew); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		if want := "merge: 2 entries refused: key year was written by node n2 8760h0m0s ahead of this machine's clock"; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %q", err)
		}
		if diff := cmp.Diff(store.Stats{Keys: 1, Refused: 2, Ahead: time.Minute}, s.Stats()); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}

		// What was taken from a minute ahead is beaten by what is written here and now.
		set(t, s, "minute", "later")
		if _, err := s.Merge([]store.Entry{minute}); err != nil {
			t.Error(err)
		}
		if v, _ := s.Get("minute"); string(v) != "later" {
			t.Errorf("minute is %q", v)
		}

		time.Sleep(59 * time.Minute)
		news, err = s.Merge(all)
		if diff := cmp.Diff([]store.Entry{hour}, news); diff != "" {
			t.Errorf("taken 59 minutes later (-want +got):\n%s", diff)
		}
		if skew, ok := errors.AsType[*store.SkewError](err); !ok || skew.Refused != 1 {
			t.Errorf("error: %v", err)
		}
	})
}
