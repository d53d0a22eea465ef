package store_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/store"
)

// do fails when one of the steps does.
func do(t testing.TB, steps ...error) {
	t.Helper()
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDecisionsAboutNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fresh(t, "n1")
		start := time.Now()
		do(t, s.SetDrain("n1", true), s.SetWeight("n1", new(0)), s.SetWeight("n2", new(lb.MaxWeight)),
			s.SetRemoved("n3", true), s.SetDrain("n4", false))
		time.Sleep(time.Hour)
		do(t, s.SetDrain("n1", true), s.SetDrain("n2", true))
		want := map[string]store.NodeAdmin{
			"n1": {Drain: true, DrainSince: start, Weight: new(0)},
			"n2": {Drain: true, DrainSince: start.Add(time.Hour), Weight: new(lb.MaxWeight)},
			"n3": {Removed: true},
		}
		if diff := cmp.Diff(want, s.Admins()); diff != "" {
			t.Errorf("decided (-want +got):\n%s", diff)
		}

		do(t, s.SetDrain("n1", false), s.SetWeight("n2", nil), s.SetRemoved("n3", false))
		want = map[string]store.NodeAdmin{
			"n1": {Weight: new(0)},
			"n2": {Drain: true, DrainSince: start.Add(time.Hour)},
		}
		if diff := cmp.Diff(want, s.Admins()); diff != "" {
			t.Errorf("taken back (-want +got):\n%s", diff)
		}
		do(t, s.SetDrain("n1", true))
		if since := s.Admins()["n1"].DrainSince; !since.Equal(start.Add(time.Hour)) {
			t.Errorf("drained again since %s", since)
		}
	})
}

func TestTheEndOfADrainIsDecidedWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fresh(t, "n1")
		start := time.Now()
		is := func(when string, want map[string]store.NodeAdmin) {
			t.Helper()
			if diff := cmp.Diff(want, s.Admins()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		end := start.Add(10*time.Minute + 1500*time.Microsecond) // kept to the millisecond
		do(t, s.SetDrain("n1", true), s.SetKill("n1", end))
		drained := store.NodeAdmin{Drain: true, DrainSince: start, KillAt: start.Add(10*time.Minute + time.Millisecond)}
		is("drained for ten minutes", map[string]store.NodeAdmin{"n1": drained})

		do(t, s.SetKill("n1", start.Add(time.Hour)))
		drained.KillAt = start.Add(time.Hour)
		is("for an hour", map[string]store.NodeAdmin{"n1": drained})

		time.Sleep(time.Minute)
		do(t, s.SetDrain("n1", true)) // without an end
		drained.KillAt = time.Time{}
		is("drained again, without an end", map[string]store.NodeAdmin{"n1": drained})

		do(t, s.SetKill("n1", start.Add(time.Hour)), s.SetDrain("n1", false))
		is("undrained", map[string]store.NodeAdmin{})
		do(t, s.SetDrain("n1", true))
		is("drained later", map[string]store.NodeAdmin{"n1": {Drain: true, DrainSince: start.Add(time.Minute)}})
	})
}

func TestTheEndOfADrainReachesTheOtherNodes(t *testing.T) {
	a, b := fresh(t, "a"), fresh(t, "b")
	end := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	do(t, a.SetDrain("n1", true), a.SetKill("n1", end))
	if _, err := b.Merge(a.Entries()); err != nil {
		t.Fatal(err)
	}
	if got := b.Admins()["n1"]; !got.Drain || !got.KillAt.Equal(end) {
		t.Errorf("%+v", got)
	}
	do(t, b.SetDrain("n1", false))
	if _, err := a.Merge(b.Entries()); err != nil {
		t.Fatal(err)
	}
	if got, ok := a.Admins()["n1"]; ok {
		t.Errorf("after the end of the drain: %+v", got)
	}
}

func TestTwoDecisionsAboutOneNodeAtOnceBothCount(t *testing.T) {
	a, b := fresh(t, "a"), fresh(t, "b")
	do(t, a.SetDrain("n1", true), b.SetWeight("n1", new(7)))
	fromA, fromB := a.Entries(), b.Entries()
	if _, err := a.Merge(fromB); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Merge(fromA); err != nil {
		t.Fatal(err)
	}
	got := a.Admins()["n1"]
	if !got.Drain || got.Weight == nil || *got.Weight != 7 {
		t.Errorf("decided: %+v", got)
	}
	if diff := cmp.Diff(a.Admins(), b.Admins()); diff != "" {
		t.Errorf("the nodes disagree (-a +b):\n%s", diff)
	}
}

func TestDecisionsThatMakeNoSense(t *testing.T) {
	s := fresh(t, "n1")
	for _, c := range []struct {
		err  error
		want string
	}{
		{s.SetWeight("n1", new(-1)), "store: node n1: weight -1 is not in 0..256"},
		{s.SetWeight("n1", new(257)), "store: node n1: weight 257 is not in 0..256"},
		{s.SetDrain("", true), "store: empty node name"},
		{s.SetDrain("a/b", true), `store: node name "a/b": no slash is allowed`},
		{s.SetRemoved("a b", true), `store: node name "a b": only printable ASCII without spaces is allowed`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
	if got := s.Entries(); len(got) > 0 {
		t.Errorf("written: %v", got)
	}
}

func TestWhatOnlyANewerVersionUnderstandsIsLeftOut(t *testing.T) {
	s := fresh(t, "n1")
	for key, value := range map[string]string{
		"node/n1/mood":   "1",
		"node/n2/weight": "1000",
		"node/n3/drain":  "soon",
		"node":           "1",
		"node/n4":        "1",
		"other/n5/drain": "1",
	} {
		set(t, s, key, value)
	}
	if got := s.Admins(); len(got) > 0 {
		t.Errorf("read: %v", got)
	}
}
