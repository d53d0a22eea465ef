package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"
)

// Every connection is made once, answered once, and by the node that its bucket says: shares follow
// the weights.
func TestConnectionsAreSharedByWeightAndAnsweredOnce(t *testing.T) {
	const total = 10000
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 200}})
			for _, n := range c.nodes {
				n.serve()
				if status, err := n.status(); err != nil || len(status.Attach) != 1 || status.Attach[0].Mode != attach {
					t.Fatalf("%s: attached %v, want %s; %v", n.name, status.Attach, attach, err)
				}
			}
			tap := newTap(t, c.client)
			for _, vip := range []netip.Addr{vip4, vip6} {
				answers := c.connections(t, vip, 20000, total)
				for _, n := range c.nodes {
					want := float64(total) * float64(n.weight) / 400
					if off := math.Abs(float64(answers[n.name])-want) / want; off > 0.03 {
						t.Errorf("%s of %s: %d connections, want %.0f: %.1f %% off", n.name, vip, answers[n.name], want, 100*off)
					}
				}
				t.Logf("%s %s: %v", attach, vip, answers)
			}
			handshakes, doubled := tap.duplicates()
			if handshakes != 2*total || doubled != 0 {
				t.Errorf("%d handshakes, %d answered by two nodes; want %d and 0", handshakes, doubled, 2*total)
			}
		})
	}
}

func TestDatagramsAndPingsAreAnsweredOnce(t *testing.T) {
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 100}})
			for _, n := range c.nodes {
				n.serve()
			}
			tap := newTap(t, c.client)
			for _, vip := range []netip.Addr{vip4, vip6} {
				for _, size := range []int{100, 8000} { // 8,000 bytes are six fragments
					nodes := make(map[string]int)
					for i := range 200 {
						nodes[c.datagram(t, vip, 30000+i, size)]++
					}
					if len(nodes) != 3 {
						t.Errorf("%s, %d bytes: answered by %v, want all three", vip, size, nodes)
					}
				}
				for i := range 100 {
					c.ping(t, vip, i, 56)
					c.ping(t, vip, 1000+i, 4000)
				}
			}
			time.Sleep(200 * time.Millisecond) // for answers that should not come
			tap.mu.Lock()
			defer tap.mu.Unlock()
			for p, n := range tap.udp {
				if p >= 30000 && p < 30200 && n != 4 {
					t.Errorf("port %d: %d datagrams in answer to 4", p, n)
				}
			}
			if len(tap.echoes) != 400 {
				t.Errorf("%d pings answered, want 400", len(tap.echoes))
			}
			for id, n := range tap.echoes {
				if n != 1 {
					t.Errorf("ping %s: %d replies", id, n)
				}
			}
		})
	}
}

// datagram sends one and returns the name in the answer, which must hold what was sent.
func (c *cluster) datagram(t *testing.T, vip netip.Addr, sourcePort, size int) string {
	t.Helper()
	name, err := c.question(vip, sourcePort, size, 10*time.Second)
	check(t, err)
	return name
}

// question is a datagram that need not be answered.
func (c *cluster) question(vip netip.Addr, sourcePort, size int, within time.Duration) (string, error) {
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(clientAddr(vip), uint16(sourcePort)))
	conn, err := c.client.DialFrom(context.Background(), &net.Dialer{LocalAddr: local}, "udp", netip.AddrPortFrom(vip, port).String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		return "", err
	}
	answer := make([]byte, 65536)
	n, err := conn.Read(answer)
	if err != nil || n != size+3 {
		return "", fmt.Errorf("%s, port %d, %d bytes: answer of %d bytes: %w", vip, sourcePort, size, n, err)
	}
	return string(answer[:2]), nil
}

// ping sends an echo request and waits for a reply.
func (c *cluster) ping(t *testing.T, vip netip.Addr, sequence, size int) {
	t.Helper()
	network, request := "ip4:icmp", byte(8)
	if vip.Is6() {
		network, request = "ip6:ipv6-icmp", 128
	}
	conn, err := c.client.DialFrom(context.Background(), &net.Dialer{}, network, vip.String())
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	message := make([]byte, 8+size)
	message[0] = request
	binary.BigEndian.PutUint16(message[4:], 7)
	binary.BigEndian.PutUint16(message[6:], uint16(sequence))
	if vip.Is4() { // the kernel does it for IPv6
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 65536)
	for {
		n, _, err := conn.(*net.IPConn).ReadFrom(answer) // unlike Read it strips the IPv4 header
		if err != nil {
			t.Fatalf("ping %s, number %d, %d bytes: %v", vip, sequence, size, err)
		}
		if n >= 8 && binary.BigEndian.Uint16(answer[6:]) == uint16(sequence) {
			return
		}
	}
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
