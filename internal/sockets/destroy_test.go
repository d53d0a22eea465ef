package sockets_test

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/sockets"
)

// ends fails unless reading from the connection fails for that reason.
func ends(t testing.TB, c net.Conn, reason error) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, reason) {
		t.Errorf("%s: %v, want %v", c.LocalAddr(), err, reason)
	}
}

func TestDestroyResetsClientsAndTouchesNobodyElse(t *testing.T) {
	h := node(t)
	only4, both := listen(t, h, "tcp4", vip4+":80"), listen(t, h, "tcp", "[::]:443")
	closed := []pair{
		connect(t, h, only4, vip4+":80"),
		connect(t, h, both, vip4+":443"), // an IPv6 socket
		connect(t, h, both, "["+vip6+"]:443"),
		connect(t, h, both, "["+vip6+"]:443"),
	}
	kept := []pair{
		connect(t, h, both, vip4+":443"),
		connect(t, h, both, "["+vip6+"]:443"),
		connect(t, h, both, other4+":443"),
		connect(t, h, both, "["+other6+"]:443"),
		connect(t, h, both, plain4+":443"),
	}
	if err := h.Do(sockets.CanDestroy); err != nil {
		t.Fatal(err)
	}
	chosen := make(map[netip.AddrPort]bool)
	for _, p := range closed {
		chosen[p.remote()] = true
	}
	f := sockets.Filter{Local: []netip.AddrPort{place(vip4 + ":0"), place("[" + vip6 + "]:0")}}
	seen := 0
	n := destroy(t, h, f, func(c sockets.Connection) bool { seen++; return chosen[c.Remote] })
	if n != len(closed) || seen != len(closed)+2 {
		t.Errorf("%d of %d closed, want %d of %d", n, seen, len(closed), len(closed)+2)
	}
	for _, p := range closed {
		ends(t, p.client, unix.ECONNRESET)
		ends(t, p.server, unix.ECONNABORTED)
	}
	for _, p := range kept {
		p.alive(t)
	}
	if n := destroy(t, h, f, nil); n != 2 {
		t.Errorf("%d of the remaining 2 closed", n)
	}
	for _, p := range kept[2:] {
		p.alive(t)
	}
	connect(t, h, only4, vip4+":80").alive(t) // and both listen on
	connect(t, h, both, vip4+":443").alive(t)
}

func TestAConnectionThatEndsMeanwhileCostsNoListener(t *testing.T) {
	h := node(t)
	for _, addr := range []string{vip4 + ":80", "[" + vip6 + "]:80"} {
		l := listen(t, h, "tcp", addr)
		p := connect(t, h, l, addr)
		f := sockets.Filter{Local: []netip.AddrPort{place(addr)}}
		n := destroy(t, h, f, func(sockets.Connection) bool {
			if err := errors.Join(p.client.SetLinger(0), p.client.Close()); err != nil { // RST: nothing remains
				t.Error(err)
			}
			ends(t, p.server, unix.ECONNRESET)
			return true
		})
		if n != 0 {
			t.Errorf("%d closed that were over", n)
		}
		connect(t, h, l, addr).alive(t)
	}
}

func TestWithoutTheRightNothingIsClosed(t *testing.T) {
	h := node(t)
	l := listen(t, h, "tcp4", vip4+":80")
	p := connect(t, h, l, vip4+":80")
	f := sockets.Filter{Local: []netip.AddrPort{place(vip4 + ":80")}}
	var can, did error
	var counts map[netip.AddrPort]sockets.Counts
	err := h.Do(func() (err error) {
		runtime.LockOSThread() // for good: the thread ends with this function
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		can = sockets.CanDestroy()
		_, did = sockets.Destroy(f, nil)
		counts, err = sockets.Count(f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "close sockets: CAP_NET_ADMIN: operation not permitted"; !errors.Is(can, unix.EPERM) || can.Error() != want {
		t.Errorf("can: %v, want %s", can, want)
	}
	if want := " to " + vip4 + ":80: operation not permitted"; !errors.Is(did, unix.EPERM) || !strings.HasSuffix(did.Error(), want) {
		t.Errorf("did: %v, want %s", did, want)
	}
	if n := counts[place(vip4+":80")].Sum(sockets.Open); n != 1 { // looking is allowed to all
		t.Errorf("%d counted", n)
	}
	p.alive(t)
}

func TestAKernelThatCannotDestroySaysSo(t *testing.T) {
	for _, c := range []struct {
		answer error
		done   bool
		want   error
	}{
		{nil, true, nil},
		{unix.ENOENT, false, nil},
		{unix.ESTALE, false, nil},
		{unix.EOPNOTSUPP, false, sockets.ErrNoDestroy},
		{unix.EPERM, false, unix.EPERM},
	} {
		if done, err := sockets.Destroyed(c.answer); done != c.done || !errors.Is(err, c.want) {
			t.Errorf("%v: %t, %v; want %t, %v", c.answer, done, err, c.done, c.want)
		}
	}
}
