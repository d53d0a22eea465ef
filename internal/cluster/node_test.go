package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/nettest"
)

const port = 7946

// A site hands out loopback addresses that no other test of this machine uses.
type site struct{ prefix [3]byte }

var sites atomic.Uint32

func newSite() site {
	n := uint32(os.Getpid())<<4 + sites.Add(1)
	return site{[3]byte{127, byte(64 + n>>8&127), byte(n)}}
}

func (s site) addr(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{s.prefix[0], s.prefix[1], s.prefix[2], n}), port)
}

// options are those of node number n, which knows the first three.
func (s site) options(t *testing.T, n byte, key cluster.Key) cluster.Options {
	t.Helper()
	return cluster.Options{
		Cluster: "prod", Node: fmt.Sprintf("n%d", n), Bind: s.addr(n), Life: 1,
		Peers: func() []netip.AddrPort { return []netip.AddrPort{s.addr(1), s.addr(2), s.addr(3)} },
		Keys:  []cluster.Key{key}, StateDir: t.TempDir(),
	}
}

// A node is a running cluster that notes what it is told.
type node struct {
	*cluster.Cluster
	log  bytes.Buffer
	stop func()

	mu       sync.Mutex
	received []string
	changes  []string
}

// start runs a node until the test ends.
func start(t *testing.T, opts cluster.Options) *node {
	t.Helper()
	n := new(node)
	opts.Log = slog.New(slog.NewTextHandler(&lockedWriter{w: &n.log}, nil))
	opts.Received = func(from string, message []byte) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.received = append(n.received, from+": "+string(message))
	}
	opts.Changed = func(p cluster.Peer) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.changes = append(n.changes, fmt.Sprintf("%s alive=%v life=%d", p.Name, p.Alive, p.Life))
	}
	c, err := cluster.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	n.Cluster = c
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", opts.Node, err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// lockedWriter is for loggers of several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// alive returns "name/life" of the peers that are.
func (n *node) alive() []string {
	names := []string{}
	for _, p := range n.Peers() {
		if p.Alive {
			names = append(names, fmt.Sprintf("%s/%d", p.Name, p.Life))
		}
	}
	return names
}

func (n *node) messages() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.received)
}

func (n *node) changed() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.changes)
}

// sees waits until exactly these peers are alive.
func (n *node) sees(t *testing.T, want ...string) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		if got := n.alive(); !slices.Equal(got, want) {
			return fmt.Errorf("alive: %q, want %q, status %+v", got, want, n.Status())
		}
		return nil
	})
}

// gets waits until exactly these messages have come, in any order.
func (n *node) gets(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	nettest.Eventually(t, time.Minute, func() error {
		got := n.messages()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("messages: %q, want %q, counters %+v", got, want, n.Counters())
		}
		return nil
	})
}

// told waits until exactly these changes were told, in any order.
func (n *node) told(t *testing.T, want ...string) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		if diff := cmp.Diff(want, slices.Sorted(slices.Values(n.changed()))); diff != "" {
			return fmt.Errorf("changes (-want +got):\n%s", diff)
		}
		return nil
	})
}

// staysAlone fails when a peer is alive at any time in the next seconds; meanwhile try is called.
func (n *node) staysAlone(t *testing.T, try func()) {
	t.Helper()
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := n.alive(); len(got) > 0 {
			t.Fatalf("sees %q", got)
		}
		try()
	}
}

func TestAClusterFormsFromAListOfPeersAndCarriesMessages(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	var nodes []*node
	for n := range byte(3) {
		opts := s.options(t, n+1, key)
		opts.Version, opts.Meta = "1.2.3", []byte{n}
		nodes = append(nodes, start(t, opts))
	}
	n1, n2, n3 := nodes[0], nodes[1], nodes[2]
	n1.sees(t, "n2/1", "n3/1")
	n2.sees(t, "n1/1", "n3/1")
	n3.sees(t, "n1/1", "n2/1")

	got := n1.Peers()
	for i := range got {
		if time.Since(got[i].Since) > time.Minute {
			t.Errorf("%s since %s", got[i].Name, got[i].Since)
		}
		got[i].Since = time.Time{}
	}
	want := []cluster.Peer{
		{Name: "n2", Addr: s.addr(2), Alive: true, Life: 1, PublicKey: n2.PublicKey(), Version: "1.2.3", Meta: []byte{1}},
		{Name: "n3", Addr: s.addr(3), Alive: true, Life: 1, PublicKey: n3.PublicKey(), Version: "1.2.3", Meta: []byte{2}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}

	large := string(bytes.Repeat([]byte("x"), 1<<20))
	for to, message := range map[string]string{"n2": "one", "n3": large, "": "all"} {
		if err := n1.Send(to, []byte(message)); err != nil {
			t.Error(err)
		}
	}
	n2.gets(t, "n1: one", "n1: all")
	n3.gets(t, "n1: "+large, "n1: all")
	n1.told(t, "n2 alive=true life=1", "n3 alive=true life=1")
	for _, mistake := range []struct {
		to   string
		size int
		want string
	}{
		{"n9", 1, "peer n9: unknown peer"},
		{"n2", cluster.MaxMessage + 1, "message of 4194305 bytes: at most 4194304"},
	} {
		if err := n1.Send(mistake.to, make([]byte, mistake.size)); err == nil || err.Error() != mistake.want {
			t.Errorf("got %v, want %s", err, mistake.want)
		}
	}
}

func TestADeadPeerIsNoticedAndComesBackInAnotherLife(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	n1 := start(t, s.options(t, 1, key))
	opts := s.options(t, 2, key)
	n2 := start(t, opts)
	n1.sees(t, "n2/1")
	n2.stop()
	n1.sees(t)
	opts.Life = 2
	n2 = start(t, opts)
	n1.sees(t, "n2/2")
	n2.sees(t, "n1/1")
	if err := n1.Send("n2", []byte("hello")); err != nil {
		t.Error(err)
	}
	n2.gets(t, "n1: hello")
	n1.told(t, "n2 alive=false life=1", "n2 alive=true life=1", "n2 alive=true life=2")
	if err := n2.Send("n1", []byte("back")); err != nil {
		t.Error(err)
	}
	n1.gets(t, "n2: back")
}

func TestARestartThatNobodyNoticedIsAnotherLife(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	n1 := start(t, s.options(t, 1, key))
	opts := s.options(t, 2, key)
	for life := range uint64(5) {
		opts.Life = life + 1
		n2 := start(t, opts)
		n1.sees(t, fmt.Sprintf("n2/%d", opts.Life))
		n2.sees(t, "n1/1")
		n2.stop()
	}
}

func TestLeavingIsKnownAtOnce(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	n1, n2 := start(t, s.options(t, 1, key)), start(t, s.options(t, 2, key))
	n1.sees(t, "n2/1")
	n2.sees(t, "n1/1")
	begin := time.Now()
	if err := n2.Leave(2 * time.Second); err != nil {
		t.Fatal(err)
	}
	nettest.Eventually(t, time.Minute, func() error {
		if len(n1.alive()) > 0 {
			return errors.New("still alive")
		}
		return nil
	})
	t.Logf("known after %s", time.Since(begin).Round(time.Millisecond))
	n1.staysAlone(t, func() {}) // though n2 still runs
}

func TestStrangersAreRefused(t *testing.T) {
	for name, change := range map[string]func(*cluster.Options){
		"another key":     func(o *cluster.Options) { o.Keys = []cluster.Key{cluster.GenerateKey()} },
		"another cluster": func(o *cluster.Options) { o.Cluster = "test" },
		"no key":          func(o *cluster.Options) { o.Keys, o.Insecure = nil, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, key := newSite(), cluster.GenerateKey()
			n1 := start(t, s.options(t, 1, key))
			opts := s.options(t, 2, key)
			change(&opts)
			n2 := start(t, opts)
			n1.staysAlone(t, func() {
				if got := n2.alive(); len(got) > 0 {
					t.Fatalf("the stranger sees %q", got)
				}
			})
			if err := n1.Send("", []byte("x")); err != nil {
				t.Error(err)
			}
			if got := n2.messages(); len(got) > 0 {
				t.Errorf("the stranger got %q", got)
			}
			unreached := n2.Status().Unreached
			if len(unreached) != 2 || unreached[0].Addr != s.addr(1) || unreached[0].Error == "" {
				t.Errorf("the stranger is not told: %+v", unreached)
			} else {
				t.Logf("the stranger is told: %s", unreached[0].Error)
			}
		})
	}
}

func TestWithoutAKeyItMustBeSaidSo(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	for want, change := range map[string]func(*cluster.Options){
		"cluster: no key: make one for all nodes with GenerateKey, or say that the network is to be trusted": func(o *cluster.Options) { o.Keys = nil },
		"cluster: a key, but insecure: want one of them":                                                     func(o *cluster.Options) { o.Insecure = true },
		"cluster: life 0: want the number of this start":                                                     func(o *cluster.Options) { o.Life = 0 },
		`cluster: node name "": want 1 to 63 bytes`:                                                          func(o *cluster.Options) { o.Node = "" },
		`cluster: preset "moon": want lan or wan`:                                                            func(o *cluster.Options) { o.Preset = "moon" },
		"cluster: bind address 0.0.0.0:7946: name one of this machine's addresses: peers are told it": func(o *cluster.Options) {
			o.Bind = netip.MustParseAddrPort("0.0.0.0:7946")
		},
		"cluster: bind address 127.0.0.1:0: peers need to know the port": func(o *cluster.Options) {
			o.Bind = netip.MustParseAddrPort("127.0.0.1:0")
		},
	} {
		opts := s.options(t, 1, key)
		opts.Log = slog.New(slog.DiscardHandler)
		change(&opts)
		if _, err := cluster.New(opts); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	opts := s.options(t, 1, key)
	opts.Keys, opts.Insecure = nil, true
	other := s.options(t, 2, key)
	other.Keys, other.Insecure = nil, true
	n1, n2 := start(t, opts), start(t, other)
	n1.sees(t, "n2/1")
	n2.sees(t, "n1/1")
}

func TestAListenAddressThatIsNotOursIsAnError(t *testing.T) {
	s, key := newSite(), cluster.GenerateKey()
	opts := s.options(t, 1, key)
	opts.Log, opts.Bind = slog.New(slog.DiscardHandler), netip.MustParseAddrPort("192.0.2.1:7946")
	c, err := cluster.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("no error")
	} else {
		t.Log(err)
	}
}
