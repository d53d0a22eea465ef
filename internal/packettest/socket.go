package packettest

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Established makes an established TCP connection in the network namespace of the caller's thread,
// without a peer and without a packet, and lives until the test ends. The namespace needs local's address and
// a route to remote.
func Established(t testing.TB, local, remote netip.AddrPort) {
	t.Helper()
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("socket: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	const on = 1
	// in repair mode connect makes the state alone: tcp(7), TCP_REPAIR
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on); err != nil {
		t.Fatalf("share the port: %v", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, on); err != nil {
		t.Fatalf("repair mode: %v", err)
	}
	if err := unix.Bind(fd, sockaddr(local)); err != nil {
		t.Fatalf("bind %s: %v", local, err)
	}
	if err := unix.Connect(fd, sockaddr(remote)); err != nil {
		t.Fatalf("connect %s to %s: %v", local, remote, err)
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
