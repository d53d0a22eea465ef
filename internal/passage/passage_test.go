package passage_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/passage"
)

var (
	addr = netip.MustParseAddr
	vip4 = netip.MustParseAddrPort("192.0.2.80:80")
	vip6 = netip.MustParseAddrPort("[2001:db8::80]:80")
)

// A lab is a director, which has the VIPs itself, and backends on one switch.
type lab struct {
	t   *testing.T
	lab *netlab.Lab
	sw  *netlab.Switch
	d   *netlab.Host
	p   *passage.Passage
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, lab: nettest.New(t)}
	var err error
	l.sw, err = l.lab.Switch("sw", netlab.SwitchOptions{})
	l.must(err)
	l.d = l.host("d", 1)
	l.holdVIPs(l.d)
	// A server of its own must not be mistaken for one of a backend.
	l.serve(l.d, "d")

	l.p = passage.New(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.d.Do(func() error { return l.p.Run(ctx) }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("run does not end")
		}
	})
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// host makes a host with the addresses 192.0.2.N and 2001:db8::N.
func (l *lab) host(name string, n int) *netlab.Host {
	l.t.Helper()
	h := nettest.Host(l.t, l.lab, name)
	l.must(l.lab.Connect(h, "eth0", l.sw, netlab.LinkOptions{MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(n)}}))
	l.must(h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", n))))
	l.must(h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", n))))
	return h
}

// holdVIPs puts the VIPs where a backend has them.
func (l *lab) holdVIPs(h *netlab.Host) {
	l.t.Helper()
	l.must(h.SetSysctl("net.ipv4.conf.all.arp_ignore", "1"))
	l.must(h.SetSysctl("net.ipv4.conf.all.arp_announce", "2"))
	for _, vip := range []netip.Addr{vip4.Addr(), vip6.Addr()} {
		l.must(h.Addr("lo", netip.PrefixFrom(vip, vip.BitLen())))
	}
}

// serve says a name to everybody who connects to port 80.
func (l *lab) serve(h *netlab.Host, name string) {
	l.t.Helper()
	listener, err := h.Listen(context.Background(), "tcp", "[::]:80")
	l.must(err)
	l.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				line, _ := bufio.NewReader(conn).ReadString('\n')
				fmt.Fprintf(conn, "%s heard %d from %s", name, len(line), conn.RemoteAddr())
			}()
		}
	}()
}

// answer answers datagrams to a VIP with a name.
func (l *lab) answer(h *netlab.Host, vip netip.AddrPort, name string) {
	l.t.Helper()
	packets, err := h.ListenPacket(context.Background(), "udp", vip.String())
	l.must(err)
	l.t.Cleanup(func() { packets.Close() })
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(fmt.Appendf(nil, "%s heard %d from %s", name, n, from), from)
		}
	}()
}

// backend is a way to host N.
func direct(n int, source string) passage.Way {
	return passage.Way{
		Source: addr(source), Backend: addr(fmt.Sprintf("192.0.2.%d", n)), Forward: lb.ForwardDR,
		Hop: &lb.NextHop{Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(n)}, Source: addr("192.0.2.1"), MTU: 1500},
	}
}

// ask sends a line of some length and returns the answer.
func (l *lab) ask(network string, vip netip.AddrPort, way passage.Way, length int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := l.p.Dial(ctx, network, vip, way)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	l.must(conn.SetDeadline(deadline))
	if _, err := io.WriteString(conn, strings.Repeat("x", length-1)+"\n"); err != nil {
		return "", err
	}
	if network == "udp" {
		if _, ok := conn.(net.PacketConn); !ok {
			l.t.Error("datagrams look like a stream")
		}
		buffer := make([]byte, 2000)
		n, err := conn.Read(buffer)
		return string(buffer[:n]), err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// expect asks, and compares the answer up to the port.
func (l *lab) expect(network string, vip netip.AddrPort, way passage.Way, length int, who string) {
	l.t.Helper()
	got, err := l.ask(network, vip, way, length)
	source := netip.AddrPortFrom(way.Source, 0).String()
	want := fmt.Sprintf("%s heard %d from %s", who, length, strings.TrimSuffix(source, "0"))
	if err != nil || !strings.HasPrefix(got, want) {
		l.t.Errorf("%s %s: got %q, %v, want %q", network, vip, got, err, want)
	}
}

func TestEachBackendIsAskedForTheVIP(t *testing.T) {
	l := newLab(t)
	for n := 11; n <= 12; n++ {
		h := l.host(fmt.Sprint("b", n), n)
		l.holdVIPs(h)
		l.serve(h, fmt.Sprint("b", n))
		l.answer(h, vip4, fmt.Sprint("b", n))
		l.answer(h, vip6, fmt.Sprint("b", n))
	}
	for range 3 {
		for n := 11; n <= 12; n++ {
			l.expect("tcp", vip4, direct(n, "192.0.2.1"), 10, fmt.Sprint("b", n))
			l.expect("tcp", vip6, direct(n, "2001:db8::1"), 10, fmt.Sprint("b", n))
			l.expect("udp", vip4, direct(n, "192.0.2.1"), 10, fmt.Sprint("b", n))
			l.expect("udp", vip6, direct(n, "2001:db8::1"), 10, fmt.Sprint("b", n))
		}
	}
	l.expect("tcp", vip4, direct(11, "192.0.2.1"), 100000, "b11")
	l.expect("tcp", vip6, direct(12, "2001:db8::1"), 100000, "b12")
}

func TestABackendMayLeaveChecksumsToItsCard(t *testing.T) {
	l := newLab(t)
	b := l.host("b", 11)
	l.offload(b)
	l.holdVIPs(b)
	l.serve(b, "b")
	for vip, source := range map[netip.AddrPort]string{vip4: "192.0.2.1", vip6: "2001:db8::1"} {
		l.answer(b, vip, "b")
		l.expect("tcp", vip, direct(11, source), 10, "b")
		l.expect("udp", vip, direct(11, source), 10, "b")
	}
}

func TestABackendWithoutTheVIPDoesNotAnswer(t *testing.T) {
	l := newLab(t)
	l.serve(l.host("b", 11), "b")
	conn, err := l.d.Dial(t.Context(), "tcp", "192.0.2.11:80")
	if err != nil {
		t.Fatalf("its own address: %v", err)
	}
	conn.Close()
	for vip, source := range map[netip.AddrPort]string{vip4: "192.0.2.1", vip6: "2001:db8::1"} {
		if got, err := l.ask("tcp", vip, direct(11, source), 10); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			t.Errorf("%s: got %q, %v", vip, got, err)
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func TestABackendWhoseServerIsDownRefuses(t *testing.T) {
	l := newLab(t)
	l.holdVIPs(l.host("b", 11))
	for vip, source := range map[netip.AddrPort]string{vip4: "192.0.2.1", vip6: "2001:db8::1"} {
		if _, err := l.ask("tcp", vip, direct(11, source), 10); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v", vip, err)
		}
	}
}

func TestAWayThatCannotBeIsAnErrorAtOnce(t *testing.T) {
	l := newLab(t)
	began := time.Now()
	none := direct(11, "192.0.2.1")
	none.Hop = nil
	if _, err := l.ask("tcp", vip4, none, 1); err == nil || err.Error() != "no way to the backend is known" {
		t.Errorf("without a hop: %v", err)
	}
	if _, err := l.ask("tcp", vip6, direct(11, "192.0.2.1"), 1); err == nil || err.Error() != "no own address that could ask 2001:db8::80" {
		t.Errorf("of another family: %v", err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestNothingOfTheHostIsTouched(t *testing.T) {
	l := newLab(t)
	b := l.host("b", 11)
	l.holdVIPs(b)
	l.serve(b, "b")
	before := l.picture()
	l.expect("tcp", vip4, direct(11, "192.0.2.1"), 10, "b")
	l.expect("tcp", vip6, direct(11, "2001:db8::1"), 10, "b")
	if after := l.picture(); before != after {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestManyAtOnceAreToldApart(t *testing.T) {
	l := newLab(t)
	for n := 11; n <= 14; n++ {
		h := l.host(fmt.Sprint("b", n), n)
		l.holdVIPs(h)
		l.serve(h, fmt.Sprint("b", n))
	}
	const each = 50
	failed := make(chan error)
	for n := 11; n <= 14; n++ {
		go func() {
			for range each {
				got, err := l.ask("tcp", vip4, direct(n, "192.0.2.1"), 10)
				if err == nil && !strings.HasPrefix(got, fmt.Sprintf("b%d heard 10", n)) {
					err = fmt.Errorf("backend %d: %q", n, got)
				}
				failed <- err
			}
		}()
	}
	for range 4 * each {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}
