package e2e

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

// What a service does not name is another's, or the VIP's own: then the client's address alone
// decides, or nobody answers.
func TestPortsAndProtocolsFindTheirService(t *testing.T) {
	c := newCrowd(t)
	for i, vip := range passing {
		pairs, every, strict := c.pairs[vip.Is4()], anything[i], dropping[i]
		for _, n := range c.nodes {
			n.serveAt(vip, 53, 8199, 8200, 8211, 8222, 8223, 65535)
			n.serveAt(every, 8001, 65535)
			n.serveAt(strict, 8001, 8002)
			n.serveProtocol(every)
		}
		t.Run("range/"+family(vip), func(t *testing.T) {
			inside, outside := nodes{}, nodes{}
			for i := range 12 {
				from := at(pairs[1][0], 20000+i)
				one := nodes{}
				for _, port := range []int{8200, 8211, 8222} {
					one[c.expect(t, label("spread", vip), "tcp", from, at(vip, port))] = true
				}
				wantOne(t, "the range, from "+from.String(), one)
				maps.Copy(inside, one)
				for _, port := range []int{8199, 8223} {
					outside[c.answerer(t, "tcp", from, at(vip, port))] = true
				}
			}
			c.wantAll(t, "the range, from 12 ports", inside)
			wantOne(t, "what is beside the range, of one client", outside)
		})
		t.Run("unnamed/"+family(vip), func(t *testing.T) {
			all := nodes{}
			for i, pair := range pairs {
				all[c.expect(t, "", "tcp", at(pair[0], 20000), at(vip, []int{8199, 8223}[i%2]))] = true
			}
			c.wantAll(t, "what no service names, of 12 clients", all)
		})
		t.Run("all/"+family(vip), func(t *testing.T) {
			all := nodes{}
			for i := range 12 {
				for _, port := range []int{53, 8200, 65535} {
					all[c.expect(t, label("datagrams", vip), "udp", at(pairs[2][0], 20000+i), at(vip, port))] = true
				}
			}
			c.wantAll(t, "36 datagrams", all)
		})
		t.Run("any/"+family(vip), func(t *testing.T) {
			tcp, udp, other := nodes{}, nodes{}, nodes{}
			for i, pair := range pairs {
				from := at(pair[0], 20000+i)
				tcp[c.expect(t, label("anything", every), "tcp", from, at(every, 8001))] = true
				udp[c.expect(t, label("anything", every), "udp", from, at(every, 65535))] = true
				other[c.sendProtocol(t, pair[0], every)] = true
			}
			c.wantAll(t, "TCP", tcp)
			c.wantAll(t, "UDP", udp)
			c.wantAll(t, "another protocol", other)
		})
		t.Run("pass/"+family(vip), func(t *testing.T) {
			// nobody listens: the stack of one node says so
			_, err := c.ask("tcp", at(pairs[3][0], 20000), at(vip, 8300), 5*time.Second)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a port that is closed everywhere: %v, want connection refused", err)
			}
		})
		t.Run("drop/"+family(vip), func(t *testing.T) {
			c.expect(t, label("only", strict), "tcp", at(pairs[3][0], 20000), at(strict, 8001))
			for _, network := range []string{"tcp", "udp"} {
				before := c.dropped(t)
				name, err := c.ask(network, at(pairs[3][0], 20000), at(strict, 8002), 300*time.Millisecond)
				if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s to what no service names: answered by %q, %v; want silence", network, name, err)
				}
				for i, count := range c.dropped(t) {
					if count == before[i] {
						t.Errorf("%s: %s did not count it as dropped", network, c.nodes[i].name)
					}
				}
			}
		})
	}
}

// dropped returns what each node dropped because no service names it.
func (c *crowd) dropped(t *testing.T) (counts []uint64) {
	t.Helper()
	for _, n := range c.nodes {
		counts = append(counts, n.counted(t, "unnamed-dropped"))
	}
	return counts
}

// rawNetwork is a protocol without ports, for experiments (RFC 3692).
func rawNetwork(vip netip.Addr) string {
	if vip.Is4() {
		return "ip4:253"
	}
	return "ip6:253"
}

// serveProtocol answers packets of that protocol with the node's name.
func (n *node) serveProtocol(vip netip.Addr) {
	n.t.Helper()
	conn, err := n.host.ListenPacket(context.Background(), rawNetwork(vip), vip.String())
	check(n.t, err)
	n.t.Cleanup(func() { conn.Close() })
	go n.answerDatagrams(conn)
}

// sendProtocol sends a packet of that protocol and returns the name in the only answer.
func (c *cluster) sendProtocol(t *testing.T, from, vip netip.Addr) string {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.IPAddr{IP: from.AsSlice()}}
	conn, err := c.client.DialFrom(context.Background(), dialer, rawNetwork(vip), vip.String())
	check(t, err)
	defer conn.Close()
	if _, err := conn.Write([]byte("who?")); err != nil {
		t.Fatal(err)
	}
	var names []string
	for patience := 5 * time.Second; ; patience = 30 * time.Millisecond {
		check(t, conn.SetReadDeadline(time.Now().Add(patience)))
		var answer [64]byte
		size, _, err := conn.(*net.IPConn).ReadFrom(answer[:]) // unlike Read it strips the IPv4 header
		if err != nil || size < 2 {
			break
		}
		names = append(names, string(answer[:2]))
	}
	if len(names) != 1 {
		t.Fatalf("a packet of protocol 253 from %s to %s was answered by %v, want one node", from, vip, names)
	}
	return names[0]
}
