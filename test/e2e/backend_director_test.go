package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/nettest"
)

// What a director's lbd puts before packets, a backend's lbd takes off: both are real here, and the VIPs
// are announced by multicast on the link that all of them share.
func TestDirectorsAndBackendsUnderstandEachOther(t *testing.T) {
	for _, test := range []struct {
		name, service, backend string
		tcp                    string // more of the service for TCP
	}{
		{"direct routing", "forward: dr, backends: [192.0.2.12]", "", ""},
		{"a tunnel with smaller segments", "forward: tunnel, backends: ['2001:db8::12']", "method: tunnel\ndirectors: ['2001:db8::11']\n", ", mss: 1400"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newMachines(t, options{weights: []int{100, 100}})
			director, backend := c.nodes[0], c.nodes[1]
			write := func(n *node, file string) {
				t.Cleanup(n.remove)
				check(t, os.WriteFile(n.path("lb.yaml"), []byte(file), 0o600))
				n.start()
			}
			write(backend, "role: backend\ninterface: eth0\nvips: [192.0.2.80, '2001:db8::80']\n"+test.backend)
			serveSums(t, backend)
			write(director, fmt.Sprintf(`
cluster: {name: test, seed: %064x, node: n1, nodes: [{name: n1, addresses: [192.0.2.11, '2001:db8::11']}]}
interface: eth0
vips: [{address: 192.0.2.80}, {address: '2001:db8::80'}]
services:
  - {name: web, vips: [192.0.2.80, '2001:db8::80'], ports: 80, %[2]s%[3]s}
  - {name: echo, vips: [192.0.2.80, '2001:db8::80'], ports: 80, protocol: udp, %[2]s}
`, 7, test.service, test.tcp))
			for _, vip := range []netip.Addr{vip4, vip6} {
				for range 20 {
					if err := upload(c, vip, 100); err != nil {
						t.Fatalf("%s: %v", vip, err)
					}
				}
				if err := upload(c, vip, 1<<20); err != nil {
					t.Errorf("%s: a megabyte: %v", vip, err)
				}
				if n := echoes(t, c, vip); n != 1 {
					t.Errorf("%s: a datagram was answered %d times", vip, n)
				}
			}
			status, err := backend.status()
			check(t, err)
			unwrapped := uint64(0)
			for _, counted := range status.RealServer.Tunnels {
				if counted.Verdict == "drop" || counted.Reason == "stranger" {
					t.Errorf("%s: %d packets", counted.Reason, counted.Packets)
				}
				if counted.Reason == "unwrapped" {
					unwrapped = counted.Packets
				}
			}
			if (unwrapped > 200) != (test.backend != "") {
				t.Errorf("%d packets came out of tunnels", unwrapped)
			}
		})
	}
}

// serveSums says how much it was sent by TCP, and repeats what it is sent by UDP.
func serveSums(t *testing.T, n *node) {
	listener, err := n.host.Listen(t.Context(), "tcp", ":80")
	check(t, err)
	datagrams, err := n.host.ListenPacket(t.Context(), "udp4", vip4.String()+":80")
	check(t, err)
	datagrams6, err := n.host.ListenPacket(t.Context(), "udp6", "["+vip6.String()+"]:80")
	check(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				n, err := io.Copy(io.Discard, c)
				fmt.Fprintf(c, "%d %v", n, err)
			})
		}
	})
	for _, conn := range []net.PacketConn{datagrams, datagrams6} {
		serving.Go(func() {
			for buf := make([]byte, 2048); ; {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo(buf[:n], from)
			}
		})
	}
	t.Cleanup(func() {
		listener.Close()
		datagrams.Close()
		datagrams6.Close()
		serving.Wait()
	})
}

func upload(c *cluster, vip netip.Addr, bytes int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := c.client.Dial(ctx, "tcp", netip.AddrPortFrom(vip, 80).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(make([]byte, bytes)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	said, err := io.ReadAll(conn)
	if want := fmt.Sprintf("%d <nil>", bytes); err == nil && string(said) != want {
		err = fmt.Errorf("%q arrived, want %q", said, want)
	}
	return err
}

// echoes counts the answers to one datagram.
func echoes(t *testing.T, c *cluster, vip netip.Addr) (answers int) {
	t.Helper()
	conn, err := c.client.Dial(t.Context(), "udp", netip.AddrPortFrom(vip, 80).String())
	check(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("hello"))
	check(t, err)
	nettest.Eventually(t, agreeWithin, func() error {
		check(t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		_, err := conn.Read(make([]byte, 16))
		return err
	})
	for answers = 1; ; answers++ {
		check(t, conn.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
		if _, err := conn.Read(make([]byte, 16)); err != nil {
			return answers
		}
	}
}
