package member

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
)

// viewOf is a view of n2 of which only the first buckets are set: for each "owner verb", as in
// "n1 delegate"; "-" is no owner.
func viewOf(buckets ...string) ownership.View {
	v := ownership.View{
		Nodes:  []string{"n0", "n1", "n2"}, // n0 is in no list of nodes: what the machine knows comes first
		Owners: slices.Repeat([]int16{lb.NoNode}, lb.Buckets),
		Verbs:  make([]ownership.Verb, lb.Buckets),
	}
	for b, text := range buckets {
		owner, verb, _ := strings.Cut(text, " ")
		v.Owners[b] = int16(slices.Index(v.Nodes, owner))
		v.Verbs[b] = map[string]ownership.Verb{
			"ignore": ownership.Ignore, "accept": ownership.Accept, "delegate": ownership.Delegate,
		}[verb]
	}
	return v
}

func TestAViewIsTranslatedBucketByBucket(t *testing.T) {
	index := map[string]int16{"n1": 4, "n2": 5}
	view := viewOf(
		"n2 accept",   // at rest, ours
		"n1 ignore",   // at rest, another's
		"- ignore",    // nobody's
		"n2 ignore",   // ours, and not here yet
		"n1 delegate", // on its way
		"n1 ignore",   // given up, and sockets may live
		"n2 accept",   // ours, and others may have flows
		"n1 delegate", // on its way, and others may have flows
		"n0 ignore",   // of a node that has no index
		"n2 ignore",   // once given up, and soon ours again
	)
	view.MaybeLocal, view.Contested = ownership.SetOf(5, 9), ownership.SetOf(6, 7)
	got := table(view, "n2", index)

	type bucket struct {
		Owner int16
		Mark  string
	}
	want := []bucket{
		{5, ""}, {4, ""}, {lb.NoNode, ""}, {5, "waiting"}, {4, "delegate"}, {4, "maybe-local"}, {5, "contested"},
		{4, "delegate,contested"}, {lb.NoNode, ""}, {5, "maybe-local,waiting"}, {lb.NoNode, ""},
	}
	var have []bucket
	for b := range want {
		have = append(have, bucket{got.Owners[b], got.Marks[b].String()})
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("buckets (-want +got):\n%s", diff)
	}
	if len(got.Owners) != lb.Buckets || len(got.Marks) != lb.Buckets {
		t.Errorf("%d owners, %d marks", len(got.Owners), len(got.Marks))
	}
}

func TestATableAtRestHasNoMarks(t *testing.T) {
	got := table(viewOf("n2 accept", "n1 ignore", "- ignore"), "n2", map[string]int16{"n1": 0, "n2": 1})
	if got.Marks != nil {
		t.Error("marks")
	}
	if diff := cmp.Diff([]int16{1, 0, lb.NoNode}, got.Owners[:3]); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
}

func TestNodesAreThoseOfTheConfigurationAndThoseThatJoined(t *testing.T) {
	address := func(s ...string) (all []netip.Addr) {
		for _, text := range s {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	weights := func(w int) map[string]ownership.Weight {
		return map[string]ownership.Weight{"": {Weight: w}, "nodes": {Weight: 99}}
	}
	m := &Member{opts: Options{
		Machine: ownership.Config{Name: "n2"},
		Nodes: []lb.Node{
			{Name: "n3", Addrs: address("192.0.2.3"), Weight: 3}, {Name: "n1", Addrs: address("192.0.2.1"), Weight: 1},
		},
	}}
	m.status.Members = []ownership.Member{
		{Name: "n1", Weights: weights(7), Meta: Meta{address("198.51.100.1")}.Encode()},
		{Name: "n2", Weights: weights(2), Meta: Meta{address("192.0.2.2", "2001:db8::2")}.Encode()},
		{Name: "n4", Weights: weights(4), Meta: []byte("nonsense")},
	}
	got, index := m.nodes()
	want := []lb.Node{
		{Index: 0, Name: "n1", Addrs: address("192.0.2.1"), Weight: 7}, // a file says where, it says how much
		{Index: 1, Name: "n2", Addrs: address("192.0.2.2", "2001:db8::2"), Weight: 2, Local: true},
		{Index: 2, Name: "n3", Addrs: address("192.0.2.3"), Weight: 3}, // never heard of
		{Index: 3, Name: "n4", Weight: 4},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int16{"n1": 0, "n2": 1, "n3": 2, "n4": 3}, index); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
}

// A frame that is handed on must be known as a peer's by all who could hand it on again.
func TestPeersAreMetWhenTheMACsOfAllThatLiveAreKnown(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	m := &Member{}
	for _, test := range []struct {
		name    string
		members []ownership.Member
		nodes   []lb.Node
		want    bool
	}{
		{"alone", []ownership.Member{{Name: "n2"}}, []lb.Node{{Name: "n2", Local: true}}, true},
		{"a peer", []ownership.Member{{Name: "n1"}, {Name: "n2"}}, []lb.Node{{Name: "n1", MAC: mac}, {Name: "n2", Local: true}}, true},
		{"a peer whose MAC is not known", []ownership.Member{{Name: "n1"}, {Name: "n2"}}, []lb.Node{{Name: "n1"}, {Name: "n2", Local: true}}, false},
		{"a peer that died", []ownership.Member{{Name: "n1", Dead: true}, {Name: "n2"}}, []lb.Node{{Name: "n1"}, {Name: "n2", Local: true}}, true},
		{"a node that was never heard", []ownership.Member{{Name: "n2"}}, []lb.Node{{Name: "n1"}, {Name: "n2", Local: true}}, true},
	} {
		m.status.Members = test.members
		if got := m.met(test.nodes); got != test.want {
			t.Errorf("%s: met %v, want %v", test.name, got, test.want)
		}
	}
}

func TestTheAddressesOfANodeFitIntoGossip(t *testing.T) {
	var most []netip.Addr
	for range 4 { // two of each version are already unusual
		most = append(most, netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"))
	}
	if n := len(Meta{most}.Encode()); n > ownership.MaxMeta {
		t.Errorf("%d bytes", n)
	}
}

// What is kept of an agreement must be what would be made of it anew, whatever happened in between.
func TestAnAgreementIsTheSameAsOneMadeAnew(t *testing.T) {
	cfg := failoverVIPs(6)
	m, now := settledOn(t, cfg)
	domains := desired.Domains(cfg)
	random := rand.New(rand.NewPCG(1, 2))
	weights := make(map[string]ownership.Weight)
	for _, domain := range domains {
		weights[domain] = ownership.Weight{Weight: 100, Healthy: true, MinNodes: 1}
	}
	kept, changes := 0, 0
	for range 40 {
		now += time.Duration(random.IntN(2000)) * time.Millisecond
		domain := domains[random.IntN(len(domains))]
		var event ownership.Event = ownership.Tick{}
		switch some := ownership.SetOf(random.IntN(lb.Buckets), random.IntN(lb.Buckets)); random.IntN(5) {
		case 0:
			if _, there := weights[domain]; there && domain != desired.VIPDomain {
				delete(weights, domain)
			} else {
				weights[domain] = ownership.Weight{Weight: 100, Healthy: true, MinNodes: 1}
			}
			event = ownership.Weights{Domains: maps.Clone(weights)}
		case 1:
			weights[domain] = ownership.Weight{Weight: random.IntN(100), Healthy: random.IntN(2) == 0, MinNodes: 1}
			event = ownership.Weights{Domains: maps.Clone(weights)}
		case 2:
			event = ownership.Inherited{Domain: domain, Set: some}
		case 3:
			event = ownership.HeardBy{Peer: "n1", Hears: true, At: now}
		case 4: // another node in the configuration: all indexes are others
			m.opts.Nodes = append(m.opts.Nodes, lb.Node{Name: fmt.Sprintf("a%d", random.IntN(1000))})
		}
		actions := m.machine.Handle(now, event)
		m.status = m.machine.Status(now)
		changes += len(actions.Changed)
		m.told.forget(actions.Changed)
		kept += len(m.told.domains)
		got := m.agreement()
		before := m.told
		m.told = told{}
		anew := m.agreement()
		m.told = before
		if diff := cmp.Diff(anew, got, cmpopts.EquateComparable(netip.Addr{}), cmp.Comparer((*lb.Table).Equal)); diff != "" {
			t.Fatalf("after %T (-anew +kept):\n%.2000s", event, diff)
		}
	}
	if kept < 40 || changes < 5 {
		t.Errorf("%d tables were kept and %d changed: this test proves nothing", kept, changes)
	}
}
