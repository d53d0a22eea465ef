package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A backendLab is a client, a director that is played by this test, and a backend with its lbd. The
// client's packets for the VIPs go to the director.
type backendLab struct {
	*cluster
	backend  *node
	director *netlab.Host
	asker    *netlab.Host // who is told of no director
}

var (
	director4, director6 = netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8::100")
	server4, server6     = netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")
)

func newBackendLab(t *testing.T, file string) *backendLab {
	t.Helper()
	l := &backendLab{cluster: newMachines(t, options{weights: []int{100}})}
	l.backend = l.nodes[0]
	t.Cleanup(l.backend.remove)
	l.director, l.asker = nettest.Host(t, l.lab, "director"), nettest.Host(t, l.lab, "asker")
	for host, addrs := range map[*netlab.Host][]netip.Addr{
		l.director: {director4, director6},
		l.asker:    {netip.MustParseAddr("192.0.2.201"), netip.MustParseAddr("2001:db8::201")},
	} {
		check(t, l.lab.Connect(host, "eth0", l.sw, netlab.LinkOptions{}))
		check(t, host.Addr("eth0", netip.PrefixFrom(addrs[0], 24)))
		check(t, host.Addr("eth0", netip.PrefixFrom(addrs[1], 64)))
	}
	mac, err := l.director.MAC("eth0")
	check(t, err)
	for _, vip := range []netip.Addr{vip4, vip6} {
		check(t, l.client.Neighbour("eth0", vip, mac))
	}
	l.write(file)
	l.serve()
	return l
}

func (l *backendLab) write(file string) {
	check(l.backend.t, os.WriteFile(l.backend.path("lb.yaml"), []byte(file), 0o600))
}

// serve answers each TCP connection to the backend with one word.
func (l *backendLab) serve() {
	t := l.backend.t
	listener, err := l.backend.host.Listen(t.Context(), "tcp", ":80")
	check(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
}

// direct plays the director until the test ends: what comes for the VIPs goes on as forward has it.
func (l *backendLab) direct(forward func(frame []byte) []byte) {
	t := l.backend.t
	var conn *packet.Conn
	var mac net.HardwareAddr
	check(t, l.director.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = ifi.HardwareAddr
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
		return err
	}))
	backend, err := l.backend.host.MAC("eth0")
	check(t, err)
	var playing sync.WaitGroup
	playing.Go(func() {
		for buf := make([]byte, 4096); ; {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			frame := append([]byte{}, buf[:n]...)
			if net.HardwareAddr(frame[:6]).String() != mac.String() || !forVIP(frame) {
				continue
			}
			out := forward(packettest.Hop{MAC: backend, Own: mac}.Route(frame))
			_, _ = conn.WriteTo(out, &packet.Addr{HardwareAddr: backend})
		}
	})
	t.Cleanup(func() {
		conn.Close()
		playing.Wait()
	})
}

func forVIP(frame []byte) bool {
	switch {
	case len(frame) >= 34 && frame[12] == 0x08 && frame[13] == 0:
		return netip.AddrFrom4([4]byte(frame[30:34])) == vip4
	case len(frame) >= 54 && frame[12] == 0x86 && frame[13] == 0xdd:
		return netip.AddrFrom16([16]byte(frame[38:54])) == vip6
	}
	return false
}

// answers asks the VIP's web server from the client.
func (l *backendLab) answers(vip netip.Addr, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	c, err := l.client.Dial(ctx, "tcp", netip.AddrPortFrom(vip, 80).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	said, err := io.ReadAll(c)
	if err == nil && string(said) != "hello" {
		err = fmt.Errorf("it said %q", said)
	}
	return err
}

// mustAnswer asks again: the kernel is a little late with an IPv6 address, and says so meanwhile.
func (l *backendLab) mustAnswer(what string) {
	l.backend.t.Helper()
	for _, vip := range []netip.Addr{vip4, vip6} {
		nettest.Eventually(l.backend.t, agreeWithin, func() error {
			if err := l.answers(vip, 5*time.Second); err != nil {
				return fmt.Errorf("%s: %s: %w", what, vip, err)
			}
			return nil
		})
	}
}

// mustNotAnswer is short: a SYN is sent again after a second, so one was seen at least.
func (l *backendLab) mustNotAnswer(what string) {
	l.backend.t.Helper()
	for _, vip := range []netip.Addr{vip4, vip6} {
		if err := l.answers(vip, 300*time.Millisecond); err == nil {
			l.backend.t.Errorf("%s: %s answers", what, vip)
		}
	}
}

// resolves says by which MAC somebody on the link finds a VIP, when he asks for it.
func (l *backendLab) resolves(vip netip.Addr) string {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if c, err := l.asker.Dial(ctx, "tcp", netip.AddrPortFrom(vip, 80).String()); err == nil {
		c.Close()
	}
	mac := nettest.Neighbor(l.backend.t, l.asker, "eth0", vip)
	if mac == "00:00:00:00:00:00" {
		return ""
	}
	return mac
}

// machine is what lbd may change on a backend.
func (l *backendLab) machine() map[string]string {
	t := l.backend.t
	found := make(map[string]string)
	for _, ifname := range []string{"lo", "eth0"} {
		addrs, err := l.backend.host.Addrs(ifname)
		check(t, err)
		found[ifname] = fmt.Sprint(addrs)
	}
	for _, name := range []string{
		"ipv4.conf.eth0.arp_ignore", "ipv4.conf.eth0.arp_announce", "ipv4.conf.eth0.rp_filter", "ipv4.conf.all.arp_ignore",
		"ipv4.conf.eth0.drop_unicast_in_l2_multicast", "ipv6.conf.eth0.drop_unicast_in_l2_multicast",
	} {
		value, err := l.backend.host.Sysctl("net." + name)
		check(t, err)
		found[name] = value
	}
	found["xdp"] = fmt.Sprint(nettest.XDP(t, l.backend.host, "eth0"))
	_, err := os.Stat(l.backend.pins)
	found["pins"] = fmt.Sprint(err == nil)
	return found
}

const drBackend = "role: backend\ninterface: eth0\nshutdown: withdraw\nvips: [192.0.2.80, '2001:db8::80']\n"

func tunnelBackend(attach string) string {
	return drBackend + "attach: " + attach + "\nmethod: tunnel\ndirectors: [192.0.2.100, '2001:db8::100']\n"
}

func TestABackendOfDirectRoutingServesVIPsThatItDoesNotAnswerFor(t *testing.T) {
	l := newBackendLab(t, drBackend)
	l.direct(func(frame []byte) []byte { return frame })
	// strict filters and answers for every address are what some distributions have
	check(t, l.backend.host.SetSysctl("net.ipv4.conf.all.rp_filter", "1"))
	before := l.machine()
	l.mustNotAnswer("before lbd")
	l.backend.start()
	l.mustAnswer("with lbd")
	for _, vip := range []netip.Addr{vip4, vip6} {
		if mac := l.resolves(vip); mac != "" {
			t.Errorf("somebody says that %s is at %s", vip, mac)
		}
	}
	if got, err := l.backend.host.Sysctl("net.ipv4.conf.eth0.rp_filter"); got != "2" || err != nil {
		t.Errorf("rp_filter is %s, %v", got, err)
	}
	l.backend.lbctl(t, "status").want(t, exitOK, "no problems", "method dr by eth0", "2001:db8::80")
	l.backend.lbctl(t, "nodes drain n1").want(t, exitFailed, "this machine is a backend")

	// somebody takes an address away
	check(t, l.backend.host.DelAddr("lo", netip.PrefixFrom(vip4, 32)))
	nettest.Eventually(t, agreeWithin, func() error { return l.answers(vip4, time.Second) })
	l.backend.lbctl(t, "status").want(t, exitDegraded, "address 192.0.2.80 on lo: missing")

	l.backend.stop(syscall.SIGTERM)
	if diff := cmp.Diff(before, l.machine()); diff != "" {
		t.Errorf("after withdrawal (-before +after):\n%s", diff)
	}
	l.mustNotAnswer("after lbd")
}

// A lbd that answers must also be one without which ARP would have been answered.
func TestWithoutSuppressionABackendWouldAnswerARP(t *testing.T) {
	l := newBackendLab(t, drBackend)
	check(t, l.backend.host.Addr("lo", netip.PrefixFrom(vip4, 32)))
	mac, err := l.backend.host.MAC("eth0")
	check(t, err)
	if got := l.resolves(vip4); got != mac.String() {
		t.Errorf("%s is at %q, want %s: the other tests prove nothing", vip4, got, mac)
	}
}

func TestABackendTakesOffTheTunnelsOfItsDirectors(t *testing.T) {
	for _, attach := range []string{"native", "generic"} {
		for name, tunnel := range map[string]packettest.Tunnel{
			"IPv4":        {Src: director4, Dst: server4},
			"IPv6":        {Src: director6, Dst: server6},
			"GUE in IPv4": {Src: director4, Dst: server4, GUE: 0xc001},
			"GUE in IPv6": {Src: director6, Dst: server6, GUE: 0xc001},
		} {
			t.Run(attach+" "+name, func(t *testing.T) {
				t.Parallel() // it waits most of the time
				l := newBackendLab(t, tunnelBackend(attach))
				before := l.machine()
				l.direct(tunnel.Wrap)
				l.backend.start()
				l.mustAnswer("in the tunnel")
				if l.resolves(vip4) != "" || l.resolves(vip6) != "" {
					t.Error("somebody answers for a VIP")
				}
				l.backend.lbctl(t, "status").want(t, exitOK, "no problems", "method tunnel", "unwrapped", attach)
				l.backend.stop(syscall.SIGTERM)
				if diff := cmp.Diff(before, l.machine()); diff != "" {
					t.Errorf("after withdrawal (-before +after):\n%s", diff)
				}
				l.mustNotAnswer("after lbd")
			})
		}
	}
}

func TestABackendGoesOnWithoutItsLbd(t *testing.T) {
	l := newBackendLab(t, strings.Replace(tunnelBackend("auto"), "withdraw", "leave", 1))
	l.direct(packettest.Tunnel{Src: director4, Dst: server4, GUE: 0xc001}.Wrap)
	l.backend.start()
	l.mustAnswer("with lbd")
	l.backend.stop(syscall.SIGKILL)
	l.mustAnswer("after a kill")
	program := nettest.XDP(t, l.backend.host, "eth0")
	l.backend.start()
	l.mustAnswer("with the next lbd")
	if now := nettest.XDP(t, l.backend.host, "eth0"); now == program || now == 0 {
		t.Errorf("the program is %d, was %d: not exchanged", now, program)
	}
	l.backend.stop(syscall.SIGTERM)
	l.mustAnswer("after it left")

	// what it left is taken back by one that is told to
	l.write(tunnelBackend("auto"))
	l.backend.start()
	status, err := l.backend.status()
	check(t, err)
	if n := len(status.RealServer.Tunnels); n == 0 || status.RealServer.Tunnels[n-1].Packets < 10 {
		t.Errorf("the counters did not outlive lbd: %+v", status.RealServer.Tunnels)
	}
	l.backend.stop(syscall.SIGTERM)
	if m := l.machine(); m["pins"] != "false" || m["xdp"] != "0" || strings.Contains(m["lo"], vip4.String()) {
		t.Errorf("left behind: %v", m)
	}
}

func TestABackendFollowsItsFile(t *testing.T) {
	l := newBackendLab(t, drBackend)
	l.direct(packettest.Tunnel{Src: director6, Dst: server6}.Wrap)
	l.backend.start()
	l.mustNotAnswer("with method dr")
	for _, step := range []struct {
		what, file string
		answers    bool
	}{
		{"method tunnel", tunnelBackend("auto"), true},
		{"another director", strings.Replace(tunnelBackend("auto"), "::100", "::101", 1), false},
		{"tunnels again", tunnelBackend("generic"), true},
		{"method dr again", drBackend, false},
	} {
		l.write(step.file)
		l.backend.reload()
		if step.answers {
			l.mustAnswer(step.what)
		} else {
			l.mustNotAnswer(step.what)
		}
	}
	if id := nettest.XDP(t, l.backend.host, "eth0"); id != 0 {
		t.Errorf("program %d is attached, without tunnels", id)
	}
	before, err := l.backend.status()
	check(t, err)
	for file, want := range map[string]string{
		"role: backend\n": "names no VIP",
		strings.Replace(tunnelBackend("auto"), "eth0", "eth7", 1):                                                               "no such interface",
		"cluster: {name: web, seed: '" + fmt.Sprintf("%064x", 7) + "', node: n1, nodes: [{name: n1, addresses: 192.0.2.11}]}\n": "role changed",
	} {
		l.write(file)
		l.backend.reload()
		after, err := l.backend.status()
		check(t, err)
		if !strings.Contains(after.Config.LastError, want) || after.Generation != before.Generation {
			t.Errorf("%q: refused with %q, want %q", file, after.Config.LastError, want)
		}
		l.write(drBackend)
		l.backend.reload()
		before, err = l.backend.status()
		check(t, err)
	}
}

// What a machine had in one role is gone before it takes the other.
func TestAMachineChangesItsRole(t *testing.T) {
	l := newBackendLab(t, "")
	node := l.nodes[0]
	l.writeConfig(node, options{attach: "auto"})
	node.start()
	first := nettest.XDP(t, node.host, "eth0")
	node.stop(syscall.SIGTERM) // leaves

	l.direct(packettest.Tunnel{Src: director4, Dst: server4}.Wrap)
	l.write(strings.Replace(tunnelBackend("auto"), "withdraw", "leave", 1))
	node.start()
	l.mustAnswer("as a backend")
	if _, err := os.Stat(filepath.Join(node.pins, "maps", "tables")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pins of a node are still there: %v", err)
	}
	node.stop(syscall.SIGTERM)

	l.writeConfig(node, options{attach: "auto"})
	node.start()
	if id := nettest.XDP(t, node.host, "eth0"); id == 0 || id == first {
		t.Errorf("program %d, want a new one", id)
	}
	if _, err := os.Stat(filepath.Join(node.pins, "backend")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pins of a backend are still there: %v", err)
	}
	l.write(drBackend)
	node.reload()
	if status, err := node.status(); err != nil || !strings.Contains(status.Config.LastError, "role changed") {
		t.Errorf("a running node became a backend: %+v, %v", status, err)
	}
}

// A tunnel to an address that the backend does not have may be for somebody behind it.
func TestABackendTakesTunnelsToAnAddressThatItGetsLater(t *testing.T) {
	l := newBackendLab(t, tunnelBackend("auto"))
	late := netip.MustParseAddr("192.0.2.77")
	l.direct(packettest.Tunnel{Src: director4, Dst: late}.Wrap)
	l.backend.start()
	l.mustNotAnswer("before the backend has the address")
	check(t, l.backend.host.Addr("eth0", netip.PrefixFrom(late, 24)))
	nettest.Eventually(t, agreeWithin, func() error { return l.answers(vip4, time.Second) })
	l.mustAnswer("with the address")
	status, err := l.backend.status()
	check(t, err)
	if !strings.Contains(fmt.Sprintf("%+v", status.RealServer.Tunnels), "other-host") {
		t.Errorf("counted: %+v", status.RealServer.Tunnels)
	}
}
