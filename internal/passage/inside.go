package passage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tunName = "lb-vip"
	// tunMTU is the least that IPv6 allows, so that a packet fits into every tunnel.
	tunMTU = 1280
	// maxPacket is an IP packet of any length: receive offload may have put several into one.
	maxPacket = 1 << 16
)

type syscallConn = syscall.RawConn

// An inside is the namespace in which VIPs are somebody else's.
type inside struct {
	netns *os.File
	tun   *os.File

	mu   sync.Mutex
	held map[netip.Addr]bool // addresses that it has
}

func openInside() (*inside, error) {
	s := &inside{held: make(map[netip.Addr]bool)}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		netns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		s.netns = netns
		if s.tun, err = openTun(); err == nil {
			err = equip()
		}
		return err
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *inside) close() {
	for _, file := range []*os.File{s.tun, s.netns} {
		if file != nil {
			_ = file.Close() // nothing was written that could be lost
		}
	}
}

// openTun makes the device in the namespace of the calling thread. It goes with the file.
func openTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(tunName)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make tun device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// equip routes everything to the device of the calling thread's namespace.
func equip() error {
	// Each probe takes a port for a minute, TIME_WAIT included.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65535"), 0); err != nil {
		return fmt.Errorf("widen port range: %w", err)
	}
	link, err := netlink.LinkByName(tunName)
	if err == nil {
		err = netlink.LinkSetMTU(link, tunMTU)
	}
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	for _, all := range []net.IPNet{{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}} {
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &all, Scope: netlink.SCOPE_LINK})
		}
	}
	if err != nil {
		return fmt.Errorf("set up tun device: %w", err)
	}
	return nil
}

// hold gives the namespace an address.
func (s *inside) hold(addr netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[addr] {
		return nil
	}
	err := s.enter(func() error {
		link, err := netlink.LinkByName(tunName)
		if err != nil {
			return err
		}
		own := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
		if addr.Is6() {
			own.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, own); err != nil {
			return err
		}
		return awaitLocal(addr)
	})
	if err != nil {
		return fmt.Errorf("hold %s: %w", addr, err)
	}
	s.held[addr] = true
	return nil
}

// awaitLocal returns when packets to an address of the calling thread's namespace are taken: a little
// after IPv6 addresses were added.
func awaitLocal(addr netip.Addr) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(addr.AsSlice())
		switch {
		case err != nil:
			return err
		case len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL:
			return nil
		case time.Now().After(deadline):
			return errors.New("not usable after a second")
		}
	}
}

// dial dials inside. The address is numeric, so no goroutine of a resolver dials elsewhere.
func (s *inside) dial(ctx context.Context, dialer *net.Dialer, network string, to netip.AddrPort) (conn net.Conn, err error) {
	err = s.enter(func() error {
		conn, err = dialer.DialContext(ctx, network, to.String())
		return err
	})
	return conn, err
}

// enter runs fn in the namespace.
func (s *inside) enter(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return fn()
	})
}

// onThread runs fn on a thread that ends with it, so that its namespace reaches nobody else. The main
// thread cannot end: it is held meanwhile.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			result <- onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		result <- fn()
	}()
	return <-result
}

// bindTo gives a socket its own address and a free port, and says what flow it will be.
func bindTo(socket syscallConn, network string, source netip.Addr, dest netip.AddrPort) (flow, error) {
	f := flow{protocol: unix.IPPROTO_TCP, dest: dest}
	if network == "udp" {
		f.protocol = unix.IPPROTO_UDP
	}
	var failed error
	err := socket.Control(func(fd uintptr) {
		var local unix.Sockaddr = &unix.SockaddrInet6{Addr: source.As16()}
		if source.Is4() {
			local = &unix.SockaddrInet4{Addr: source.As4()}
		}
		if failed = unix.Bind(int(fd), local); failed != nil {
			return
		}
		if local, failed = unix.Getsockname(int(fd)); failed != nil {
			return
		}
		switch bound := local.(type) {
		case *unix.SockaddrInet4:
			f.source = netip.AddrPortFrom(source, uint16(bound.Port))
		case *unix.SockaddrInet6:
			f.source = netip.AddrPortFrom(source, uint16(bound.Port))
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return f, fmt.Errorf("bind to %s: %w", source, err)
	}
	return f, nil
}
