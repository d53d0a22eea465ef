package netconf

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A snapshot is what the kernel holds at one time, sysctls excepted.
type snapshot struct {
	index   map[string]int // of interfaces by name
	name    map[int]string
	held    map[item]bool // addresses of all interfaces, groups and filters
	joined  map[item]bool // groups that somebody on this machine joined
	usable6 []netip.Addr  // IPv6 addresses of global scope that connections may come from
}

func observe() (*snapshot, error) {
	now := &snapshot{
		index: make(map[string]int), name: make(map[int]string), held: make(map[item]bool), joined: make(map[item]bool),
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		now.index[i.Name] = i.Index
		now.name[i.Index] = i.Name
	}
	for _, read := range []func() error{now.readAddresses, now.readMulticastFilters, now.readUnicastFilters, now.readGroups6} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// named is the interface of an index, if there is one; 0, which none has, is that of all.
func (now *snapshot) named(index int) string {
	if index == 0 {
		return allInterfaces
	}
	return now.name[index]
}

// inspect says whether an item is as it should be, not asking who put it there, and what it is
// now: the value of a sysctl, "" for the rest.
func (now *snapshot) inspect(it item, rec *record) (found string, ok bool, err error) {
	if it.Kind == kindSysctl {
		if found, err = readSysctl(it); err != nil {
			return "", false, fmt.Errorf("%s: %w", it, err)
		}
		switch it.Name {
		case looseReturn().name:
			return found, !strict(it.Interface), nil
		case routesLearnt().name:
			return found, found != "1", nil // 0: never, 2: always
		}
		return found, it.setting().satisfied(found), nil
	}
	if it.isGroup6() { // the address may be gone and the group not, see addGroup, or the other way round
		return "", now.joined[it] && (now.held[it] || rec.has(it)), nil
	}
	return "", now.held[it], nil
}

// mayHold says whether removing the item makes sense: one that was noted may never have come
// to be.
func (now *snapshot) mayHold(it item) bool {
	return it.Kind == kindSysctl || now.held[it]
}

func (now *snapshot) readAddresses() error {
	addrs, err := addresses()
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED
		if ip.Is6() && ip.IsGlobalUnicast() && a.Flags&unusable == 0 {
			now.usable6 = append(now.usable6, ip)
		}
		kind := kindAddress
		if a.Flags&unix.IFA_F_MCAUTOJOIN != 0 {
			kind = kindGroup
		}
		now.held[item{kind, now.name[a.LinkIndex], ip.Unmap().String()}] = true
	}
	return nil
}

// readMulticastFilters takes what SIOCADDMULTI added. The lines of dev_mcast are: interface
// index, name, users, 1 if added by ioctl, MAC.
func (now *snapshot) readMulticastFilters() error {
	return eachLine("dev_mcast", func(f []string) {
		if len(f) != 5 || f[3] != "1" || len(f[4]) != 12 {
			return
		}
		mac := f[4][0:2] + ":" + f[4][2:4] + ":" + f[4][4:6] + ":" + f[4][6:8] + ":" + f[4][8:10] + ":" + f[4][10:12]
		now.held[item{kindFilter, f[1], mac}] = true
	})
}

func (now *snapshot) readUnicastFilters() error {
	entries, err := netlink.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("list mac filters: %w", err)
	}
	for _, n := range entries {
		if n.Flags&netlink.NTF_SELF != 0 && len(n.HardwareAddr) == 6 && !isMulticast(n.HardwareAddr) {
			now.held[item{kindFilter, now.name[n.LinkIndex], n.HardwareAddr.String()}] = true
		}
	}
	return nil
}

// readGroups6 takes the IPv6 memberships. The lines of igmp6 begin with: interface index, name,
// group in hexadecimal.
func (now *snapshot) readGroups6() error {
	return eachLine("igmp6", func(f []string) {
		if len(f) < 3 {
			return
		}
		group, err := hex.DecodeString(f[2])
		if addr, ok := netip.AddrFromSlice(group); ok && err == nil {
			now.joined[item{kindGroup, f[1], addr.String()}] = true
		}
	})
}

// eachLine splits the lines of a file that the kernel shows per network namespace. A kernel
// without the protocol has no file.
func eachLine(name string, fn func(fields []string)) error {
	// Not /proc/net: that is the namespace of the main thread.
	data, err := os.ReadFile("/proc/thread-self/net/" + name)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for line := range strings.Lines(string(data)) {
		fn(strings.Fields(line))
	}
	return nil
}
