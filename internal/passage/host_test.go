package passage_test

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// offload leaves the checksums of what a host sends to its network card, which a veth does not have.
func (l *lab) offload(h *netlab.Host) {
	l.t.Helper()
	l.must(h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, 1}
		request := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte // struct ifreq is a union: the kernel copies all of it
		}{data: unsafe.Pointer(&value)}
		copy(request.name[:], "eth0")
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
		if errno != 0 {
			return errno
		}
		return nil
	}))
}

// picture is what the director has of links, addresses, routes and settings.
func (l *lab) picture() string {
	l.t.Helper()
	var b strings.Builder
	l.must(l.d.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, link.Attrs().Name, addresses)
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, 0)
		if err != nil {
			return err
		}
		for i := range routes {
			fmt.Fprintln(&b, routes[i].Dst, routes[i].Gw, routes[i].LinkIndex, routes[i].Table)
		}
		rules, err := netlink.RuleList(netlink.FAMILY_ALL)
		fmt.Fprintln(&b, rules)
		return err
	}))
	for _, name := range []string{"net.ipv4.ip_local_port_range", "net.ipv4.conf.all.accept_local", "net.ipv4.conf.all.rp_filter"} {
		value, err := l.d.Sysctl(name)
		l.must(err)
		fmt.Fprintln(&b, name, value)
	}
	names, err := os.ReadDir("/run/netns")
	l.must(err)
	for _, name := range names {
		if strings.HasPrefix(name.Name(), strings.TrimSuffix(l.d.Namespace, "d")) {
			fmt.Fprintln(&b, name.Name())
		}
	}
	return b.String()
}
