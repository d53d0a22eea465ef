package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/health"
)

// A family is what differs between the two versions of ICMP.
type family struct {
	datagram, raw  string // networks of icmp.ListenPacket
	any            string
	protocol       int
	request, reply icmp.Type
}

var families = map[bool]family{ // by Is4
	true:  {"udp4", "ip4:icmp", "0.0.0.0", unix.IPPROTO_ICMP, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply},
	false: {"udp6", "ip6:ipv6-icmp", "::", unix.IPPROTO_ICMPV6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply},
}

func tryICMP(ctx context.Context, target netip.AddrPort, _ *Spec) (health.Result, error) {
	addr := target.Addr().Unmap()
	f := families[addr.Is4()]
	conn, to, err := f.listen(addr)
	if err != nil {
		return health.Result{}, err
	}
	defer conn.Close()
	defer bind(ctx, conn)()

	// The text is the proof that a reply is ours: of ids, the kernel replaces those of datagram
	// sockets, and raw ones hear everybody's.
	text := []byte(rand.Text())
	request, err := (&icmp.Message{Type: f.request, Body: &icmp.Echo{Seq: 1, Data: text}}).Marshal(nil)
	if err != nil {
		return failed("echo request: %w", err)
	}
	if _, err := conn.WriteTo(request, to); err != nil {
		return failed("send: %w", plain(err))
	}
	if err := f.await(conn, text); err != nil {
		return health.Result{}, err
	}
	return found("echo reply")
}

// listen prefers the socket that needs no privilege. Whether it may be opened is a matter of the
// sysctl net.ipv4.ping_group_range, which containers and old systems leave empty.
func (f family) listen(to netip.Addr) (*icmp.PacketConn, net.Addr, error) {
	conn, err := icmp.ListenPacket(f.datagram, f.any)
	if err == nil {
		return conn, &net.UDPAddr{IP: to.AsSlice(), Zone: to.Zone()}, nil
	}
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return nil, nil, fmt.Errorf("open socket: %w", plain(err))
	}
	conn, err = icmp.ListenPacket(f.raw, f.any)
	if err != nil {
		return nil, nil, fmt.Errorf("open socket: %w: needs CAP_NET_RAW or net.ipv4.ping_group_range", plain(err))
	}
	if p := conn.IPv6PacketConn(); p != nil {
		var only ipv6.ICMPFilter // or every neighbour's solicitation would wake us
		only.SetAll(true)
		only.Accept(ipv6.ICMPTypeEchoReply)
		if err := p.SetICMPFilter(&only); err != nil {
			conn.Close()
			return nil, nil, fmt.Errorf("filter: %w", plain(err))
		}
	}
	return conn, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}, nil
}

func (f family) await(conn *icmp.PacketConn, text []byte) error {
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("echo reply: %w", plain(err))
		}
		message, err := icmp.ParseMessage(f.protocol, buf[:n])
		if err != nil || message.Type != f.reply {
			continue
		}
		if echo, ok := message.Body.(*icmp.Echo); ok && bytes.Equal(echo.Data, text) {
			return nil
		}
	}
}
