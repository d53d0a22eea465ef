package cluster_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m, runChild) }

// A child is a node in a process of its own: memberlist's goroutines dial.
type child struct {
	Name     string
	Bind     netip.AddrPort
	Peers    []netip.AddrPort
	Key      []byte
	StateDir string
	Life     uint64
	Preset   cluster.Preset
}

// A line is what a child writes when a peer changes or a message comes.
type line struct {
	Peer    string `json:",omitempty"`
	Alive   bool   `json:",omitempty"`
	Life    uint64 `json:",omitempty"`
	From    string `json:",omitempty"`
	Message string `json:",omitempty"`
}

// runChild is a node that sends every line it reads to all, and ends with its input.
func runChild(text string) error {
	var me child
	if err := json.Unmarshal([]byte(text), &me); err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	write := func(l line) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(l) // nobody reads any more
	}
	c, err := cluster.New(cluster.Options{
		Cluster: "prod", Node: me.Name, Bind: me.Bind, Peers: func() []netip.AddrPort { return me.Peers },
		Keys: []cluster.Key{cluster.Key(me.Key)}, StateDir: me.StateDir, Life: me.Life, Preset: me.Preset,
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Changed:  func(p cluster.Peer) { write(line{Peer: p.Name, Alive: p.Alive, Life: p.Life}) },
		Received: func(from string, message []byte) { write(line{From: from, Message: string(message)}) },
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			_ = c.Send("", in.Bytes()) // some may be unreachable: that is what is tested
		}
	})
	err = c.Run(ctx)
	reader.Wait()
	return err
}

// A process is a running child and what it said.
type process struct {
	child
	host *netlab.Host
	run  *nettest.Child // nil: it does not

	mu       sync.Mutex
	lives    map[string]uint64    // of the peers that are alive
	since    map[string]time.Time // last change of a peer
	messages []string
	changes  int
}

// A world is three hosts on a switch, with a node each.
type world struct {
	sw    *netlab.Switch
	nodes []*process
}

func newWorld(t *testing.T) *world {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{sw: sw}
	key := cluster.GenerateKey()
	var peers []netip.AddrPort
	for n := range 3 {
		peers = append(peers, netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:%d", n+1, port)))
	}
	for n, addr := range peers {
		name := fmt.Sprintf("n%d", n+1)
		h := nettest.Host(t, lab, name)
		if err := lab.Connect(h, "eth0", sw, netlab.LinkOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := h.Addr("eth0", netip.PrefixFrom(addr.Addr(), 24)); err != nil {
			t.Fatal(err)
		}
		p := &process{host: h, child: child{Name: name, Bind: addr, Peers: peers, Key: key[:], StateDir: t.TempDir()}}
		w.nodes = append(w.nodes, p)
		p.start(t)
	}
	t.Cleanup(func() {
		for _, p := range w.nodes {
			p.kill(t)
		}
	})
	w.whole(t)
	return w
}

// whole waits until everybody sees everybody.
func (w *world) whole(t *testing.T) {
	t.Helper()
	for _, p := range w.nodes {
		for _, q := range w.nodes {
			if p != q {
				p.sees(t, q.Name, q.Life)
			}
		}
	}
}

// start begins the next life.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.Life++
	p.lives, p.since, p.messages, p.changes = make(map[string]uint64), make(map[string]time.Time), nil, 0
	p.run = nettest.StartChild(t, p.host, p.Name, p.child, p.listen)
}

func (p *process) listen(out io.Reader) {
	for d := json.NewDecoder(out); ; {
		var l line
		if d.Decode(&l) != nil {
			return
		}
		p.mu.Lock()
		switch {
		case l.From != "":
			p.messages = append(p.messages, l.From+": "+l.Message)
		case l.Alive:
			p.lives[l.Peer], p.since[l.Peer] = l.Life, time.Now()
			p.changes++
		default:
			delete(p.lives, l.Peer)
			p.since[l.Peer] = time.Now()
			p.changes++
		}
		p.mu.Unlock()
	}
}

// kill ends the process as kill -9 does.
func (p *process) kill(t *testing.T) {
	if p.run == nil {
		return
	}
	if err := p.run.Kill(); err != nil {
		t.Error(err)
	}
	p.run = nil
}

// sees waits until a peer lives a life; 0 is dead. It returns when that was told.
func (p *process) sees(t *testing.T, name string, life uint64) time.Time {
	t.Helper()
	var at time.Time
	nettest.Eventually(t, time.Minute, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		at = p.since[name]
		if p.lives[name] != life {
			return fmt.Errorf("%s sees %v, waits for %s in life %d", p.Name, p.lives, name, life)
		}
		return nil
	})
	return at
}

// seen returns the peers that are alive and how often any changed.
func (p *process) seen() (string, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(p.lives)), " "), p.changes
}

func (p *process) say(t *testing.T, message string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.run.In, message); err != nil {
		t.Fatal(err)
	}
}

func (p *process) gets(t *testing.T, want ...string) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !slices.Equal(p.messages, want) {
			return fmt.Errorf("%s got %q, want %q", p.Name, p.messages, want)
		}
		return nil
	})
}

// port returns the switch's end of a node's cable.
func (p *process) port() string { return p.host.Name + "-eth0" }
