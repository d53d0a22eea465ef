package netconf

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A filter makes an interface's hardware take frames for a shared MAC. Packet-socket memberships
// would end with the process; these stay.

func addFilter(e entry) error {
	mac, err := net.ParseMAC(e.Name)
	if err != nil {
		return err
	}
	if isMulticast(mac) {
		// "Global" entries of the kernel's list are held once, however often they are added.
		return multicastIoctl(unix.SIOCADDMULTI, e.Interface, mac)
	}
	err = netlink.NeighAppend(unicastFilter(e.Index, mac))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the driver takes no second unicast mac, use a multicast form: %w", err)
	}
	return err
}

func removeFilter(e entry) error {
	mac, err := net.ParseMAC(e.Name)
	if err != nil {
		return err
	}
	if isMulticast(mac) {
		err = multicastIoctl(unix.SIOCDELMULTI, e.Interface, mac)
	} else {
		err = netlink.NeighDel(unicastFilter(e.Index, mac))
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func isMulticast(mac net.HardwareAddr) bool { return mac[0]&1 != 0 }

// unicastFilter is the entry that ends in the kernel's dev_uc_add.
func unicastFilter(index int, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF, HardwareAddr: mac,
	}
}

func multicastIoctl(request uintptr, ifname string, mac net.HardwareAddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req := struct {
		name   [unix.IFNAMSIZ]byte
		family uint16 // AF_UNSPEC
		mac    [14]byte
		_      [8]byte // struct ifreq is a union: the kernel copies all of it
	}{}
	copy(req.name[:unix.IFNAMSIZ-1], ifname)
	copy(req.mac[:], mac)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	return nil
}
