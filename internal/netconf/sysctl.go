package netconf

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A setting is a sysctl of an interface that carries VIPs.
type setting struct {
	// name is family and name: ipv4/arp_ignore is net.ipv4.conf.<interface>.arp_ignore. What is to be
	// one thing on a node and another on a backend has the value behind it there: ipv4/x=1.
	name    string
	value   string
	atLeast bool // larger values are stricter and stay
}

// ownSources makes IPv6 connections that leave by an interface take their source from that interface
// only. It is for nodes without a global IPv6 address of their own: the next best address would be
// a VIP. Others may have theirs on lo, and keep it.
func ownSources() setting { return setting{"ipv6/use_oif_addrs_only", "1", false} }

// looseReturn makes the kernel take packets whose way back leaves by another interface.
func looseReturn() setting { return setting{"ipv4/rp_filter", "2", false} }

// allInterfaces stands for an interface in settings of the machine as a whole.
const allInterfaces = "all"

// forwarding4 and forwarding6 make the machine a router; for IPv4 it is net.ipv4.ip_forward by its
// other name.
func forwarding4() setting { return setting{"ipv4/forwarding", "1", false} }
func forwarding6() setting { return setting{"ipv6/forwarding", "1", false} }

// routesLearnt makes a router take routes from others where it would as a host.
func routesLearnt() setting { return setting{"ipv6/accept_ra", "2", false} }

// strict says whether an interface drops packets whose way back leaves by another one. The kernel
// takes the larger of two settings; 1 is strict.
func strict(ifname string) bool {
	return max(value4("all", looseReturn().name), value4(ifname, looseReturn().name)) == "1"
}

// settings returns what an interface needs for VIPs of the address's family.
func settings(vip netip.Addr) []setting {
	if vip.Is4() {
		return []setting{
			// The VIP is on lo: only addresses of the interface itself are answered.
			{"ipv4/arp_ignore", "1", true},
			// Our own ARP requests never carry the VIP: neighbours would note our MAC for it.
			{"ipv4/arp_announce", "2", true},
			{"ipv4/drop_unicast_in_l2_multicast", "0", false},
		}
	}
	// NDP needs nothing: Linux answers solicitations only for addresses of the interface they
	// arrive on, and takes none of lo's as their source.
	return []setting{{"ipv6/drop_unicast_in_l2_multicast", "0", false}}
}

// backendSettings returns what an interface needs for VIPs that directors forward.
func backendSettings(vip netip.Addr) []setting {
	if vip.Is4() {
		own := settings(vip)[:2] // those of ARP
		return append(own, looseReturn(), setting{"ipv4/drop_unicast_in_l2_multicast=1", "1", false})
	}
	return []setting{{"ipv6/drop_unicast_in_l2_multicast=1", "1", false}}
}

// setting returns what a sysctl item is to be.
func (it item) setting() setting {
	if _, value, given := strings.Cut(it.Name, "="); given {
		return setting{it.Name, value, false}
	}
	known := slices.Concat(settings(netip.IPv4Unspecified()), settings(netip.IPv6Unspecified()))
	for _, s := range append(known, ownSources(), looseReturn(), forwarding4(), forwarding6(), routesLearnt()) {
		if s.name == it.Name {
			return s
		}
	}
	return setting{name: it.Name}
}

func (s setting) satisfied(value string) bool {
	if !s.atLeast {
		return value == s.value
	}
	got, err := strconv.Atoi(value)
	want, wantErr := strconv.Atoi(s.value)
	return err == nil && wantErr == nil && got >= want
}

func (it item) sysctlPath() string {
	path, _, _ := strings.Cut(it.Name, "=")
	family, name, _ := strings.Cut(path, "/")
	return filepath.Join("/proc/sys/net", family, "conf", it.Interface, name)
}

// sysctlName is the name that sysctl(8) takes: with slashes where an interface's name has dots.
func (it item) sysctlName() string {
	name := strings.TrimPrefix(it.sysctlPath(), "/proc/sys/")
	if strings.Contains(it.Interface, ".") {
		return name
	}
	return strings.ReplaceAll(name, "/", ".")
}

func readSysctl(it item) (string, error) {
	value, err := os.ReadFile(it.sysctlPath())
	if errors.Is(err, fs.ErrNotExist) {
		family, _, _ := strings.Cut(it.Name, "/")
		return "", fmt.Errorf("no such setting: is %s switched off on %s?", family, it.Interface)
	}
	return strings.TrimSpace(string(value)), err
}

func writeSysctl(it item, value string) error {
	return os.WriteFile(it.sysctlPath(), []byte(value), 0)
}

// restoreSysctl puts the old value back, unless somebody else changed it after us.
func restoreSysctl(e entry) error {
	value, err := os.ReadFile(e.sysctlPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || strings.TrimSpace(string(value)) != e.setting().value {
		return err
	}
	return writeSysctl(e.item, e.Old)
}
