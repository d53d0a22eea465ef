package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/nettest"
)

// beside lets several sockets send from one port, to different ones.
func beside(_, _ string, raw syscall.RawConn) (err error) {
	control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	if control != nil {
		return control
	}
	return err
}

// forgetDatagrams waits until no node knows of flows that stayed where they were when buckets moved.
func (c *cluster) forgetDatagrams(t *testing.T, idle time.Duration) {
	t.Helper()
	nettest.Eventually(t, idle+agreeWithin, func() error {
		for _, n := range c.nodes {
			view := parse[struct {
				Tables []struct {
					Transition map[string]int `json:"transition"`
				} `json:"tables"`
			}](t, n.lbctl(t, "maps dump -o json"))
			for _, table := range view.Tables {
				for _, mark := range []string{"udp-noted", "udp-kept", "udp-away"} {
					if table.Transition[mark] != 0 {
						return fmt.Errorf("%s: %v", n.name, table.Transition)
					}
				}
			}
		}
		return nil
	})
}

// What UDP goes to a node that drains, by udp-idle: its flows while they talk, new ones only until those
// that lived are noted, and nothing when the last is silent.
func TestDatagramsStayAtADrainedNodeWhileTheyTalk(t *testing.T) {
	const idle, flows = 2 * time.Second, 60
	c := newMembers(t, options{weights: three, tuning: unhurried, services: `
  - {name: echo, vips: [192.0.2.80, "2001:db8::80"], protocol: udp, ports: all, udp-idle: 2s}
`})
	const other = port + 1
	for _, n := range c.nodes {
		for _, p := range []uint16{port, other} {
			startSide(t, n.host, "server", serverOptions{Name: n.name, VIPs: []netip.Addr{vip4, vip6}, Port: p})
		}
	}
	// who came first handed buckets to the others, and keeps what it answered in them for a while
	c.forgetDatagrams(t, idle)
	talking := make([]net.Conn, 0, flows)
	ask := func(conn net.Conn) {
		t.Helper()
		_, err := conn.Write([]byte("still there?"))
		check(t, err)
	}
	hear := func(conn net.Conn) string {
		t.Helper()
		check(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		answer := make([]byte, 64)
		size, err := conn.Read(answer)
		if err != nil || size < 2 {
			t.Fatalf("%s: %v", conn.LocalAddr(), err)
		}
		return string(answer[:2])
	}
	who := func(conn net.Conn) string {
		t.Helper()
		ask(conn)
		return hear(conn)
	}
	dial := func(i int, to uint16) net.Conn {
		t.Helper()
		vip := []netip.Addr{vip4, vip6}[i%2]
		local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(clientAddr(vip), uint16(30000+i)))
		conn, err := c.client.DialFrom(t.Context(), &net.Dialer{LocalAddr: local, Control: beside}, "udp", netip.AddrPortFrom(vip, to).String())
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var numbers []int
	for i := range flows {
		if conn := dial(i, port); who(conn) == "n2" {
			talking, numbers = append(talking, conn), append(numbers, i)
		}
	}
	if len(talking) < 5 {
		t.Fatalf("n2 has %d of %d flows", len(talking), flows)
	}
	c.drain(t, c.nodes[0], "n2")
	for begun := time.Now(); time.Since(begun) < 2*idle; time.Sleep(100 * time.Millisecond) {
		for _, conn := range talking { // all at once: none may be silent for long
			ask(conn)
		}
		for _, conn := range talking {
			if name := hear(conn); name != "n2" {
				t.Fatalf("%s answers after %s, not n2", name, time.Since(begun))
			}
		}
	}
	// the hash leaves the destination's port out: these are flows of the same buckets
	for j, i := range numbers {
		if name := who(dial(i, other)); name == "n2" {
			t.Errorf("a new flow of the bucket of %s goes to n2", talking[j].LocalAddr())
		}
		if name := who(talking[j]); name != "n2" {
			t.Errorf("the flow %s goes to %s", talking[j].LocalAddr(), name)
		}
	}
	c.forgetDatagrams(t, idle)
	for _, conn := range talking {
		if name := who(conn); name == "n2" {
			t.Errorf("%s goes to n2 although it was silent", conn.LocalAddr())
		}
	}
}
