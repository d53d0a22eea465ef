package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/lbctl/lbctl/internal/store"
)

// open opens a store that is closed when the test ends.
func open(t testing.TB, path, node string) *store.Store {
	t.Helper()
	s, err := store.Open(path, node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fresh opens a store of its own.
func fresh(t testing.TB, node string) *store.Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "state.db"), node)
}

func set(t testing.TB, s *store.Store, key, value string) {
	t.Helper()
	if err := s.Set(key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func del(t testing.TB, s *store.Store, key string) {
	t.Helper()
	if err := s.Delete(key); err != nil {
		t.Fatal(err)
	}
}

// values are the keys with the prefix and their values.
func values(s *store.Store, prefix string) map[string]string {
	all := make(map[string]string)
	for _, e := range s.All(prefix) {
		all[e.Key] = string(e.Value)
	}
	return all
}

func TestWhatWasWrittenIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(path, "n1")
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, "a/1", "old")
	set(t, s, "a/1", "new")
	set(t, s, "a/2", "")
	set(t, s, "b", "gone")
	del(t, s, "b")
	del(t, s, "never-there")
	entries, digest := s.Entries(), s.Digest()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path, "n1")
	if diff := cmp.Diff(map[string]string{"a/1": "new", "a/2": ""}, values(s, "")); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(entries, s.Entries()); diff != "" {
		t.Errorf("entries (-before +after):\n%s", diff)
	}
	if s.Digest() != digest {
		t.Errorf("digest %x, before %x", s.Digest(), digest)
	}
	if v, ok := s.Get("b"); ok {
		t.Errorf("b is %q after its deletion", v)
	}
	if v, ok := s.Get("a/2"); !ok || len(v) > 0 {
		t.Errorf("the empty value of a/2 is %q, %t", v, ok)
	}
}

func TestTheStoreKeepsItsOwnCopyOfAValue(t *testing.T) {
	s := fresh(t, "n1")
	value := []byte("before")
	if err := s.Set("k", value); err != nil {
		t.Fatal(err)
	}
	copy(value, "AFTER!")
	if got, _ := s.Get("k"); string(got) != "before" {
		t.Errorf("k is %q", got)
	}
}

func TestALifeIsNeverHandedOutTwice(t *testing.T) {
	dir := t.TempDir()
	var last uint64
	next := func(path string) {
		t.Helper()
		s, err := store.Open(path, "n1")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			life, err := s.NewLife()
			if err != nil {
				t.Fatal(err)
			}
			if life <= last {
				t.Errorf("life %d after %d", life, last)
			}
			last = life
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "state.db")
	next(path)
	next(path)
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01 in here: the clock was set back
		next(path)
	})

	last = uint64(time.Now().Unix()) - 1 // the highest of a node whose lives were longer than a second
	next(filepath.Join(dir, "after-the-disk-was-lost.db"))
}

func TestAWriteIsLaterThanAllItsWriterKnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(path, "n2")
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, "k", "of today")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01 in here: the clock was set back
		s := open(t, path, "n1") // which is less than n2, should stamps be equal
		before := s.Entries()[0]
		set(t, s, "k", "of the past")
		after := s.Entries()[0]
		if after.Stamp <= before.Stamp || string(after.Value) != "of the past" {
			t.Errorf("%v does not follow %v", after, before)
		}
		if ahead := s.Stats().Ahead; ahead < store.MaxAhead {
			t.Errorf("a clock that was set back 26 years shows as %s", ahead)
		}
	})
}

func TestChangesAreTold(t *testing.T) {
	s, other := fresh(t, "n1"), fresh(t, "n2")
	told := func(what string, want bool, do func() error) {
		t.Helper()
		changed := s.Changed()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-changed:
			if !want {
				t.Errorf("%s is told as a change", what)
			}
		default:
			if want {
				t.Errorf("%s is not told", what)
			}
		}
	}
	set(t, other, "k", "of n2")
	news := other.Entries()
	told("set", true, func() error { return s.Set("own", nil) })
	told("delete", true, func() error { return s.Delete("own") })
	told("merge", true, func() error { _, err := s.Merge(news); return err })
	told("merge of the same", false, func() error { _, err := s.Merge(news); return err })
	told("life", false, func() error { _, err := s.NewLife(); return err })
}

func TestWhatIsTooMuchIsRefusedAndChangesNothing(t *testing.T) {
	s := fresh(t, "n1")
	set(t, s, "k", "v")
	digest := s.Digest()
	longKey, longValue := strings.Repeat("k", store.MaxKey), make([]byte, store.MaxValue)
	for _, c := range []struct {
		name string
		do   func() error
		want string
	}{
		{"empty key", func() error { return s.Set("", nil) }, "store: empty key"},
		{"space", func() error { return s.Set("a b", nil) }, `store: key "a b": only printable ASCII without spaces is allowed`},
		{"control character", func() error { return s.Delete("a\x1b[2J") }, `store: key "a\x1b[2J": only printable ASCII without spaces is allowed`},
		{"long key", func() error { return s.Set(longKey+"k", nil) }, "store: key of 257 bytes, at most 256 are allowed"},
		{"long value", func() error { return s.Set("k", append(longValue, 0)) }, "store: key k: value of 4097 bytes, at most 4096 are allowed"},
		{"merged", func() error {
			_, err := s.Merge([]store.Entry{{Key: "good", Stamp: 1, Node: "n2"}, {Key: "k", Stamp: 1, Node: ""}})
			return err
		}, "merge: key k: empty node name"},
		{"deleted with a value", func() error {
			_, err := s.Merge([]store.Entry{{Key: "k", Stamp: 1, Node: "n2", Deleted: true, Value: []byte{1}}})
			return err
		}, "merge: key k: deleted, but with a value of 1 bytes"},
	} {
		if err := c.do(); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if s.Digest() != digest {
		t.Error("something changed")
	}
	if err := s.Set(longKey, longValue); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := store.Open(filepath.Join(t.TempDir(), "state.db"), "n 1"); err == nil {
		t.Error("a node called \"n 1\" is accepted")
	}
}

func TestTwoNodesThatAreFullCanStillAgree(t *testing.T) {
	a, b := fresh(t, "a"), fresh(t, "b")
	fill := func(s *store.Store, name string) {
		t.Helper()
		var all []store.Entry
		for i := range store.MaxKeys - 1 {
			all = append(all, store.Entry{Key: fmt.Sprintf("%s/%d", name, i), Value: []byte{}, Stamp: 1, Node: name})
		}
		if _, err := s.Merge(all); err != nil {
			t.Fatal(err)
		}
		set(t, s, name+"/last", "fits")
		if err := s.Set(name+"/more", nil); !errors.Is(err, store.ErrFull) {
			t.Errorf("one more key: %v", err)
		}
		set(t, s, name+"/last", "a key that is there can be changed")
	}
	fill(a, "a")
	fill(b, "b")
	fromA, fromB := a.Entries(), b.Entries()
	for _, merge := range []struct {
		into *store.Store
		from []store.Entry
	}{{a, fromB}, {b, fromA}} {
		if _, err := merge.into.Merge(merge.from); err != nil {
			t.Fatal(err)
		}
	}
	if a.Digest() != b.Digest() {
		t.Error("the nodes disagree")
	}
	if _, err := a.Merge([]store.Entry{{Key: "c", Stamp: 1, Node: "c"}}); !errors.Is(err, store.ErrFull) {
		t.Errorf("key %d: %v", 2*store.MaxKeys+1, err)
	}
	if got, err := store.Decode(store.Encode(a.Entries())); err != nil || len(got) != 2*store.MaxKeys {
		t.Errorf("%d of %d entries came through: %v", len(got), 2*store.MaxKeys, err)
	}
}

func TestManyMayUseAStoreAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(path, "n1")
	if err != nil {
		t.Fatal(err)
	}
	other := fresh(t, "n2")
	set(t, other, "theirs", "v")
	var group errgroup.Group
	for g := range 4 {
		group.Go(func() error {
			for i := range 10 {
				key := fmt.Sprintf("%d/%d", g, i)
				if err := s.Set(key, []byte(key)); err != nil {
					return err
				}
				if v, ok := s.Get(key); !ok || string(v) != key {
					return fmt.Errorf("%s is %q", key, v)
				}
				if _, err := s.Merge(other.Entries()); err != nil {
					return err
				}
				if _, err := s.NewLife(); err != nil {
					return err
				}
				_, _, _ = s.Stats(), s.Admins(), s.Changed()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	stamps := make(map[store.Stamp]string)
	for _, e := range s.All("") {
		if twin, ok := stamps[e.Stamp]; ok && e.Node == "n1" {
			t.Errorf("%s and %s have the same stamp", e.Key, twin)
		}
		stamps[e.Stamp] = e.Key
	}
	entries := s.Entries()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(entries, open(t, path, "n1").Entries()); diff != "" {
		t.Errorf("on disk (-memory +disk):\n%s", diff)
	}
}
