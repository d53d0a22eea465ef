package member_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/ownership"
)

// witness is a host of every lab.
var witness = netip.MustParseAddr("192.0.2.254")

// A lab is hosts on a switch, with a member each.
type lab struct {
	sw    *netlab.Switch
	nodes []*process
	other *netlab.Host // without a member
}

// A process is a running child and what it said, whatever its process.
type process struct {
	child
	host    *netlab.Host
	run     *nettest.Child // nil: it does not
	answers chan line

	mu       sync.Mutex
	said     []line // Kernel and Lease
	happened []string
}

// newLab makes hosts for nodes n1, n2, ...; none runs yet. change may be nil.
func newLab(t *testing.T, nodes int, change func(*child)) *lab {
	t.Helper()
	l := new(lab)
	network := nettest.New(t)
	var err error
	if l.sw, err = network.Switch("sw", netlab.SwitchOptions{}); err != nil {
		t.Fatal(err)
	}
	var peers []netip.AddrPort
	var names []string
	for n := range nodes {
		peers = append(peers, netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:7946", n+1)))
		names = append(names, fmt.Sprintf("n%d", n+1))
	}
	key := cluster.GenerateKey()
	for n, name := range names {
		p := &process{answers: make(chan line, 1), child: child{
			Name: name, Nodes: names, Bind: peers[n], Peers: peers, Key: key, Dir: t.TempDir(), Beat: calm,
		}}
		if change != nil {
			change(&p.child)
		}
		p.host = l.host(t, network, name, p.Bind.Addr())
		l.nodes = append(l.nodes, p)
	}
	l.other = l.host(t, network, "w", witness)
	t.Cleanup(func() {
		for _, p := range l.nodes {
			p.kill(t)
		}
		if t.Failed() {
			l.tell(t)
		}
	})
	return l
}

func (l *lab) host(t *testing.T, network *netlab.Lab, name string, address netip.Addr) *netlab.Host {
	t.Helper()
	h := nettest.Host(t, network, name)
	if err := network.Connect(h, "eth0", l.sw, netlab.LinkOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Addr("eth0", netip.PrefixFrom(address, 24)); err != nil {
		t.Fatal(err)
	}
	return h
}

// start begins a process of a node.
func (p *process) start(t *testing.T) {
	t.Helper()
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
		case l.Answer != "":
			p.answers <- l
		case l.Happened != "":
			p.happened = append(p.happened, fmt.Sprintf("%.3f %s", l.At.Seconds(), l.Happened))
		default:
			p.said = append(p.said, l)
		}
		p.mu.Unlock()
	}
}

// kill ends the process as kill -9 does; its kernel goes on.
func (p *process) kill(t *testing.T) {
	if p.run == nil {
		return
	}
	_ = p.run.Kill() // it may have ended
	p.run = nil
}

// ends waits for the end of the process.
func (p *process) ends(t *testing.T) {
	t.Helper()
	p.run.Wait()
	p.run = nil
}

// ask gives a command and returns the answer.
func (p *process) ask(t *testing.T, command, want string) line {
	t.Helper()
	if _, err := fmt.Fprintln(p.run.In, command); err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-p.answers:
		if l.Answer != want {
			t.Fatalf("%s, to %q: %s", p.Name, command, l.Answer)
		}
		return l
	case <-time.After(15 * time.Second):
		t.Fatalf("%s, to %q: no answer", p.Name, command)
		return line{}
	}
}

func (p *process) port() string { return p.host.Name + "-eth0" }

// A moment is what a node's kernel does from a time on.
type moment struct {
	at     time.Duration
	node   string
	tables map[string]tables
	lease  time.Duration
}

// holds returns what new flows find at a time.
func (m *moment) holds(domain string, at time.Duration) tables {
	if at >= m.lease {
		return tables{}
	}
	return m.tables[domain]
}

// history returns what all kernels did since a time, in order; it begins with what they did then.
func (l *lab) history(since time.Duration) []moment {
	var all []moment
	for _, p := range l.nodes {
		now := moment{node: p.Name}
		p.mu.Lock()
		for _, said := range p.said {
			now.at = said.At
			if said.Kernel != nil {
				now.tables = said.Kernel
			} else {
				now.lease = said.Lease
			}
			all = append(all, now)
		}
		p.mu.Unlock()
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	first := make(map[string]moment)
	for i := range all {
		if all[i].at >= since {
			break
		}
		first[all[i].node] = all[i]
	}
	begin := slices.IndexFunc(all, func(m moment) bool { return m.at >= since })
	if begin < 0 {
		begin = len(all)
	}
	var out []moment
	for _, name := range slices.Sorted(maps.Keys(first)) {
		m := first[name]
		m.at = since
		out = append(out, m)
	}
	return append(out, all[begin:]...)
}

// domains are those that all children serve.
var domains = []string{"", "nodes"}

// replay calls visit for the state after each change since a time.
func (l *lab) replay(since time.Duration, visit func(at time.Duration, node string, all map[string]moment)) {
	now := make(map[string]moment)
	for _, m := range l.history(since) {
		now[m.node] = m
		if m.at > since || len(now) == len(l.nodes) {
			visit(m.at, m.node, now)
		}
	}
}

// neverTwo says that no new flow had two takers since a time, by what was told until now.
func (l *lab) neverTwo(t *testing.T, since time.Duration) {
	t.Helper()
	checked := 0
	l.replay(since, func(at time.Duration, node string, all map[string]moment) {
		for _, domain := range domains {
			mine := all[node]
			have := mine.holds(domain, at).Accept
			for name, other := range all {
				if name == node {
					continue
				}
				checked++
				if both := have.And(other.holds(domain, at).Accept); !both.Empty() && !t.Failed() {
					t.Errorf("at %.3f %s and %s both take %d buckets of %q", at.Seconds(), node, name, both.Len(), domain)
				}
			}
		}
	})
	if checked == 0 {
		t.Error("nothing was checked")
	}
}

// neverNone says that each new flow had a taker since a time.
func (l *lab) neverNone(t *testing.T, since time.Duration) {
	t.Helper()
	l.replay(since, func(at time.Duration, _ string, all map[string]moment) {
		for _, domain := range domains {
			var taken ownership.Set
			for _, m := range all {
				holds := m.holds(domain, at)
				taken.AddAll(holds.Accept)
				taken.AddAll(holds.Delegate)
			}
			if n := taken.Len(); n != lb.Buckets && !t.Failed() {
				t.Errorf("at %.3f %d buckets of %q have no taker", at.Seconds(), lb.Buckets-n, domain)
			}
		}
	})
}

// shares returns how many buckets of a domain each node takes now.
func (l *lab) shares(domain string) map[string]int {
	shares := make(map[string]int)
	now := datapath.Monotonic()
	for _, p := range l.nodes {
		var last moment
		p.mu.Lock()
		for _, said := range slices.Backward(p.said) {
			if said.Kernel != nil && last.tables == nil {
				last.tables = said.Kernel
			}
			if said.Lease != 0 && last.lease == 0 {
				last.lease = said.Lease
			}
			if last.tables != nil && last.lease != 0 {
				break
			}
		}
		p.mu.Unlock()
		if n := last.holds(domain, now).Accept.Len(); n > 0 {
			shares[p.Name] = n
		}
	}
	return shares
}

// shared waits until these nodes, and nobody else, take all buckets, about as many each.
func (l *lab) shared(t *testing.T, within time.Duration, names ...string) (at time.Duration) {
	t.Helper()
	nettest.Eventually(t, within, func() error {
		for _, domain := range domains {
			shares := l.shares(domain)
			sum := 0
			for _, n := range shares {
				sum += n
				if n < lb.Buckets/len(names)*9/10 {
					return fmt.Errorf("%q: %v", domain, shares)
				}
			}
			if !slices.Equal(slices.Sorted(maps.Keys(shares)), names) || sum != lb.Buckets {
				return fmt.Errorf("%q: %v, %d of all", domain, shares, sum)
			}
		}
		return nil
	})
	return datapath.Monotonic()
}

// tell logs what happened.
func (l *lab) tell(t *testing.T) {
	for _, p := range l.nodes {
		p.mu.Lock()
		t.Logf("%s:\n%s", p.Name, strings.Join(p.happened, "\n"))
		p.mu.Unlock()
	}
}

// form starts all nodes and waits until they share everything.
func (l *lab) form(t *testing.T) {
	t.Helper()
	var names []string
	for _, p := range l.nodes {
		p.start(t)
		names = append(names, p.Name)
	}
	begin := time.Now()
	l.shared(t, 20*time.Second, names...)
	// A peer that never said that it hears somebody cannot have changed its mind.
	nettest.Eventually(t, time.Minute, func() error {
		for _, p := range l.nodes {
			if hearers := p.ask(t, "status", "status").Hearers; !slices.Equal(hearers, names) {
				return fmt.Errorf("%s is heard by %q", p.Name, hearers)
			}
		}
		return nil
	})
	t.Logf("a cluster of %d after %s", len(names), time.Since(begin).Round(time.Millisecond))
}

// renewed says whether the lease is one that has to be renewed: that of a leave is longer.
func (p *process) renewed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, said := range slices.Backward(p.said) {
		if said.Lease != 0 {
			if left := said.Lease - said.At; left > p.lease() {
				return fmt.Errorf("%s has a lease of %s", p.Name, left)
			}
			return nil
		}
	}
	return fmt.Errorf("%s has no lease", p.Name)
}

// unmoved says that since a time no node took or gave a bucket.
func (l *lab) unmoved(t *testing.T, since time.Duration) {
	t.Helper()
	first := make(map[string]map[string]tables)
	l.replay(since, func(at time.Duration, node string, all map[string]moment) {
		for name, m := range all {
			if first[name] == nil {
				first[name] = m.tables
			}
		}
		for _, domain := range domains {
			was, is := first[node][domain].Accept, all[node].tables[domain].Accept
			if !was.Equal(is) && !t.Failed() {
				t.Errorf("at %.3f %s takes %d buckets of %q, took %d", at.Seconds(), node, is.Len(), domain, was.Len())
			}
		}
	})
}
