package e2e

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/nettest"
)

// A frame that is longer than a page comes to XDP in several buffers, which drivers hand to a
// program only if it says that it can take them.
func TestJumboFramesArriveWhole(t *testing.T) {
	const mtu, size = 9000, 8000
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}, mtu: mtu})
	for _, n := range c.nodes {
		n.serve()
		n.wantMode(t, "native")
	}
	watch := nettest.NewWatch(t, c.sw.Host)
	tap := newTap(t, c.client)
	const flows = 20
	for i, vip := range []netip.Addr{vip4, vip6} {
		tcp, udp := make(map[string]int), make(map[string]int)
		for from := 20000 + i*flows; from < 20000+(i+1)*flows; from++ {
			tcp[c.echo(t, "tcp", at(clientAddr(vip), from), at(vip, port), size)]++
			udp[c.echo(t, "udp", at(clientAddr(vip), from), at(vip, port), size)]++
		}
		if len(tcp) != 3 || len(udp) != 3 {
			t.Errorf("%s: TCP was answered by %v, UDP by %v; want all three", vip, tcp, udp)
		}
		for _, n := range c.nodes {
			jumbo := watch.Count(t, func(f nettest.Frame) bool {
				return f.Port == n.name+"-eth0" && f.Out && f.Dest == sharedMACs[vip] && f.Length > size && f.Length <= mtu+14
			})
			if jumbo < 2*flows {
				t.Errorf("%s: %s was sent %d frames of more than %d bytes, want one for each of %d flows", vip, n.name, jumbo, size, 2*flows)
			}
		}
		c.echo(t, "udp", at(clientAddr(vip), 30000), at(vip, port), 20000) // three fragments
	}
	if handshakes, doubled := tap.duplicates(); handshakes != 2*flows || doubled != 0 {
		t.Errorf("%d handshakes, %d answered by two nodes; want %d and 0", handshakes, doubled, 2*flows)
	}
}

// echo sends size bytes in one write, wants them back, and returns the name of who sent them.
func (c *cluster) echo(t *testing.T, network string, from, to netip.AddrPort, size int) string {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	if network == "udp" {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	conn, err := c.client.DialFrom(context.Background(), dialer, network, to.String())
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	message := make([]byte, size)
	for i := range message {
		message[i] = byte(rand.Uint32())
	}
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 3+size)
	if network == "tcp" {
		_, err = io.ReadFull(conn, answer)
	} else {
		_, err = conn.Read(answer)
	}
	if err != nil || !bytes.Equal(answer[3:], message) {
		t.Fatalf("%s from %s to %s: %d bytes did not come back whole, %v", network, from, to, size, err)
	}
	return string(answer[:2])
}
