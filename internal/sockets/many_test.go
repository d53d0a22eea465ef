package sockets_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/sockets"
)

// many is a power of ten below the usual limit of descriptors.
const many = 10_000

// crowd opens many connections to the VIPs, a quarter each of IPv4, IPv6, mapped, and to VIPs that
// are not asked for. The servers accept none of them, which costs no descriptors and makes no
// difference to the kernel's table. With both ends on one machine it holds 20,000 sockets.
func crowd(t testing.TB, h *netlab.Host) (clients []net.Conn) {
	t.Helper()
	listeners := []struct{ network, addr string }{
		{"tcp4", vip4 + ":80"}, {"tcp6", "[" + vip6 + "]:80"}, {"tcp", "[::]:443"}, {"tcp", "[::]:444"},
	}
	targets := []string{vip4 + ":80", "[" + vip6 + "]:80", vip4 + ":443", other4 + ":444"}
	for _, l := range listeners {
		listen(t, h, l.network, l.addr)
	}
	err := h.Do(func() error {
		for i := range many {
			c, err := dialer(targets[i%4]).DialContext(context.Background(), "tcp", targets[i%4])
			if err != nil {
				return err
			}
			clients = append(clients, c)
		}
		return nil
	})
	t.Cleanup(func() {
		for _, c := range clients {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

var crowded = sockets.Filter{Local: []netip.AddrPort{place(vip4 + ":0"), place("[" + vip6 + "]:0")}}

func TestTenThousandConnections(t *testing.T) {
	h := node(t)
	clients := crowd(t, h)
	eventually(t, h, crowded, map[netip.AddrPort]sockets.Counts{
		crowded.Local[0]: {TCP: tcp{sockets.Established: many / 2}},
		crowded.Local[1]: {TCP: tcp{sockets.Established: many / 4}},
	})
	remotes := make(map[string]bool)
	for _, c := range connections(t, h, crowded) {
		remotes[c.Remote.String()] = true
	}
	for i, c := range clients {
		if want := i%4 != 3; remotes[c.LocalAddr().String()] != want {
			t.Fatalf("client %d, %s to %s: in the list %t", i, c.LocalAddr(), c.RemoteAddr(), !want)
		}
	}

	start := time.Now()
	if n := destroy(t, h, crowded, nil); n != many*3/4 {
		t.Errorf("%d closed, want %d", n, many*3/4)
	}
	t.Logf("closing %d took %s", many*3/4, time.Since(start))
	for i, c := range clients {
		if i%4 != 3 {
			ends(t, c, unix.ECONNRESET)
		}
	}
	eventually(t, h, sockets.Filter{Local: append([]netip.AddrPort{place(other4 + ":444")}, crowded.Local...)}, map[netip.AddrPort]sockets.Counts{
		crowded.Local[0]:       {TCP: tcp{}},
		crowded.Local[1]:       {TCP: tcp{}},
		place(other4 + ":444"): {TCP: tcp{sockets.Established: many / 4}},
	})
}

// One look at 20,000 sockets, 7,500 of which are of interest, or almost none; with the kernel
// comparing, and with so many places that it does not.
func BenchmarkCount(b *testing.B) {
	h := node(b)
	crowd(b, h)
	var places []netip.AddrPort
	for i := range 200 {
		places = append(places, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 80))
	}
	for _, c := range []struct {
		name  string
		local []netip.AddrPort
	}{
		{"two-vips", crowded.Local},
		{"nothing-found", []netip.AddrPort{place(plain4 + ":80")}},
		{"64-places", append(places[:62:62], crowded.Local...)},
		{"202-places", append(places, crowded.Local...)},
	} {
		b.Run(fmt.Sprintf("%s-%d", c.name, 2*many), func(b *testing.B) {
			err := h.Do(func() error {
				for b.Loop() {
					if _, err := sockets.Count(sockets.Filter{Local: c.local}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}
