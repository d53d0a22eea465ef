package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

const watchedService = `
  - name: web
    vips: 192.0.2.80
    ports: 80
    forward: nat
    max-fails: 3
    fail-timeout: 3s
    agree: %d
    backends: [{name: b1, address: 192.0.2.21, port: 8080}, {name: b2, address: 192.0.2.22, port: 8080}]
`

// A watchedLab is two directors that send to two backends. The way out of both is the first director.
type watchedLab struct {
	*cluster
	backends []*webServer
}

// A webServer says who it is, and then repeats what it hears.
type webServer struct {
	t        *testing.T
	host     *netlab.Host
	name     string
	listener net.Listener
}

func (s *webServer) start() {
	s.t.Helper()
	var err error
	s.listener, err = s.host.Listen(s.t.Context(), "tcp", ":8080")
	check(s.t, err)
	s.t.Cleanup(func() { s.listener.Close() })
	go repeat(s.listener, s.name)
}

// stop ends the listener. Connections live on, as with a server that has one process for each.
func (s *webServer) stop() { s.listener.Close() }

func newWatchedLab(t *testing.T, agree int) *watchedLab {
	t.Helper()
	l := &watchedLab{}
	l.cluster = newMembers(t, options{
		weights: []int{100, 100}, tuning: []string{patient}, vips: fmt.Sprintf("\n  - address: %s\n", vip4), services: fmt.Sprintf(watchedService, agree),
		beside: func(c *cluster) {
			for _, n := range c.nodes {
				check(t, n.host.Forward())
				// of strangers, who are told of nothing
				check(t, n.host.Route(netip.MustParsePrefix("198.18.0.0/15"), netip.MustParseAddr("192.0.2.254")))
			}
			for i := range 2 {
				s := &webServer{t: t, host: nettest.Host(t, c.lab, fmt.Sprintf("b%d", i+1)), name: fmt.Sprintf("b%d", i+1)}
				check(t, c.lab.Connect(s.host, "eth0", c.sw, netlab.LinkOptions{}))
				check(t, s.host.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", 21+i))))
				gateway := netip.MustParseAddr("192.0.2.11")
				check(t, s.host.Route(netip.MustParsePrefix("0.0.0.0/0"), gateway))
				check(t, s.host.Route(netip.PrefixFrom(clientAddr(vip4), 32), gateway))
				s.start()
				l.backends = append(l.backends, s)
			}
		},
	})
	l.seen(t, l.nodes, "b1 up", "b2 up")
	return l
}

// visitors connect all the time until the test ends, a few at once, and note how that ended.
type visitors struct {
	mu   sync.Mutex
	ends map[string]int // "b1", "refused", "timeout"
}

func (l *watchedLab) visitors(t *testing.T) *visitors {
	c := &visitors{ends: make(map[string]int)}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				end := l.attempt()
				c.mu.Lock()
				c.ends[end]++
				c.mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { cancel(); group.Wait() })
	return c
}

// busy is how long a busy machine may take: directors that hear each other late judge nothing.
const busy = time.Minute

// attempt makes a connection and says how it ended.
func (l *watchedLab) attempt() string {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	conn, err := l.client.Dial(ctx, "tcp", netip.AddrPortFrom(vip4, 80).String())
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case err != nil:
		return "timeout"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	var name [2]byte
	if _, err := conn.Read(name[:]); err != nil {
		return "broken"
	}
	return string(name[:])
}

// since returns how attempts ended from now on, when there were so many.
func (c *visitors) since(t *testing.T, attempts int) map[string]int {
	t.Helper()
	c.mu.Lock()
	clear(c.ends)
	c.mu.Unlock()
	var ends map[string]int
	nettest.Eventually(t, busy, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := 0
		ends = make(map[string]int)
		for end, times := range c.ends {
			ends[end] = times
			n += times
		}
		if n < attempts {
			return fmt.Errorf("%d attempts, want %d", n, attempts)
		}
		return nil
	})
	return ends
}

// events are those about backends that a director knows.
func (l *watchedLab) events(t *testing.T, n *node) []string {
	t.Helper()
	var lines []string
	for _, e := range parse[[]control.Event](t, n.lbctl(t, "events -o json")) {
		if e.Kind == "backend" {
			lines = append(lines, e.What+": "+e.Why)
		}
	}
	return lines
}

func (l *watchedLab) mentions(t *testing.T, want string) bool {
	t.Helper()
	return slices.ContainsFunc(l.events(t, l.nodes[0]), func(line string) bool { return strings.Contains(line, want) })
}

func TestABackendWhoseServerIsGoneGetsNoNewFlows(t *testing.T) {
	l := newWatchedLab(t, 50)
	visitors := l.visitors(t)
	if ends := visitors.since(t, 100); ends["b1"] == 0 || ends["b2"] == 0 || ends["refused"]+ends["broken"] > 0 {
		t.Fatalf("before: %v", ends)
	}
	var old gatewayCall
	for old = l.callApp(t); !strings.HasPrefix(old.hello, "b2 "); old = l.callApp(t) {
	}
	l.backends[1].stop()
	l.seen(t, l.nodes, "b1 up", "b2 failing: passive: ...")
	// what both directors said at once may still have been on its way
	visitors.since(t, 20)
	failing := func() bool {
		for _, n := range l.nodes {
			status, err := n.status()
			check(t, err)
			if got := statesOf(status); !strings.HasPrefix(got[1], "b2 failing: passive: ") || !strings.Contains(got[1], " fails in 3s") || !strings.Contains(got[1], ", back in ") {
				return false
			}
		}
		return true
	}
	nettest.Eventually(t, busy, func() error { // it is tried again now and then
		before := failing()
		ends := visitors.since(t, 40)
		if !before || !failing() {
			return errors.New("it was tried again meanwhile")
		}
		if ends["b1"] < 20 || ends["b2"]+ends["refused"]+ends["broken"] > 0 {
			return fmt.Errorf("while it fails: %v", ends)
		}
		return nil
	})
	old.say(t, "are you still there?")
	if !l.mentions(t, "backend web/b2 is failing: passive: ") {
		t.Errorf("no event says so: %q", l.events(t, l.nodes[0]))
	}
	l.backends[1].start()
	l.seen(t, l.nodes, "b1 up", "b2 up")
	nettest.Eventually(t, busy, func() error {
		if ends := visitors.since(t, 40); ends["b2"] == 0 || ends["refused"] > 0 {
			return fmt.Errorf("when it was back: %v", ends)
		}
		return nil
	})
	old.say(t, "and now?")
	if l.mentions(t, "web/b1") {
		t.Errorf("something happened to the other one: %q", l.events(t, l.nodes[0]))
	}
}

func TestABackendWhoseAnswersAreLostGetsNoNewFlows(t *testing.T) {
	l := newWatchedLab(t, 50)
	visitors := l.visitors(t)
	nowhere := &netlink.Route{Dst: netlink.NewIPNet(clientAddr(vip4).AsSlice()), Type: unix.RTN_BLACKHOLE, Priority: 0}
	replace := func(host *netlab.Host, route *netlink.Route) {
		t.Helper()
		check(t, host.Do(func() error { return netlink.RouteReplace(route) }))
	}
	replace(l.backends[0].host, nowhere)
	l.seen(t, l.nodes, "b1 failing: passive: ...", "b2 up")
	// the last one is not taken out
	replace(l.backends[1].host, nowhere)
	nettest.Eventually(t, busy, func() error {
		status, err := l.nodes[1].status()
		if err != nil {
			return err
		}
		for _, b := range status.Backends {
			if b.State != "failing" || b.Share == 0 || !strings.HasSuffix(b.Why, "; used all the same, as too few are up") {
				return fmt.Errorf("want both failing and used all the same: %q", statesOf(status))
			}
		}
		return nil
	})
	for _, s := range l.backends {
		check(t, s.host.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{Dst: nowhere.Dst, Gw: net.IPv4(192, 0, 2, 11), LinkIndex: link.Attrs().Index})
		}))
	}
	l.seen(t, l.nodes, "b1 up", "b2 up")
	nettest.Eventually(t, busy, func() error {
		if ends := visitors.since(t, 40); ends["b1"] == 0 || ends["b2"] == 0 || ends["timeout"] > 0 {
			return fmt.Errorf("when both were back: %v", ends)
		}
		return nil
	})
}

// Half of the SYNs come by a director that sees no answer at all, as the way out of both backends is the
// other one. Nobody who sent them ever goes on.
func TestAFloodOfSYNsTakesNoBackendOut(t *testing.T) {
	l := newWatchedLab(t, 100) // one director that is mistaken is enough
	vip := net.HardwareAddr{0x03, 0xbf, 192, 0, 2, 80}
	sent := 0
	check(t, l.client.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(eth0, packet.Raw, unix.ETH_P_LOOP, nil) // receives nothing that there is
		if err != nil {
			return err
		}
		defer conn.Close()
		random := rand.New(rand.NewPCG(1, 2))
		for start := time.Now(); time.Since(start) < 6*time.Second; time.Sleep(time.Millisecond) {
			for range 5 {
				from := random.Uint32()
				frame := packettest.Frame(packettest.Ethernet{Dst: vip, Src: eth0.HardwareAddr},
					packettest.IPv4{Src: netip.AddrFrom4([4]byte{198, 18 + byte(from>>16)&1, byte(from >> 8), byte(from)}), Dst: vip4, TTL: 64},
					packettest.TCP{Src: uint16(1024 + random.UintN(60000)), Dst: 80, Flags: packettest.SYN, Sequence: random.Uint32()})
				if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: vip}); err != nil {
					return err
				}
				sent++
			}
		}
		return nil
	}))
	for _, n := range l.nodes {
		if forwarded := n.counted(t, "forwarded"); forwarded < uint64(sent/4) {
			t.Errorf("%s sent %d of %d SYNs to backends: this test shows little", n.name, forwarded, sent)
		}
		for _, line := range l.events(t, n) {
			if strings.Contains(line, "failing") {
				t.Errorf("%s: %s", n.name, line)
			}
		}
	}
	if seen := l.nodes[1].replies(t); seen > 0 {
		t.Errorf("the second director saw %d answers: this test shows little", seen)
	}
	l.seen(t, l.nodes, "b1 up", "b2 up")
	t.Logf("%d SYNs", sent)
}
