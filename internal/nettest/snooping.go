package nettest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// Forgets is how long the switch that AskForMembers changes remembers who joined a group without
// hearing it again.
const Forgets = 5 * time.Second

// AskForMembers makes a switch, which must be snooping, its own querier of IGMP and MLD, and returns
// when it stops to flood: a bridge begins to constrain multicast one response interval after its
// queries begin. All intervals are a fraction of the usual ones, in the proportions of RFC 2236.
func AskForMembers(t testing.TB, sw *netlab.Switch) {
	t.Helper()
	// without an address to send queries from the bridge is no querier of MLD
	if err := sw.Host.SetSysctl("net.ipv6.conf.br0.disable_ipv6", "0"); err != nil {
		t.Fatal(err)
	}
	const second = 100 // clock ticks of user space
	for _, option := range []struct {
		name  int
		value []byte
	}{
		{nl.IFLA_BR_MCAST_QUERY_RESPONSE_INTVL, nl.Uint64Attr(second)},
		{nl.IFLA_BR_MCAST_QUERY_INTVL, nl.Uint64Attr(2 * second)},
		{nl.IFLA_BR_MCAST_STARTUP_QUERY_INTVL, nl.Uint64Attr(second / 2)},
		{nl.IFLA_BR_MCAST_MEMBERSHIP_INTVL, nl.Uint64Attr(uint64(Forgets.Seconds()) * second)},
		{nl.IFLA_BR_MCAST_QUERIER, nl.Uint8Attr(1)},
	} {
		err := sw.Host.Do(func() error { return setBridge(option.name, option.value) })
		if err != nil {
			t.Fatalf("set option %d of the bridge: %v", option.name, err)
		}
	}
	time.Sleep(1100 * time.Millisecond)
}

func setBridge(option int, value []byte) error {
	bridge, err := netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(bridge.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(option, value)
	req.AddData(info)
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// RouterPort makes a switch send all multicast to a port, as if a multicast router were behind it.
func RouterPort(t testing.TB, sw *netlab.Switch, port string) {
	t.Helper()
	err := sw.Host.Do(func() error {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		const permanent = 2 // MDB_RTR_TYPE_PERM
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(link.Attrs().Index)
		req.AddData(msg)
		info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(nl.IFLA_BRPORT_MULTICAST_ROUTER, nl.Uint8Attr(permanent))
		req.AddData(info)
		_, err = req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	if err != nil {
		t.Fatalf("port %s: %v", port, err)
	}
}

// Members returns the ports that joined a group, sorted, as a switch has learnt them.
func Members(t testing.TB, sw *netlab.Switch, group netip.Addr) (ports []string) {
	t.Helper()
	err := sw.Host.Do(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_GETMDB, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
		messages, err := req.Execute(unix.NETLINK_ROUTE, 0)
		if err != nil {
			return err
		}
		for _, m := range messages {
			entries, err := memberEntries(m)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if e.group != group {
					continue
				}
				link, err := netlink.LinkByIndex(e.port)
				if err != nil {
					return err
				}
				ports = append(ports, link.Attrs().Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the groups of a switch: %v", err)
	}
	slices.Sort(ports)
	return ports
}

type memberEntry struct {
	port  int
	group netip.Addr
}

// memberEntries decodes a message about groups: three levels of attributes, all of type 1, around
// struct br_mdb_entry of linux/if_bridge.h.
func memberEntries(message []byte) (entries []memberEntry, err error) {
	const (
		header  = 8  // struct br_port_msg
		address = 8  // of the entry's ip; behind the index, state, flags and VLAN
		family  = 24 // of the entry's EtherType
	)
	level := [][]byte{message[header:]}
	for range 3 {
		var inner [][]byte
		for _, b := range level {
			attrs, err := nl.ParseRouteAttr(b)
			if err != nil {
				return nil, err
			}
			for _, a := range attrs {
				if a.Attr.Type&^unix.NLA_F_NESTED == 1 {
					inner = append(inner, a.Value)
				}
			}
		}
		level = inner
	}
	for _, b := range level {
		if len(b) < family+2 {
			return nil, fmt.Errorf("entry of %d bytes", len(b))
		}
		e := memberEntry{port: int(binary.NativeEndian.Uint32(b))}
		switch binary.BigEndian.Uint16(b[family:]) {
		case unix.ETH_P_IP:
			e.group = netip.AddrFrom4([4]byte(b[address:]))
		case unix.ETH_P_IPV6:
			e.group = netip.AddrFrom16([16]byte(b[address:]))
		}
		entries = append(entries, e)
	}
	return entries, nil
}
