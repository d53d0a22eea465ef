package sockets_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/sockets"
)

// Two VIPs of a family and an address that is none.
const (
	vip4, other4, plain4 = "192.0.2.80", "192.0.2.81", "192.0.2.1"
	vip6, other6, plain6 = "2001:db8::80", "2001:db8::81", "2001:db8::1"
)

// node returns a host with the addresses on its lo. Clients are on it as well: their sockets are
// what must not be taken for a VIP's.
func node(t testing.TB) *netlab.Host {
	t.Helper()
	h := nettest.Host(t, nettest.New(t), "n1")
	for _, a := range []string{vip4, other4, plain4, vip6, other6, plain6} {
		addr := netip.MustParseAddr(a)
		if err := h.Addr("lo", netip.PrefixFrom(addr, addr.BitLen())); err != nil {
			t.Fatal(err)
		}
		nettest.Eventually(t, time.Minute, func() error { return toItself(h, a) })
	}
	return h
}

// toItself sends a datagram from an address to itself. The kernel makes the route of an IPv6 address
// on lo a moment after the address.
func toItself(h *netlab.Host, addr string) error {
	c, err := h.ListenPacket(context.Background(), "udp", net.JoinHostPort(addr, "0"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return err
	}
	_, _, err = c.ReadFrom(make([]byte, 1))
	return err
}

// dialer dials from an address that is no VIP: on one machine it would be that of the other end.
func dialer(to string) *net.Dialer {
	from := netip.MustParseAddr(plain4)
	if place(to).Addr().Is6() {
		from = netip.MustParseAddr(plain6)
	}
	return &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
}

// listen listens until the test ends.
func listen(t testing.TB, h *netlab.Host, network, addr string) net.Listener {
	t.Helper()
	l, err := h.Listen(context.Background(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// A pair is a connection: both ends of it.
type pair struct{ client, server *net.TCPConn }

// connect opens a connection to l by the address.
func connect(t testing.TB, h *netlab.Host, l net.Listener, addr string) pair {
	t.Helper()
	client, err := h.DialFrom(context.Background(), dialer(addr), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return pair{client.(*net.TCPConn), server.(*net.TCPConn)}
}

// remote is the client's end.
func (p pair) remote() netip.AddrPort {
	return p.client.LocalAddr().(*net.TCPAddr).AddrPort()
}

// alive fails unless a byte comes through each way.
func (p pair) alive(t testing.TB) {
	t.Helper()
	for _, way := range []struct{ from, to net.Conn }{{p.client, p.server}, {p.server, p.client}} {
		if _, err := way.from.Write([]byte("x")); err != nil {
			t.Errorf("%s: %v", p.remote(), err)
			return
		}
		if err := way.to.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.to, make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", p.remote(), err)
		}
	}
}

func place(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func count(h *netlab.Host, f sockets.Filter) (counts map[netip.AddrPort]sockets.Counts, err error) {
	err = h.Do(func() error {
		counts, err = sockets.Count(f)
		return err
	})
	return counts, err
}

func connections(t testing.TB, h *netlab.Host, f sockets.Filter) (all []sockets.Connection) {
	t.Helper()
	err := h.Do(func() (err error) {
		all, err = sockets.Connections(f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func destroy(t testing.TB, h *netlab.Host, f sockets.Filter, choose func(sockets.Connection) bool) (n int) {
	t.Helper()
	err := h.Do(func() (err error) {
		n, err = sockets.Destroy(f, choose)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var byRemote = cmpopts.SortSlices(func(a, b sockets.Connection) bool { return a.Remote.Compare(b.Remote) < 0 })
var comparable = cmp.Options{byRemote, cmpopts.EquateComparable(netip.AddrPort{})}

// eventually waits until the counts are as wanted: the last packets of a connection take a moment.
func eventually(t testing.TB, h *netlab.Host, f sockets.Filter, want map[netip.AddrPort]sockets.Counts) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		got, err := count(h, f)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, got, comparable); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

type tcp = map[sockets.State]int

func TestConnectionsAreFoundWhereTheyEnd(t *testing.T) {
	h := node(t)
	// A server for IPv4, one for IPv6, and one whose IPv6 sockets take IPv4 connections.
	only4, only6 := listen(t, h, "tcp4", vip4+":80"), listen(t, h, "tcp6", "["+vip6+"]:80")
	both := listen(t, h, "tcp", "[::]:443")
	var want []sockets.Connection
	open := func(l net.Listener, addr string) {
		t.Helper()
		p := connect(t, h, l, addr)
		want = append(want, sockets.Connection{
			Protocol: lb.ProtocolTCP, State: sockets.Established, Local: place(addr), Remote: p.remote(),
		})
	}
	open(only4, vip4+":80")
	open(only6, "["+vip6+"]:80")
	open(only6, "["+vip6+"]:80")
	open(both, vip4+":443")
	open(both, "["+vip6+"]:443")
	connect(t, h, both, other4+":443")
	connect(t, h, both, "["+other6+"]:443")
	connect(t, h, both, plain4+":443")

	all := sockets.Filter{Local: []netip.AddrPort{place(vip4 + ":0"), place("[" + vip6 + "]:0")}}
	if diff := cmp.Diff(want, connections(t, h, all), comparable); diff != "" {
		t.Errorf("of both vips (-want +got):\n%s", diff)
	}
	some := sockets.Filter{Local: []netip.AddrPort{place(vip4 + ":443"), place("[" + vip6 + "]:80")}}
	if diff := cmp.Diff(want[1:4], connections(t, h, some), comparable); diff != "" {
		t.Errorf("of two services (-want +got):\n%s", diff)
	}
	if got := connections(t, h, sockets.Filter{}); len(got) > 0 {
		t.Errorf("of nothing: %v", got)
	}

	eventually(t, h, sockets.Filter{Local: append(all.Local, some.Local...)}, map[netip.AddrPort]sockets.Counts{
		place(vip4 + ":0"):         {TCP: tcp{sockets.Established: 2}},
		place(vip4 + ":443"):       {TCP: tcp{sockets.Established: 1}},
		place("[" + vip6 + "]:0"):  {TCP: tcp{sockets.Established: 3}},
		place("[" + vip6 + "]:80"): {TCP: tcp{sockets.Established: 2}},
	})
}

// The kernel leaves out what is not asked for: else the look would be right, and slow.
func TestTheKernelPicks(t *testing.T) {
	h := node(t)
	l := listen(t, h, "tcp", "[::]:443")
	remote := make(map[string]netip.AddrPort)
	for _, addr := range []string{vip4, other4, vip6, other6} {
		remote[addr] = connect(t, h, l, net.JoinHostPort(addr, "443")).remote()
	}
	for _, c := range []struct {
		places []netip.AddrPort
		want   []string
	}{
		{[]netip.AddrPort{place(vip4 + ":0")}, []string{vip4}},
		{[]netip.AddrPort{place(vip4 + ":443")}, []string{vip4}},
		{[]netip.AddrPort{place(vip4 + ":80")}, nil},
		{[]netip.AddrPort{place("[" + vip6 + "]:443")}, []string{vip6}},
		{[]netip.AddrPort{place(vip4 + ":80"), place("[" + other6 + "]:80"), place(other4 + ":443"), place("[" + vip6 + "]:0")}, []string{other4, vip6}},
		{[]netip.AddrPort{place("[" + other6 + "]:0"), place(vip4 + ":0"), place(other4 + ":80")}, []string{other6, vip4}},
	} {
		var got []sockets.Connection
		err := h.Do(func() (err error) {
			got, err = sockets.Picked(c.places...)
			return err
		})
		if err != nil {
			t.Fatalf("%v: %v", c.places, err)
		}
		var want []sockets.Connection
		for _, addr := range c.want {
			want = append(want, sockets.Connection{
				Protocol: lb.ProtocolTCP, State: sockets.Established,
				Local: netip.AddrPortFrom(netip.MustParseAddr(addr), 443), Remote: remote[addr],
			})
		}
		if diff := cmp.Diff(want, got, comparable); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.places, diff)
		}
	}
}

func TestStatesAreToldApart(t *testing.T) {
	h := node(t)
	l := listen(t, h, "tcp4", vip4+":80")
	local := place(vip4 + ":80")
	established, halfClosed, closeWait := connect(t, h, l, local.String()), connect(t, h, l, local.String()), connect(t, h, l, local.String())
	over := connect(t, h, l, local.String())
	for _, err := range []error{
		halfClosed.server.CloseWrite(), // FIN_WAIT_2 when the client has acknowledged it
		closeWait.client.CloseWrite(),
		over.server.CloseWrite(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := over.client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := over.client.Close(); err != nil {
		t.Fatal(err)
	}
	// A handshake that is not complete for the listener: it waits for data.
	waiting := listen(t, h, "tcp4", vip4+":81")
	raw, err := waiting.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var deferred error
	if err := raw.Control(func(fd uintptr) {
		deferred = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60)
	}); err != nil || deferred != nil {
		t.Fatal(err, deferred)
	}
	client, err := h.Dial(context.Background(), "tcp", vip4+":81")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	f := sockets.Filter{Local: []netip.AddrPort{local, place(vip4 + ":81")}}
	open := map[netip.AddrPort]sockets.Counts{
		local:               {TCP: tcp{sockets.Established: 1, sockets.FinWait2: 1, sockets.CloseWait: 1}},
		place(vip4 + ":81"): {TCP: tcp{sockets.SynReceived: 1}},
	}
	eventually(t, h, f, open)
	f.States = sockets.All
	all := open
	all[local].TCP[sockets.TimeWait] = 1
	eventually(t, h, f, all)
	if n := all[local].Sum(sockets.Open); n != 3 {
		t.Errorf("%d are open, want 3", n)
	}
	f.States = sockets.CloseWait.Set()
	eventually(t, h, f, map[netip.AddrPort]sockets.Counts{
		local:               {TCP: tcp{sockets.CloseWait: 1}},
		place(vip4 + ":81"): {TCP: tcp{}},
	})
	f.States = sockets.TimeWait.Set()
	if n := destroy(t, h, f, nil); n != 0 {
		t.Errorf("%d that are over were closed", n)
	}
	established.alive(t)
}

func TestConnectedUDPSocketsAreCounted(t *testing.T) {
	h := node(t)
	open := func(network, local, remote string) {
		t.Helper()
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(place(local))}
		c, err := h.DialFrom(context.Background(), &d, network, remote)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	open("udp4", vip4+":53", plain4+":1001")
	open("udp6", "["+vip6+"]:53", "["+other6+"]:1002")
	open("udp4", other4+":53", plain4+":1003")
	c, err := h.ListenPacket(context.Background(), "udp4", vip4+":54") // serves anybody
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = h.Do(func() error { return mappedUDP(t, vip4, 55, plain4, 1004) })
	if err != nil {
		t.Fatal(err)
	}
	f := sockets.Filter{Local: []netip.AddrPort{place(vip4 + ":0"), place("[" + vip6 + "]:53")}}
	eventually(t, h, f, map[netip.AddrPort]sockets.Counts{
		place(vip4 + ":0"):         {TCP: tcp{}, UDP: 2},
		place("[" + vip6 + "]:53"): {TCP: tcp{}, UDP: 1},
	})
	want := []sockets.Connection{
		{Protocol: lb.ProtocolUDP, State: sockets.Established, Local: place(vip4 + ":53"), Remote: place(plain4 + ":1001")},
		{Protocol: lb.ProtocolUDP, State: sockets.Established, Local: place(vip4 + ":55"), Remote: place(plain4 + ":1004")},
		{Protocol: lb.ProtocolUDP, State: sockets.Established, Local: place("[" + vip6 + "]:53"), Remote: place("[" + other6 + "]:1002")},
	}
	if diff := cmp.Diff(want, connections(t, h, f), comparable); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

// mappedUDP opens an IPv6 socket between two IPv4 addresses, until the test ends.
func mappedUDP(t testing.TB, local string, localPort int, remote string, remotePort int) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	mapped := func(addr string, port int) *unix.SockaddrInet6 {
		return &unix.SockaddrInet6{Addr: netip.MustParseAddr(addr).As16(), Port: port}
	}
	return errors.Join(unix.Bind(fd, mapped(local, localPort)), unix.Connect(fd, mapped(remote, remotePort)))
}

func TestMorePlacesThanTheKernelShouldCompare(t *testing.T) {
	h := node(t)
	l := listen(t, h, "tcp", "[::]:443")
	connect(t, h, l, vip4+":443")
	connect(t, h, l, "["+vip6+"]:443")
	connect(t, h, l, other4+":443")
	for _, n := range []int{62, 63, 200} { // and two: just as many as are compared, one more, many more
		places := []netip.AddrPort{place(vip4 + ":443"), place("[" + vip6 + "]:0")}
		want := map[netip.AddrPort]sockets.Counts{}
		for i := range n {
			places = append(places, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 443))
		}
		for _, p := range places {
			want[p] = sockets.Counts{TCP: tcp{}}
		}
		want[places[0]].TCP[sockets.Established] = 1
		want[places[1]].TCP[sockets.Established] = 1
		slices.Reverse(places)
		eventually(t, h, sockets.Filter{Local: places}, want)
	}
}

func TestWhatIsNoAddressOfAVIPIsRefused(t *testing.T) {
	for _, p := range []netip.AddrPort{{}, place("0.0.0.0:80"), place("[::]:0"), place("[::ffff:192.0.2.80]:80"), place("[fe80::1%lo]:80")} {
		_, err := sockets.Count(sockets.Filter{Local: []netip.AddrPort{p}})
		if want := "count sockets: " + p.String() + " is no address of a vip"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
