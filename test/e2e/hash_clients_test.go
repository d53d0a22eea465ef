package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// serveAt starts servers for a VIP: TCP tells the node's name to who connects, UDP answers with the
// name and what it got.
func (n *node) serveAt(vip netip.Addr, ports ...uint16) {
	n.t.Helper()
	for _, port := range ports {
		at := netip.AddrPortFrom(vip, port).String()
		l, err := n.host.Listen(context.Background(), "tcp", at)
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
		udp, err := n.host.ListenPacket(context.Background(), "udp", at)
		check(n.t, err)
		n.t.Cleanup(func() { udp.Close() })
		go n.answerDatagrams(udp)
	}
}

func (n *node) answerDatagrams(conn net.PacketConn) {
	buffer := make([]byte, 65536)
	for {
		size, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(append([]byte(n.name+" "), buffer[:size]...), from) // the client counts
	}
}

// ask makes one TCP connection, or sends one datagram, and returns the name of who answered.
func (c *cluster) ask(network string, from, to netip.AddrPort, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	if network == "udp" {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	conn, err := c.client.DialFrom(ctx, dialer, network, to.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if tcp, ok := conn.(*net.TCPConn); ok {
		// a reset instead of FIN leaves no TIME_WAIT behind: ports are used again
		if err := tcp.SetLinger(0); err != nil {
			return "", err
		}
	} else if _, err := conn.Write([]byte("who?")); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	var answer [64]byte
	size, err := conn.Read(answer[:])
	if err != nil {
		return "", err
	}
	if size < 2 {
		return "", fmt.Errorf("answer of %d bytes", size)
	}
	return string(answer[:2]), nil
}

// answerer is ask for what has to be answered.
func (c *cluster) answerer(t *testing.T, network string, from, to netip.AddrPort) string {
	t.Helper()
	name, err := c.ask(network, from, to, 5*time.Second)
	if err != nil {
		t.Fatalf("%s from %s to %s: %v", network, from, to, err)
	}
	return name
}

func at(addr netip.Addr, port int) netip.AddrPort { return netip.AddrPortFrom(addr, uint16(port)) }
