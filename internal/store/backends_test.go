package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/store"
)

var (
	web1 = store.BackendName{Service: "web", Backend: "b1"}
	web2 = store.BackendName{Service: "web", Backend: "b2"}
	dns1 = store.BackendName{Service: "dns", Backend: "b1"}
)

func TestDecisionsAboutBackends(t *testing.T) {
	s := fresh(t, "n1")
	do(t, s.SetBackendDrain(web1, true), s.SetBackendWeight(web1, new(0)), s.SetBackendDisable(web2, true),
		s.SetBackendWeight(dns1, new(lb.MaxWeight)), s.SetBackendDrain(dns1, false),
		s.SetDrain("n1", true)) // a node, which is another matter
	want := map[store.BackendName]store.BackendAdmin{
		web1: {Drain: true, Weight: new(0)},
		web2: {Disable: true},
		dns1: {Weight: new(lb.MaxWeight)},
	}
	if diff := cmp.Diff(want, s.BackendAdmins()); diff != "" {
		t.Errorf("decided (-want +got):\n%s", diff)
	}
	if nodes := s.Admins(); len(nodes) != 1 {
		t.Errorf("about nodes: %v", nodes)
	}

	do(t, s.SetBackendDrain(web1, false), s.SetBackendDisable(web2, false), s.SetBackendWeight(dns1, nil))
	want = map[store.BackendName]store.BackendAdmin{web1: {Weight: new(0)}}
	if diff := cmp.Diff(want, s.BackendAdmins()); diff != "" {
		t.Errorf("taken back (-want +got):\n%s", diff)
	}
}

func TestTwoDecisionsAboutOneBackendAtOnceBothCount(t *testing.T) {
	a, b := fresh(t, "a"), fresh(t, "b")
	do(t, a.SetBackendDrain(web1, true), b.SetBackendDisable(web1, true))
	fromA, fromB := a.Entries(), b.Entries()
	for s, entries := range map[*store.Store][]store.Entry{a: fromB, b: fromA} {
		if _, err := s.Merge(entries); err != nil {
			t.Fatal(err)
		}
	}
	want := map[store.BackendName]store.BackendAdmin{web1: {Drain: true, Disable: true}}
	for _, s := range []*store.Store{a, b} {
		if diff := cmp.Diff(want, s.BackendAdmins()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestDecisionsAboutBackendsThatMakeNoSense(t *testing.T) {
	s := fresh(t, "n1")
	const form = ": want SERVICE/BACKEND"
	for _, c := range []struct {
		err  error
		want string
	}{
		{s.SetBackendWeight(web1, new(-1)), "store: backend web/b1: weight -1 is not in 0..256"},
		{s.SetBackendWeight(web1, new(257)), "store: backend web/b1: weight 257 is not in 0..256"},
		{s.SetBackendDrain(store.BackendName{Service: "web"}, true), `store: backend "web/"` + form},
		{s.SetBackendDrain(store.BackendName{Backend: "b1"}, true), `store: backend "/b1"` + form},
		{s.SetBackendDrain(store.BackendName{Service: "web", Backend: "a/b"}, true), `store: backend "web/a/b"` + form},
		{s.SetBackendDisable(store.BackendName{Service: "we b", Backend: "b"}, true),
			`store: key "backend/we b/b/disable": only printable ASCII without spaces is allowed`},
		{s.SetBackendDisable(store.BackendName{Service: "web", Backend: strings.Repeat("b", store.MaxKey)}, true),
			"store: key of 276 bytes, at most 256 are allowed"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
	if got := s.Entries(); len(got) > 0 {
		t.Errorf("written: %v", got)
	}
}

func TestWhatOnlyANewerVersionUnderstandsOfBackendsIsLeftOut(t *testing.T) {
	s := fresh(t, "n1")
	for key, value := range map[string]string{
		"backend/web/b1/mood":      "1",
		"backend/web/b2/weight":    "1000",
		"backend/web/b3/drain":     "soon",
		"backend/web/b4":           "1",
		"backend/web/b5/drain/now": "1",
		"backends/web/b6/drain":    "1",
	} {
		set(t, s, key, value)
	}
	if got := s.BackendAdmins(); len(got) > 0 {
		t.Errorf("read: %v", got)
	}
}
