package doctor

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A machine is what there is to look at.
type machine struct {
	links     []device
	addresses []held
	defaults  []gateway
	ipv4      map[string]settings // by interface, and for all
	ipv6      map[string]settings
}

type device struct {
	name string
	kind string // of the driver: veth, ipip, ...
	mtu  int
	up   bool
	arp  bool // it resolves and answers
}

// A held address is on an interface.
type held struct {
	prefix netip.Prefix
	ifname string
}

// A gateway is where a default route leads; the zero Addr when all is on the link.
type gateway struct {
	via    netip.Addr
	ifname string
	v6     bool
}

// settings are those sysctls of an interface that matter here, 0 where the kernel has none.
type settings map[string]string

const shared = "drop_unicast_in_l2_multicast"

var (
	read4 = []string{"arp_ignore", "arp_announce", "rp_filter", "send_redirects", shared}
	read6 = []string{shared}
)

func observe() (*machine, error) {
	m := &machine{ipv4: make(map[string]settings), ipv6: make(map[string]settings)}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := make(map[int]string)
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		m.links = append(m.links, device{
			name: a.Name, kind: l.Type(), mtu: a.MTU, up: a.Flags&net.FlagUp != 0,
			arp: a.RawFlags&unix.IFF_NOARP == 0 && a.Flags&net.FlagLoopback == 0,
		})
	}
	for _, name := range append(slices.Collect(maps.Values(names)), "all") {
		if m.ipv4[name], err = readSettings("ipv4", name, read4); err != nil {
			return nil, err
		}
		if m.ipv6[name], err = readSettings("ipv6", name, read6); err != nil {
			return nil, err
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		m.addresses = append(m.addresses, held{netip.PrefixFrom(ip.Unmap(), bits), names[a.LinkIndex]})
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := m.readDefaults(family, names); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *machine) readDefaults(family int, names map[int]string) error {
	routes, err := netlink.RouteList(nil, family)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.Type != unix.RTN_UNICAST {
			continue
		}
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
		}
		for _, hop := range hops {
			via, _ := netip.AddrFromSlice(hop.Gw)
			m.defaults = append(m.defaults, gateway{via.Unmap(), names[hop.LinkIndex], family == netlink.FAMILY_V6})
		}
	}
	return nil
}

func readSettings(family, ifname string, names []string) (settings, error) {
	found := make(settings)
	for _, name := range names {
		value, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + ifname + "/" + name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		found[name] = strings.TrimSpace(string(value))
	}
	return found, nil
}

// effective is the value of an IPv4 setting that counts: the kernel takes the larger of two digits.
func (m *machine) effective(ifname, name string) string {
	return max(m.ipv4["all"][name], m.ipv4[ifname][name])
}

func (m *machine) link(name string) *device {
	for i := range m.links {
		if m.links[i].name == name {
			return &m.links[i]
		}
	}
	return nil
}
