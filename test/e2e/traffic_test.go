package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

const port = 8080

// serve starts the servers of a node: TCP tells the node's name to who connects, then echoes; UDP
// answers with the name and what it got.
func (n *node) serve() {
	n.t.Helper()
	l, err := n.host.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", port))
	check(n.t, err)
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go n.answer(conn)
		}
	}()
	for _, vip := range n.answersFor() {
		// bound to the VIP, so that answers come from it; it is on lo by now
		udp, err := n.host.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(vip, port).String())
		check(n.t, err)
		n.t.Cleanup(func() { udp.Close() })
		go func() {
			buffer := make([]byte, 65536)
			for {
				size, from, err := udp.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = udp.WriteTo(append([]byte(n.name+" "), buffer[:size]...), from) // the client counts
			}
		}()
	}
}

// answersFor are the addresses that clients ask a node for.
func (n *node) answersFor() []netip.Addr {
	if n.asked != nil {
		return n.asked
	}
	return []netip.Addr{vip4, vip6}
}

func (n *node) answer(conn net.Conn) {
	defer conn.Close()
	if _, err := io.WriteString(conn, n.name+"\n"); err != nil {
		return
	}
	buffer := make([]byte, 4096)
	for {
		size, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:size]); err != nil {
			return
		}
	}
}

// A tap counts what the client's interface sends and receives, below its stack.
type tap struct {
	fd      int
	done    chan struct{}
	mu      sync.Mutex
	synAcks map[string]int // by address, port and sequence number acknowledged
	echoes  map[string]int // ICMP echo replies by sender, id and sequence number
	udp     map[uint16]int // datagrams, or first fragments, by destination port
	syns    map[string]int // sent, by port and sequence number; one sent again was not answered
}

func newTap(t *testing.T, host *netlab.Host) *tap {
	t.Helper()
	p := &tap{
		done: make(chan struct{}), synAcks: make(map[string]int),
		echoes: make(map[string]int), udp: make(map[uint16]int), syns: make(map[string]int),
	}
	check(t, host.Do(func() (err error) {
		const all = 0x0300 // ETH_P_ALL in network order
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, all); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
	}))
	stop := make(chan struct{})
	go p.read(stop)
	t.Cleanup(func() {
		close(stop)
		<-p.done
		unix.Close(p.fd)
	})
	return p
}

func (p *tap) read(stop chan struct{}) {
	defer close(p.done)
	buffer := make([]byte, 65536)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(p.fd, buffer, 0)
		if err != nil {
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			p.note(buffer[:n], ll.Pkttype == unix.PACKET_OUTGOING)
		}
	}
}

func (p *tap) note(b []byte, outgoing bool) {
	var protocol byte
	var payload []byte
	switch {
	case len(b) > 40 && b[0]>>4 == 6:
		protocol, payload = b[6], b[40:]
		if protocol == 44 && len(payload) > 8 && binary.BigEndian.Uint16(payload[2:])&0xfff8 == 0 {
			protocol, payload = payload[0], payload[8:]
		}
	case len(b) > 20 && b[0]>>4 == 4 && binary.BigEndian.Uint16(b[6:])&0x1fff == 0:
		protocol, payload = b[9], b[int(b[0]&15)*4:]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !outgoing && isForVIP(b): // what the switch floods to all: replies of full NAT
	case outgoing:
		if protocol == unix.IPPROTO_TCP && len(payload) >= 20 && payload[13]&0x12 == 0x02 {
			p.syns[fmt.Sprintf("%d %x", b[0]>>4, payload[:8])]++
		}
	case protocol == unix.IPPROTO_TCP && len(payload) >= 20 && payload[13]&0x12 == 0x12:
		p.synAcks[fmt.Sprintf("%d %x %x", b[0]>>4, payload[2:4], payload[8:12])+fmt.Sprintf(" %x", payload[4:8])]++
	case protocol == unix.IPPROTO_UDP && len(payload) >= 8:
		p.udp[binary.BigEndian.Uint16(payload[2:])]++
	case protocol == unix.IPPROTO_ICMP && len(payload) >= 8 && payload[0] == 0,
		protocol == unix.IPPROTO_ICMPV6 && len(payload) >= 8 && payload[0] == 129:
		p.echoes[fmt.Sprintf("%d %x", b[0]>>4, payload[4:8])]++
	}
}

func isForVIP(ip []byte) bool {
	return len(ip) >= 40 && ip[0]>>4 == 6 && bytes.Equal(ip[24:40], vip6.AsSlice()) ||
		len(ip) >= 20 && ip[0]>>4 == 4 && bytes.Equal(ip[16:20], vip4.AsSlice())
}

// duplicates returns how many handshakes got SYN-ACKs with different sequence numbers: two stacks
// answered one SYN.
func (p *tap) duplicates() (handshakes, doubled int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[string]int)
	for key := range p.synAcks {
		seen[key[:len(key)-9]]++
	}
	for _, n := range seen {
		if n > 1 {
			doubled++
		}
	}
	return len(seen), doubled
}

// resent returns how many SYNs were sent more than once: the first was lost.
func (p *tap) resent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, sent := range p.syns {
		if sent > 1 {
			n++
		}
	}
	return n
}

// connect makes one connection from a fixed port and returns who answered and how long it took.
func (c *cluster) connect(vip netip.Addr, sourcePort int) (string, time.Duration, error) {
	return c.connectFrom(netip.AddrPortFrom(clientAddr(vip), uint16(sourcePort)), vip)
}

// connectFrom is connect from an address that the client has besides.
func (c *cluster) connectFrom(from netip.AddrPort, vip netip.Addr) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	local := net.TCPAddrFromAddrPort(from)
	start := time.Now()
	conn, err := c.client.DialFrom(ctx, &net.Dialer{LocalAddr: local}, "tcp", netip.AddrPortFrom(vip, port).String())
	took := time.Since(start)
	if err != nil {
		return "", took, err
	}
	defer conn.Close()
	// a reset instead of FIN leaves no TIME_WAIT behind: ports are used again
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return "", took, err
	}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", took, err
	}
	var name [16]byte
	n, err := conn.Read(name[:])
	if err != nil || n < 2 {
		return "", took, fmt.Errorf("read the node's name: %w", err)
	}
	return string(name[:n-1]), took, nil
}

func clientAddr(vip netip.Addr) netip.Addr {
	if vip.Is4() {
		return netip.MustParseAddr("192.0.2.200")
	}
	return netip.MustParseAddr("2001:db8::200")
}

// connections makes one connection from each port of [first, first+n) and counts who answered.
func (c *cluster) connections(t *testing.T, vip netip.Addr, first, n int) map[string]int {
	t.Helper()
	var mu sync.Mutex
	answers := make(map[string]int)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				name, _, err := c.connect(vip, first+i)
				if err != nil {
					t.Errorf("connection from port %d: %v", first+i, err)
					next.Store(int64(n))
					return
				}
				mu.Lock()
				answers[name]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return answers
}
