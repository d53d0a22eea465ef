package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A street has a backend at its end, a director, and a machine outside that knows no way to the backend.
type street struct {
	director         machine
	backend, outside *netlab.Host
}

func newStreet(t *testing.T) street {
	t.Helper()
	lab := nettest.New(t)
	s := street{machine{Host: nettest.Host(t, lab, "director"), Firewall: New(t.TempDir() + "/firewall")}, nettest.Host(t, lab, "backend"), nettest.Host(t, lab, "outside")}
	for name, ends := range map[string][2]*netlab.Host{"front": {s.director.Host, s.outside}, "back": {s.director.Host, s.backend}} {
		sw, err := lab.Switch(name, netlab.SwitchOptions{})
		check(t, err)
		check(t, lab.Connect(ends[0], map[string]string{"front": "eth0", "back": "eth1"}[name], sw, netlab.LinkOptions{}))
		check(t, lab.Connect(ends[1], "eth0", sw, netlab.LinkOptions{}))
	}
	for _, a := range []struct {
		host *netlab.Host
		on   string
		addr string
	}{
		{s.director.Host, "eth0", "192.0.2.11/24"}, {s.director.Host, "eth0", "192.0.2.12/24"}, {s.director.Host, "eth0", "2001:db8::11/64"},
		{s.director.Host, "eth1", "10.0.0.1/24"}, {s.director.Host, "eth1", "2001:db8:1::1/64"},
		{s.backend, "eth0", "10.0.0.21/24"}, {s.backend, "eth0", "10.0.0.80/24"}, {s.backend, "eth0", "2001:db8:1::21/64"},
		{s.outside, "eth0", "192.0.2.99/24"}, {s.outside, "eth0", "2001:db8::99/64"},
	} {
		check(t, a.host.Addr(a.on, netip.MustParsePrefix(a.addr)))
	}
	check(t, s.director.Forward())
	check(t, s.backend.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1")))
	check(t, s.backend.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8:1::1")))
	return s
}

// caller is whom a listener outside sees when the backend connects to it, having told each other something.
func (s street) caller(t *testing.T, server string) string {
	t.Helper()
	listener, err := s.outside.Listen(t.Context(), "tcp", server)
	check(t, err)
	defer listener.Close()
	heard := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "hello")
		heard <- conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().String()
	}()
	conn, err := s.backend.Dial(t.Context(), "tcp", server)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	hello := make([]byte, 5)
	if _, err := conn.Read(hello); err != nil {
		t.Errorf("no answer from %s: %v", server, err)
	}
	return <-heard
}

func TestConnectionsOfBackendsLeaveWithTheDirectorsAddress(t *testing.T) {
	s := newStreet(t)
	s.director.set(t, masquerade())
	for server, want := range map[string]string{"192.0.2.99:80": "192.0.2.11", "[2001:db8::99]:80": "2001:db8::11"} {
		if got := s.caller(t, server); got != want {
			t.Errorf("%s sees %s, want %s", server, got, want)
		}
	}
	s.director.set(t, Want{Masquerade: []lb.Masquerade{
		{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.16/28")}, Out: "eth0", To: netip.MustParseAddr("192.0.2.12")},
	}})
	if got := s.caller(t, "192.0.2.99:80"); got != "192.0.2.12" {
		t.Errorf("with to: 192.0.2.12, the server sees %s", got)
	}
}

// A message that the backend sends, and from whom it comes to the machine outside.
type message struct {
	name    string
	network string // of the machine that hears: an IP protocol, as raw sockets see all of it
	from    string
	bytes   []byte // with the transport's header
	size    int    // of what is behind it: large ones come in fragments
	want    string
}

// What the datapath leaves to the kernel must keep its source: an answer to a client of the VIP that comes
// from an address which the client never asked is worth nothing, and tells it of a machine that it should not know.
func TestAnswersToClientsKeepTheirSource(t *testing.T) {
	s := newStreet(t)
	s.director.set(t, masquerade())
	const backend, director = "10.0.0.21", "192.0.2.11"
	for _, m := range []message{
		{"a datagram of its own", "ip4:udp", backend, udp(4000), 10, director},
		{"a large datagram of its own", "ip4:udp", backend, udp(4001), 3000, director},
		{"an answer by UDP", "ip4:udp", backend, udp(53), 10, backend},
		{"a large answer by UDP", "ip4:udp", backend, udp(53), 3000, backend},
		{"an answer from a range", "ip4:udp", backend, udp(5005), 10, backend},
		{"an answer from a port of the backend", "ip4:udp", backend, udp(7), 10, backend},
		{"a datagram from beside a range", "ip4:udp", backend, udp(5011), 10, director},
		{"a connection of its own", "ip4:tcp", backend, tcp(4000, 0x02), 0, director},
		{"an answer to a SYN", "ip4:tcp", backend, tcp(8080, 0x12), 0, backend},
		{"something in a connection", "ip4:tcp", backend, tcp(8081, 0x10), 100, backend},
		{"a reset", "ip4:tcp", backend, tcp(8082, 0x04), 0, backend},
		{"a ping of its own", "ip4:icmp", backend, []byte{8, 0, 0, 0, 0, 1, 0, 1}, 0, director},
		{"an answer to a ping", "ip4:icmp", backend, []byte{0, 0, 0, 0, 0, 2, 0, 1}, 0, backend},
		{"an error about a datagram to it", "ip4:icmp", backend, unreachable(), 0, backend},
		{"a datagram with a VIP for its source", "ip4:udp", "10.0.0.80", udp(4000), 10, "10.0.0.80"},
	} {
		t.Run(m.name, func(t *testing.T) {
			if got := s.source(t, m); got != m.want {
				t.Errorf("it comes from %s, want %s", got, m.want)
			}
		})
	}
}

// source sends a message again and again until it is heard.
func (s street) source(t *testing.T, m message) string {
	t.Helper()
	outside, err := s.outside.ListenPacket(t.Context(), m.network, "192.0.2.99")
	check(t, err)
	defer outside.Close()
	backend, err := s.backend.ListenPacket(t.Context(), m.network, m.from)
	check(t, err)
	defer backend.Close()
	packet := append(slices.Clone(m.bytes), make([]byte, m.size)...)
	switch m.network {
	case "ip4:udp":
		binary.BigEndian.PutUint16(packet[4:], uint16(len(packet)))
	case "ip4:icmp":
		binary.BigEndian.PutUint16(packet[2:], sum(packet))
	case "ip4:tcp":
		pseudo := append([]byte{10, 0, 0, 21, 192, 0, 2, 99, 0, 6, 0, byte(len(packet))}, packet...)
		binary.BigEndian.PutUint16(packet[16:], sum(pseudo))
	}
	heard := make([]byte, 65536)
	var from string
	nettest.Eventually(t, time.Minute, func() error {
		if _, err := backend.WriteTo(packet, &net.IPAddr{IP: net.IPv4(192, 0, 2, 99)}); err != nil {
			return err
		}
		check(t, outside.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		for {
			n, peer, err := outside.ReadFrom(heard)
			if err != nil {
				return err
			}
			// a translation may be of the port or the echo's number, too
			if n == len(packet) && (m.network != "ip4:icmp" || heard[0] == packet[0]) {
				from = peer.String()
				return nil
			}
		}
	})
	return from
}

func udp(port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, port), 0, 9, 0, 0, 0, 0) // no checksum
}

func tcp(port uint16, flags byte) []byte {
	header := append(binary.BigEndian.AppendUint16(nil, port), 0x23, 0x28, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	return header
}

// unreachable quotes a datagram from a client to port 53 of the backend.
func unreachable() []byte {
	quote := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 99, 10, 0, 0, 21, 0x0f, 0xa0, 0, 53, 0, 8, 0, 0}
	binary.BigEndian.PutUint16(quote[10:], sum(quote[:20]))
	return append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quote...)
}

// sum is the Internet checksum.
func sum(data []byte) uint16 {
	var total uint32
	for i, b := range data {
		total += uint32(b) << (8 * (1 - i%2))
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}
