package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// serverOptions say who answers, as all the servers of a node.
type serverOptions struct {
	Name string
	VIPs []netip.Addr
	Port uint16
}

// playServer answers a line and a datagram each with its own name and what it got.
func playServer(ctx context.Context, text []byte, ready func()) (any, error) {
	var opts serverOptions
	if err := json.Unmarshal(text, &opts); err != nil {
		return nil, err
	}
	listen := net.ListenConfig{KeepAlive: -1, Control: beforeTheAddress}
	l, err := listen.Listen(ctx, "tcp", fmt.Sprintf(":%d", opts.Port))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go opts.acceptAll(l)
	for _, vip := range opts.VIPs {
		// bound to the VIP, so that answers come from it
		udp, err := listen.ListenPacket(ctx, "udp", netip.AddrPortFrom(vip, opts.Port).String())
		if err != nil {
			return nil, err
		}
		defer udp.Close()
		go opts.answerDatagrams(udp)
	}
	ready()
	<-ctx.Done()
	return nil, nil
}

// beforeTheAddress lets a socket be bound to an address that the machine does not have yet.
func beforeTheAddress(network, _ string, raw syscall.RawConn) (err error) {
	level, option := unix.SOL_IP, unix.IP_FREEBIND
	if network[len(network)-1] == '6' {
		level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) })
	if control != nil {
		return control
	}
	return err
}

func (o *serverOptions) acceptAll(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go o.answerLines(conn)
	}
}

func (o *serverOptions) answerLines(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewReaderSize(conn, 64)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, o.Name+" "+string(line)); err != nil {
			return
		}
	}
}

func (o *serverOptions) answerDatagrams(conn net.PacketConn) {
	buffer := make([]byte, 2048)
	for {
		size, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(append([]byte(o.Name+" "), buffer[:size]...), from) // the client counts
	}
}
