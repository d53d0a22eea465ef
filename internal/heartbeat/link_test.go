package heartbeat_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

const (
	interval = heartbeat.DefaultInterval
	hint     = heartbeat.DefaultDeadAfter
	// slack is for a busy machine.
	slack = 250 * time.Millisecond
)

// A node sends heartbeats from a host of its own.
type node struct {
	*heartbeat.Heartbeat
	host *netlab.Host
	log  *lockedWriter
	stop func()

	mu   sync.Mutex
	told [][]string // the view each time that there was news
}

// A site is a switch and hosts n1, n2, ... with eth0 in it.
type site struct {
	lab   *netlab.Lab
	sw    *netlab.Switch
	hosts []*netlab.Host
}

func newSite(t *testing.T, hosts int) *site {
	t.Helper()
	s := &site{lab: nettest.New(t)}
	sw, err := s.lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.sw = sw
	for n := range hosts {
		h := nettest.Host(t, s.lab, fmt.Sprintf("n%d", n+1))
		s.connect(t, h)
		s.hosts = append(s.hosts, h)
	}
	return s
}

func (s *site) connect(t *testing.T, h *netlab.Host) {
	t.Helper()
	if err := s.lab.Connect(h, "eth0", s.sw, netlab.LinkOptions{}); err != nil {
		t.Fatal(err)
	}
}

// options are those of node number n.
func options(n int) heartbeat.Options {
	return heartbeat.Options{
		Interface: "eth0", Cluster: "prod", Node: fmt.Sprintf("n%d", n), Life: 1, Keys: [][]byte{[]byte("secret")},
	}
}

// start runs a node on the host of its number until the test ends.
func (s *site) start(t *testing.T, host int, opts heartbeat.Options) *node {
	t.Helper()
	n := &node{host: s.hosts[host-1], log: new(lockedWriter)}
	opts.Log = slog.New(slog.NewTextHandler(n.log, nil))
	opts.Changed = func() {
		view := n.view()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.told = append(n.told, view)
	}
	h, err := heartbeat.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	n.Heartbeat = h
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.host.Do(func() error { return h.Run(ctx) }) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", opts.Node, err)
		}
	})
	t.Cleanup(n.stop)
	nettest.Eventually(t, time.Minute, func() error {
		if link := h.Link(); !link.Up {
			return fmt.Errorf("link: %+v", link)
		}
		return nil
	})
	return n
}

// lockedWriter is for loggers of several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedWriter) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// view says about each peer what does not change all the time.
func (n *node) view() []string {
	var view []string
	for _, p := range n.Peers() {
		view = append(view, fmt.Sprintf("%s/%d silent=%v hears_me=%v", p.Name, p.Life, p.Silent, p.HearsMe))
	}
	return view
}

// remains checks that the view is this, and that it was never told to be another since it had been
// told to be this for the first time.
func (n *node) remains(t *testing.T, want ...string) {
	t.Helper()
	var told [][]string
	nettest.Eventually(t, time.Second, func() error { // the view is there a moment before it is told
		n.mu.Lock()
		defer n.mu.Unlock()
		first := slices.IndexFunc(n.told, func(view []string) bool { return slices.Equal(view, want) })
		if first < 0 {
			return fmt.Errorf("%s was never told of %q", n.host.Name, want)
		}
		told = slices.Clone(n.told[first:])
		return nil
	})
	for _, view := range append(told, n.view()) {
		if diff := cmp.Diff(want, view); diff != "" {
			t.Errorf("%s: view (-want +got):\n%s", n.host.Name, diff)
		}
	}
}

// sees waits for a view, and returns how long that took.
func (n *node) sees(t *testing.T, within time.Duration, want ...string) time.Duration {
	t.Helper()
	begin := time.Now()
	nettest.Eventually(t, within, func() error {
		if diff := cmp.Diff(want, n.view()); diff != "" {
			return fmt.Errorf("%s: view (-want +got):\n%s", n.host.Name, diff)
		}
		return nil
	})
	return time.Since(begin)
}

// drops waits until exactly these reasons have counted.
func (n *node) drops(t *testing.T, want map[heartbeat.Reason]uint64) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		got := n.Counters().Dropped
		maps.DeleteFunc(got, func(_ heartbeat.Reason, count uint64) bool { return count == 0 })
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("dropped (-want +got):\n%s", diff)
		}
		return nil
	})
}

// A wire sends frames of our kind at a host's eth0.
type wire struct{ *packet.Conn }

func openWire(t *testing.T, h *netlab.Host) wire {
	t.Helper()
	return wire{listen(t, h, "eth0", heartbeat.EtherType, nil)}
}

func listen(t *testing.T, h *netlab.Host, ifname string, protocol int, filter []bpf.RawInstruction) *packet.Conn {
	t.Helper()
	var conn *packet.Conn
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName(ifname)
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, protocol, &packet.Config{Filter: filter})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A tap hears what a host sends, and nothing else, at its port of the switch.
type tap struct {
	*heartbeat.Tap
	mac net.HardwareAddr // of the host
}

func (s *site) tap(t *testing.T, h *netlab.Host) tap {
	t.Helper()
	mac, err := h.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(mac), SkipTrue: 3},
		bpf.LoadAbsolute{Off: 10, Size: 4}, // the rest of the source, and the EtherType
		bpf.JumpIf{
			Cond: bpf.JumpNotEqual, SkipTrue: 1,
			Val: uint32(binary.BigEndian.Uint16(mac[4:]))<<16 | heartbeat.EtherType,
		},
		bpf.RetConstant{Val: 2048},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	// A bridge takes its ports' frames before sockets of one protocol see them.
	conn := listen(t, s.sw.Host, h.Name+"-eth0", unix.ETH_P_ALL, filter)
	heard, err := heartbeat.NewTap(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return tap{heard, mac}
}

// next returns the next frame without its Ethernet header, and when it passed.
func (w tap) next(t *testing.T) (payload []byte, at time.Time) {
	t.Helper()
	payload, from, at, err := w.Next()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(from, w.mac) {
		t.Fatalf("a frame from %s, not %s", from, w.mac)
	}
	return payload, at
}

func (w wire) send(t *testing.T, to [6]byte, from net.HardwareAddr, etherType int, payload []byte) {
	t.Helper()
	if _, err := w.WriteTo(etherFrame(to, from, etherType, payload), &packet.Addr{HardwareAddr: to[:]}); err != nil {
		t.Fatal(err)
	}
}

func etherFrame(to [6]byte, from net.HardwareAddr, etherType int, payload []byte) []byte {
	return slices.Concat(to[:], from, []byte{byte(etherType >> 8), byte(etherType)}, payload)
}

// cut drops what goes from a port of the switch to another, until mend is called.
func (s *site) cut(t *testing.T, from, to string) (mend func()) {
	t.Helper()
	change := func(do func(*nftables.Conn)) {
		t.Helper()
		err := s.sw.Host.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			do(c)
			return c.Flush()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	table := &nftables.Table{Name: "cut", Family: nftables.TableFamilyBridge}
	change(func(c *nftables.Conn) {
		chain := c.AddChain(&nftables.Chain{
			Name: "forward", Table: c.AddTable(table), Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		name := func(s string) []byte { return append([]byte(s), make([]byte, unix.IFNAMSIZ-len(s))...) }
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name(from)},
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name(to)},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	})
	return func() { t.Helper(); change(func(c *nftables.Conn) { c.DelTable(table) }) }
}

func TestNodesHearEachOtherWithinThreeIntervals(t *testing.T) {
	s := newSite(t, 3)
	n1 := s.start(t, 1, options(1))
	n2 := s.start(t, 2, options(2))
	n1.sees(t, 3*interval+slack, "n2/1 silent=false hears_me=true")
	n3 := s.start(t, 3, options(3))
	took := n3.sees(t, 3*interval+slack, "n1/1 silent=false hears_me=true", "n2/1 silent=false hears_me=true")
	n1.sees(t, 3*interval+slack, "n2/1 silent=false hears_me=true", "n3/1 silent=false hears_me=true")
	n2.sees(t, 3*interval+slack, "n1/1 silent=false hears_me=true", "n3/1 silent=false hears_me=true")
	t.Logf("a third node and the others know of each other after %s", took.Round(time.Millisecond))

	for i, n := range []*node{n1, n2, n3} {
		for _, p := range n.Peers() {
			mac, err := s.hosts[p.Name[1]-'1'].MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.MAC, mac) {
				t.Errorf("n%d: %s is at %s, not %s", i+1, p.Name, mac, p.MAC)
			}
			if age := time.Since(p.LastHeard); age < 0 || age > hint {
				t.Errorf("n%d: %s was heard %s ago", i+1, p.Name, age)
			}
		}
		n.drops(t, map[heartbeat.Reason]uint64{})
		n.remains(t, n.view()...)
	}
}

func TestSilenceIsNoticedInTime(t *testing.T) {
	s := newSite(t, 2)
	n1 := s.start(t, 1, options(1))
	var took []time.Duration
	for round := range 10 {
		opts := options(2)
		opts.Life = uint64(round + 1)
		n2 := s.start(t, 2, opts)
		n1.sees(t, 3*interval+slack, fmt.Sprintf("n2/%d silent=false hears_me=true", opts.Life))
		n2.stop()
		last := n1.Peers()[0].LastHeard
		n1.sees(t, hint+slack, fmt.Sprintf("n2/%d silent=true hears_me=true", opts.Life))
		took = append(took, n1.Peers()[0].SilentSince.Sub(last))
	}
	slices.Sort(took)
	t.Logf("after the last frame: median %s, last %s", took[len(took)/2], took[len(took)-1])
	if took[0] < hint || took[len(took)-1] > hint+slack {
		t.Errorf("silences: %v", took)
	}
}

func TestAOneWayCutIsSeenFromBothSides(t *testing.T) {
	s := newSite(t, 2)
	n1, n2 := s.start(t, 1, options(1)), s.start(t, 2, options(2))
	whole := func() {
		t.Helper()
		n1.sees(t, 5*interval+slack, "n2/1 silent=false hears_me=true")
		n2.sees(t, 5*interval+slack, "n1/1 silent=false hears_me=true")
	}
	whole()
	for range 3 {
		mend := s.cut(t, "n1-eth0", "n2-eth0")
		begin := time.Now()
		// n2 finds n1 silent after the hint time, and its next frame says so.
		n1.sees(t, hint+interval+slack, "n2/1 silent=false hears_me=false")
		took := time.Since(begin)
		n2.sees(t, slack, "n1/1 silent=true hears_me=true")
		t.Logf("n1 knows after %s that it is not heard", took.Round(time.Millisecond))
		mend()
		whole()
	}
}

func TestFramesThatAreNotForUsAreCountedAndIgnored(t *testing.T) {
	s := newSite(t, 3)
	n1, n2 := s.start(t, 1, options(1)), s.start(t, 2, options(2))
	n1.sees(t, 3*interval+slack, "n2/1 silent=false hears_me=true")
	tap := s.tap(t, n2.host)
	mac := tap.mac
	recorded, _ := tap.next(t)
	n2.stop()
	const dead = "n2/1 silent=true hears_me=true"
	n1.sees(t, hint+slack, dead)

	w := openWire(t, s.hosts[2])
	own, err := s.hosts[0].MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	forge := func(node string, life, counter uint64) []byte {
		return heartbeat.Forge("prod", node, life, counter, 0, "secret")
	}
	flipped := forge("n2", 2, 1)
	flipped[11] ^= 1
	garbage := make([]byte, 1000)
	rand.Read(garbage)
	want := map[heartbeat.Reason]uint64{}
	for _, frame := range []struct {
		reason  heartbeat.Reason
		from    net.HardwareAddr
		payload []byte
	}{
		{heartbeat.Replayed, mac, recorded},
		{heartbeat.Replayed, mac, recorded},
		{heartbeat.Replayed, mac, forge("n2", 1, 1)},
		{heartbeat.BadMAC, mac, flipped},
		{heartbeat.BadMAC, mac, heartbeat.Forge("prod", "n2", 9, 1, 0, "guess")},
		{heartbeat.ForeignCluster, mac, heartbeat.Forge("test", "n2", 9, 1, 0, "secret")},
		{heartbeat.Malformed, mac, nil},
		{heartbeat.Malformed, mac, []byte{1}},
		{heartbeat.Malformed, mac, garbage},
		{heartbeat.Malformed, mac, forge("n2", 9, 1)[:40]},
		{heartbeat.Malformed, mac, forge("n2", 9, 0)},
		{heartbeat.Malformed, mac, forge("n2", 0, 1)},
		{heartbeat.Malformed, mac, forge("", 9, 1)},
		{heartbeat.OwnEcho, own, forge("n1", 1, 1)},
		{heartbeat.NameClash, mac, forge("n1", 1, 1)},
	} {
		w.send(t, heartbeat.Group, frame.from, heartbeat.EtherType, frame.payload)
		want[frame.reason]++
	}
	n1.drops(t, want)

	// These do not even reach us.
	for i := range 6 {
		near := heartbeat.Group
		near[i] ^= 0x80
		w.send(t, near, mac, heartbeat.EtherType, forge("n2", 9, 1))
	}
	w.send(t, heartbeat.Group, mac, heartbeat.EtherType+1, forge("n2", 9, 1))
	w.send(t, heartbeat.Group, mac, 0x0800, forge("n2", 9, 1))
	// What comes after them does.
	w.send(t, heartbeat.Group, mac, heartbeat.EtherType, nil)
	want[heartbeat.Malformed]++
	n1.drops(t, want)
	if diff := cmp.Diff([]string{dead}, n1.view()); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	if got := strings.Count(n1.log.String(), "another machine sends heartbeats with our name"); got != 1 {
		t.Errorf("%d lines about the name clash in\n%s", got, n1.log.String())
	}
}

func TestGarbageChangesNothing(t *testing.T) {
	s := newSite(t, 3)
	n1 := s.start(t, 1, options(1))
	s.start(t, 2, options(2))
	n1.sees(t, 3*interval+slack, "n2/1 silent=false hears_me=true")
	w := openWire(t, s.hosts[2])
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	garbage := make([]byte, 64<<10)
	rand.Read(garbage)
	valid := heartbeat.Forge("prod", "n2", 9, 1, 0, "secret")
	for range 5 {
		for rest := garbage; len(rest) > 0; {
			n := min(len(rest), 1+int(rest[0])*5) // of every size
			w.send(t, heartbeat.Group, mac, heartbeat.EtherType, rest[:n])
			rest = rest[n:]
		}
		for n := range valid {
			w.send(t, heartbeat.Group, mac, heartbeat.EtherType, valid[:n])
		}
		time.Sleep(interval)
	}
	dropped := n1.Counters().Dropped
	if dropped[heartbeat.Malformed] < 500 {
		t.Errorf("dropped: %v", dropped)
	}
	n1.remains(t, "n2/1 silent=false hears_me=true")
}

func TestAnInterfaceMayGoDownVanishAndComeBack(t *testing.T) {
	s := newSite(t, 2)
	n1, n2 := s.start(t, 1, options(1)), s.start(t, 2, options(2))
	link := func(want heartbeat.Link) {
		t.Helper()
		nettest.Eventually(t, time.Minute, func() error {
			got := n1.Link()
			got.Since = time.Time{}
			if diff := cmp.Diff(want, got); diff != "" {
				return fmt.Errorf("link (-want +got):\n%s", diff)
			}
			return nil
		})
	}
	whole := func() {
		t.Helper()
		link(heartbeat.Link{Up: true})
		n1.sees(t, 5*interval+slack, "n2/1 silent=false hears_me=true")
		n2.sees(t, 5*interval+slack, "n1/1 silent=false hears_me=true")
	}
	apart := func(why string) {
		t.Helper()
		link(heartbeat.Link{Error: why})
		n1.sees(t, hint+slack, "n2/1 silent=true hears_me=true")
		n2.sees(t, hint+slack, "n1/1 silent=true hears_me=true")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	whole()

	must(n1.host.Down("eth0"))
	apart("interface is down")
	must(n1.host.Up("eth0"))
	whole()

	must(n1.host.Do(func() error {
		eth0, err := netlink.LinkByName("eth0")
		return errors.Join(err, netlink.LinkDel(eth0))
	}))
	apart("route ip+net: no such network interface")
	s.connect(t, n1.host)
	whole()

	must(n1.host.SetMAC("eth0", net.HardwareAddr{2, 0, 0, 0, 0, 0x77}))
	nettest.Eventually(t, time.Minute, func() error {
		if got := n2.Peers()[0].MAC.String(); got != "02:00:00:00:00:77" {
			return fmt.Errorf("n2 hears n1 from %s", got)
		}
		return nil
	})
	whole()
}

func TestTheGroupIsJoined(t *testing.T) {
	s := newSite(t, 1)
	n1 := s.start(t, 1, options(1))
	joined := func() string {
		var text []byte
		err := s.hosts[0].Do(func() (err error) {
			text, err = os.ReadFile("/proc/thread-self/net/dev_mcast")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// veth lets everything pass; a network card does not.
	group := fmt.Sprintf("%x", heartbeat.Group)
	if text := joined(); !strings.Contains(text, group) {
		t.Errorf("no %s in\n%s", group, text)
	}
	n1.stop()
	if text := joined(); strings.Contains(text, group) {
		t.Errorf("%s left in\n%s", group, text)
	}
}

func TestAbsenceIsAnnounced(t *testing.T) {
	s := newSite(t, 2)
	n1, n2 := s.start(t, 1, options(1)), s.start(t, 2, options(2))
	n1.sees(t, 3*interval+slack, "n2/1 silent=false hears_me=true")
	n2.SetAbsence(10 * time.Second)
	begin := time.Now()
	nettest.Eventually(t, interval+slack, func() error {
		if left := n1.Peers()[0].AbsentUntil.Sub(begin); left < 9*time.Second || left > 11*time.Second {
			return fmt.Errorf("absent for %s", left)
		}
		return nil
	})
	n2.stop()
	n1.sees(t, hint+slack, "n2/1 silent=true hears_me=true") // what follows from it is for others to say
	if n1.Peers()[0].AbsentUntil.IsZero() {
		t.Error("forgotten")
	}
	opts := options(2)
	opts.Life = 2
	s.start(t, 2, opts)
	n1.sees(t, 3*interval+slack, "n2/2 silent=false hears_me=true")
	if until := n1.Peers()[0].AbsentUntil; !until.IsZero() {
		t.Errorf("still absent until %s", until)
	}
}

func TestKeysAreRotatedWithoutASilence(t *testing.T) {
	s := newSite(t, 2)
	nodes := []*node{s.start(t, 1, options(1)), s.start(t, 2, options(2))}
	for i, n := range nodes {
		n.sees(t, 3*interval+slack, fmt.Sprintf("n%d/1 silent=false hears_me=true", 2-i))
	}
	old, fresh := []byte("secret"), []byte("fresh")
	for _, keys := range [][][]byte{{old, fresh}, {fresh, old}, {fresh}} {
		for _, n := range nodes {
			if err := n.ReplaceKeys(keys); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * interval / 2)
		}
	}
	time.Sleep(hint)
	for i, n := range nodes {
		n.drops(t, map[heartbeat.Reason]uint64{})
		n.remains(t, fmt.Sprintf("n%d/1 silent=false hears_me=true", 2-i))
	}
	// Who still has the old one alone is not heard.
	if err := nodes[1].ReplaceKeys([][]byte{old}); err != nil {
		t.Fatal(err)
	}
	nodes[0].sees(t, hint+interval+slack, "n2/1 silent=true hears_me=true")
}

func TestTheRhythmIsKeptUnderLoad(t *testing.T) {
	s := newSite(t, 2)
	n1 := s.start(t, 1, options(1))
	tap := s.tap(t, n1.host)
	flood := openWire(t, s.hosts[1])
	var stopped atomic.Bool
	var load sync.WaitGroup
	defer load.Wait()
	defer stopped.Store(true)
	for range 2 * runtime.NumCPU() {
		load.Go(func() {
			for n := 0; !stopped.Load(); n++ {
			}
		})
	}
	load.Go(func() { // frames that have to be looked at, as fast as it goes
		frame := etherFrame(heartbeat.Group, net.HardwareAddr{2, 0, 0, 0, 0, 9}, heartbeat.EtherType,
			heartbeat.Forge("prod", "n9", 1, 1, 0, "guess"))
		for !stopped.Load() {
			_, _ = flood.WriteTo(frame, &packet.Addr{HardwareAddr: heartbeat.Group[:]})
		}
	})
	// Others on this machine may take our turn once, but not each time.
	const rounds = 3
	for round := range rounds {
		gaps := tap.gaps(t, 30)
		middle, worst := gaps[len(gaps)/2], gaps[len(gaps)-1]
		t.Logf("between frames: first %s, median %s, last %s", gaps[0], middle, worst)
		if middle > interval*9/10 && middle < interval*13/10 && worst < hint {
			return
		}
		if round == rounds-1 {
			t.Errorf("median %s, want about %s; a gap of %s, and after %s the peers think that we are silent",
				middle, interval, worst, hint)
		}
	}
}

// gaps returns the times between n+1 frames, sorted.
func (w tap) gaps(t *testing.T, n int) []time.Duration {
	t.Helper()
	var gaps []time.Duration
	_, last := w.next(t)
	for range n {
		_, at := w.next(t)
		gaps = append(gaps, at.Sub(last))
		last = at
	}
	slices.Sort(gaps)
	return gaps
}

func TestMistakesInOptionsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*heartbeat.Options){
		"heartbeat: no key: give the cluster's, or say that the network is to be trusted": func(o *heartbeat.Options) { o.Keys = nil },
		"heartbeat: a key, but insecure: want one of them":                                func(o *heartbeat.Options) { o.Insecure = true },
		"heartbeat: life 0: want the number of this start":                                func(o *heartbeat.Options) { o.Life = 0 },
		`heartbeat: interface name "": want 1 to 63 bytes`:                                func(o *heartbeat.Options) { o.Interface = "" },
		"heartbeat: interval 1ms: at least 5ms":                                           func(o *heartbeat.Options) { o.Interval = time.Millisecond },
		"heartbeat: dead after 350ms: less than two intervals of 200ms":                   func(o *heartbeat.Options) { o.Interval = 200 * time.Millisecond },
	} {
		opts := options(1)
		change(&opts)
		if _, err := heartbeat.New(opts); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
