package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onLink runs fn inside the host for one of its interfaces.
func (h *Host) onLink(ifname, what string, fn func(netlink.Link) error) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err == nil {
			err = fn(link)
		}
		if err != nil {
			return fmt.Errorf("host %s: interface %s: %s: %w", h.Name, ifname, what, err)
		}
		return nil
	})
}

// Up switches an interface on.
func (h *Host) Up(ifname string) error {
	return h.onLink(ifname, "switch on", netlink.LinkSetUp)
}

// Down switches an interface off; its IPv6 addresses and routes go away.
func (h *Host) Down(ifname string) error {
	return h.onLink(ifname, "switch off", netlink.LinkSetDown)
}

// SetMAC changes an interface's link-layer address.
func (h *Host) SetMAC(ifname string, mac net.HardwareAddr) error {
	return h.onLink(ifname, "set mac", func(link netlink.Link) error {
		return netlink.LinkSetHardwareAddr(link, mac)
	})
}

// MAC returns an interface's link-layer address.
func (h *Host) MAC(ifname string) (net.HardwareAddr, error) {
	var mac net.HardwareAddr
	err := h.onLink(ifname, "read mac", func(link netlink.Link) error {
		mac = link.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// Addr adds an address, usable at once.
func (h *Host) Addr(ifname string, prefix netip.Prefix) error {
	return h.onLink(ifname, "add "+prefix.String(), func(link netlink.Link) error {
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil || prefix.Addr().Is4() {
			return err
		}
		return waitSolicitable(link, prefix.Addr())
	})
}

// waitSolicitable returns when neighbours can resolve an IPv6 address. The kernel joins the group
// that solicitations are sent to a little after the address has been added.
func waitSolicitable(link netlink.Link, addr netip.Addr) error {
	if flags := link.Attrs().Flags; flags&net.FlagUp == 0 || flags&net.FlagLoopback != 0 {
		return nil
	}
	a := addr.As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%x", a[13:]) // RFC 4291 2.7.1
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		groups, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(groups)) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == link.Attrs().Name && f[2] == group {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return errors.New("solicited-node group not joined after 5s")
		}
	}
}

// DelAddr removes an address.
func (h *Host) DelAddr(ifname string, prefix netip.Prefix) error {
	return h.onLink(ifname, "remove "+prefix.String(), func(link netlink.Link) error {
		return netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(prefix)})
	})
}

// Addrs returns the addresses of an interface.
func (h *Host) Addrs(ifname string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	err := h.onLink(ifname, "list addresses", func(link netlink.Link) error {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range addrs {
			ip, _ := netip.AddrFromSlice(a.IP)
			bits, _ := a.Mask.Size()
			prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), bits))
		}
		return err
	})
	return prefixes, err
}

// Route adds a route to dst through a neighbour.
func (h *Host) Route(dst netip.Prefix, via netip.Addr) error {
	return h.Do(func() error {
		err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
		if err != nil {
			return fmt.Errorf("host %s: route %s via %s: %w", h.Name, dst, via, err)
		}
		return nil
	})
}

// Neighbour adds a permanent ARP or NDP entry.
func (h *Host) Neighbour(ifname string, addr netip.Addr, mac net.HardwareAddr) error {
	return h.onLink(ifname, "add neighbour "+addr.String(), func(link netlink.Link) error {
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac,
		})
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
