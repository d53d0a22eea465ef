package nexthop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// maxEntries is how many routes of a family are looked at: whoever has more has a routing daemon, and no
// few prefixes.
const maxEntries = 1024

var errTooMany = errors.New("too many routes")

// A device is an interface that packets may leave by.
type device struct {
	mac        net.HardwareAddr
	mtu4, mtu6 int
}

// Facts are what a summary follows from.
type facts struct {
	devices    map[int]device
	neighbours map[place]sighting
	tables     map[int]*policy // by family
	many       bool            // too many routes to read them often
}

// A sighting is what the kernel knows of a neighbour, if it would use it; without a MAC it would not.
type sighting struct {
	mac   net.HardwareAddr
	stale bool // nobody asked it for a while, nor will anybody unless its entry is used
}

func sightingOf(n *netlink.Neigh) sighting {
	if n.State&usable == 0 || len(n.HardwareAddr) != 6 {
		return sighting{}
	}
	// to use one that others see to would make it ours
	others := n.Flags&unix.NTF_EXT_LEARNED != 0 || n.FlagsExt&netlink.NTF_EXT_MANAGED != 0
	return sighting{n.HardwareAddr, n.State&netlink.NUD_STALE != 0 && !others}
}

// A policy is what is known of one family.
type policy struct {
	simple   bool // the policy is that of a machine which nobody gave one
	forwards map[int]bool
	entries  []entry
	wires    []wire
}

// readFacts asks the kernel for everything.
func readFacts() (*facts, error) {
	f := &facts{devices: make(map[int]device), neighbours: make(map[place]sighting), tables: make(map[int]*policy)}
	if err := f.readDevices(); err != nil {
		return nil, err
	}
	if err := f.readNeighbours(); err != nil {
		return nil, err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		t := &policy{forwards: make(map[int]bool)}
		f.tables[family] = t
		err := t.read(family)
		switch {
		case errors.Is(err, errTooMany):
			t.simple, f.many = false, true
		case errors.Is(err, unix.EOPNOTSUPP): // rules, or the family
			t.simple = false
		case err != nil:
			return nil, err
		}
	}
	return f, nil
}

// dump calls yield with the messages of one kind.
func dump(what string, request, answer uint16, body nl.NetlinkRequestData, yield func([]byte) error) error {
	req := nl.NewNetlinkRequest(int(request), unix.NLM_F_DUMP)
	req.AddData(body)
	var failed error
	err := req.ExecuteIter(unix.NETLINK_ROUTE, answer, func(m []byte) bool {
		failed = yield(m)
		return failed == nil
	})
	// what changed meanwhile is told, too
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return fmt.Errorf("list %s: %w", what, err)
	}
	return failed
}

func (f *facts) readDevices() error {
	return dump("links", unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), func(m []byte) error {
		msg := nl.DeserializeIfInfomsg(m)
		attrs, err := attributes(m[unix.SizeofIfInfomsg:])
		if err != nil {
			return err
		}
		const on = unix.IFF_UP | unix.IFF_LOWER_UP
		mac, mtu := attrs[unix.IFLA_ADDRESS], attrs[unix.IFLA_MTU]
		if msg.Type != unix.ARPHRD_ETHER || msg.Flags&on != on || msg.Flags&unix.IFF_NOARP != 0 || len(mac) != 6 || len(mtu) != 4 {
			return nil
		}
		d := device{mac: net.HardwareAddr(mac), mtu4: int(binary.NativeEndian.Uint32(mtu))}
		d.mtu6 = min(d.mtu4, mtuOfIPv6(attrs[unix.IFLA_AF_SPEC]))
		f.devices[int(msg.Index)] = d
		return nil
	})
}

// mtuOfIPv6 is that family's own, which routers announce; 0 when there is none.
func mtuOfIPv6(families []byte) int {
	const inet6Conf, devconfMTU6 = 2, 2
	byFamily, err := attributes(families)
	if err != nil {
		return 0
	}
	inside, err := attributes(byFamily[unix.AF_INET6])
	if err != nil || len(inside[inet6Conf]) < 4*(devconfMTU6+1) {
		return 0
	}
	return int(binary.NativeEndian.Uint32(inside[inet6Conf][4*devconfMTU6:]))
}

func (f *facts) readNeighbours() error {
	return dump("neighbours", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &netlink.Ndmsg{Family: unix.AF_UNSPEC}, func(m []byte) error {
		n, err := netlink.NeighDeserialize(m)
		if err == nil && ofIP(n) && n.Flags&unix.NTF_PROXY == 0 {
			f.neighbours[place{n.LinkIndex, addrOf(n.IP)}] = sightingOf(n)
		}
		return nil
	})
}

func (t *policy) read(family int) error {
	if err := t.readRules(family); err != nil || !t.simple {
		return err
	}
	if err := t.readForwarding(family); err != nil {
		return err
	}
	err := t.readRoutes(family)
	t.wires = wires(inOrder(t.entries))
	return err
}

// readRules sees whether tables are looked at in the order that a machine begins with.
func (t *policy) readRules(family int) error {
	const toTable, noSuppression = 1, 0xffffffff
	plain := map[uint32]uint32{0: unix.RT_TABLE_LOCAL, 32766: unix.RT_TABLE_MAIN}
	if family == unix.AF_INET {
		plain[32767] = unix.RT_TABLE_DEFAULT
	}
	found, others := make(map[uint32]uint32), false
	err := dump("rules", unix.RTM_GETRULE, unix.RTM_NEWRULE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}}, func(m []byte) error {
		header := nl.DeserializeRtMsg(m)
		attrs, err := attributes(m[unix.SizeofRtMsg:])
		if err != nil {
			return err
		}
		others = others || header.Dst_len != 0 || header.Src_len != 0 || header.Tos != 0 || header.Type != toTable || header.Flags != 0
		table, priority := uint32(header.Table), uint32(0)
		for kind, value := range attrs {
			switch {
			case kind == nl.FRA_TABLE && len(value) == 4:
				table = binary.NativeEndian.Uint32(value)
			case kind == nl.FRA_PRIORITY && len(value) == 4:
				priority = binary.NativeEndian.Uint32(value)
			case kind == nl.FRA_PROTOCOL:
			case kind == nl.FRA_SUPPRESS_PREFIXLEN && len(value) == 4 && binary.NativeEndian.Uint32(value) == noSuppression:
			default:
				others = true
			}
		}
		found[priority] = table
		return nil
	})
	t.simple = err == nil && !others && maps.Equal(found, plain)
	return err
}

func (t *policy) readForwarding(family int) error {
	const ifindex, forwarding = 1, 2 // NETCONFA_*
	const newNetconf = 80
	return dump("forwarding", unix.RTM_GETNETCONF, newNetconf, &netconfRequest{uint8(family)}, func(m []byte) error {
		attrs, err := attributes(m[netconfHeader:])
		if err == nil && len(attrs[ifindex]) == 4 && len(attrs[forwarding]) == 4 {
			if index := int32(binary.NativeEndian.Uint32(attrs[ifindex])); index > 0 {
				t.forwards[int(index)] = binary.NativeEndian.Uint32(attrs[forwarding]) != 0
			}
		}
		return err
	})
}

// A netconfRequest is struct netconfmsg, a family, as it is padded in messages.
type netconfRequest struct{ family uint8 }

const netconfHeader = 4

func (r *netconfRequest) Len() int { return netconfHeader }

func (r *netconfRequest) Serialize() []byte { return []byte{r.family, 0, 0, 0} }

func (t *policy) readRoutes(family int) error {
	return dump("routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}}, func(m []byte) error {
		header := nl.DeserializeRtMsg(m)
		attrs, err := attributes(m[unix.SizeofRtMsg:])
		if err != nil {
			return err
		}
		table := uint32(header.Table)
		if wide := attrs[unix.RTA_TABLE]; len(wide) == 4 {
			table = binary.NativeEndian.Uint32(wide)
		}
		switch {
		case header.Flags&unix.RTM_F_CLONED != 0: // of one address, and learnt
			return nil
		case table == unix.RT_TABLE_DEFAULT, header.Src_len != 0:
			t.simple = false
			return nil
		case table != unix.RT_TABLE_MAIN && table != unix.RT_TABLE_LOCAL:
			return nil // nobody looks at it
		case len(t.entries) == maxEntries:
			return errTooMany
		}
		e, ok := entryOf(family, header, attrs)
		e.local = table == unix.RT_TABLE_LOCAL
		t.entries = append(t.entries, e)
		t.simple = t.simple && ok
		return nil
	})
}

// entryOf is false for what is not understood at all.
func entryOf(family int, header *nl.RtMsg, attrs map[uint16][]byte) (e entry, ok bool) {
	addr := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		addr = netip.IPv6Unspecified()
	}
	if dst, given := attrs[unix.RTA_DST]; given {
		if addr, ok = netip.AddrFromSlice(dst); !ok {
			return entry{}, false
		}
	}
	prefix, err := addr.Prefix(int(header.Dst_len))
	if err != nil {
		return entry{}, false
	}
	e = entry{prefix: prefix}
	if metric := attrs[unix.RTA_PRIORITY]; len(metric) == 4 {
		e.metric = binary.NativeEndian.Uint32(metric)
	}
	gateway, _ := netip.AddrFromSlice(attrs[unix.RTA_GATEWAY])
	out := attrs[unix.RTA_OIF]
	if len(out) != 4 {
		return e, true
	}
	e.next = place{int(binary.NativeEndian.Uint32(out)), gateway}
	e.simple = header.Type == unix.RTN_UNICAST && header.Tos == 0 && header.Flags&^unix.RTNH_F_ONLINK == 0 && plainAttributes(attrs)
	return e, true
}

// plainAttributes says whether a route does nothing but name its gateway or its link, for good.
func plainAttributes(attrs map[uint16][]byte) bool {
	const nexthopObject = 30
	for _, kind := range []uint16{unix.RTA_MULTIPATH, nexthopObject, unix.RTA_ENCAP, unix.RTA_ENCAP_TYPE, unix.RTA_VIA, unix.RTA_FLOW} {
		if _, has := attrs[kind]; has {
			return false
		}
	}
	metrics, err := attributes(attrs[unix.RTA_METRICS])
	if err != nil || metrics[unix.RTAX_MTU] != nil || metrics[unix.RTAX_LOCK] != nil {
		return false // the kernel knows when it counts
	}
	const expires = 8 // in struct rta_cacheinfo
	if cache := attrs[unix.RTA_CACHEINFO]; len(cache) >= expires+4 {
		return binary.NativeEndian.Uint32(cache[expires:]) == 0
	}
	return true
}

// attributes splits what is behind a message's header.
func attributes(data []byte) (map[uint16][]byte, error) {
	parsed, err := nl.ParseRouteAttr(data)
	if err != nil {
		return nil, fmt.Errorf("parse attributes: %w", err)
	}
	attrs := make(map[uint16][]byte, len(parsed))
	for _, a := range parsed {
		attrs[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return attrs, nil
}

// summary is what the facts come to, and the gateways that it depends on, with their MACs.
func (f *facts) summary() (*lb.Routes, map[place]string) {
	gateways := make(map[place]string)
	table := func(family int) lb.RouteTable {
		t := f.tables[family]
		if !t.simple {
			return lb.RouteTable{}
		}
		return lb.RouteTable{Forwards: t.forwards, Routes: summarize(t.entries, func(at place) *lb.RouteHop {
			gateways[at] = string(f.neighbours[at].mac)
			return f.hop(at, family)
		})}
	}
	routes := &lb.Routes{V4: table(unix.AF_INET), V6: table(unix.AF_INET6), Near: make(map[netip.Addr]lb.RouteHop)}
	for at := range f.neighbours {
		if hop := f.near(at); hop != nil {
			routes.Near[at.addr] = *hop
		}
	}
	return routes, gateways
}

// hop is the way to a neighbour, for packets of a family; nil when there is none.
func (f *facts) hop(at place, family int) *lb.RouteHop {
	seen, out := f.neighbours[at], f.devices[at.index] // zero for one that is not up
	mtu := out.mtu4
	if family == unix.AF_INET6 {
		mtu = out.mtu6
	}
	if seen.mac == nil || mtu == 0 {
		return nil
	}
	return &lb.RouteHop{Index: at.index, MAC: seen.mac, Own: out.mac, MTU: mtu}
}

// near is the way to a neighbour that packets to its address go to; nil when they don't, or the kernel has
// to be asked.
func (f *facts) near(at place) *lb.RouteHop {
	family := unix.AF_INET
	if at.addr.Is6() {
		family = unix.AF_INET6
	}
	t := f.tables[family]
	if !t.simple || at.addr.IsLinkLocalUnicast() || !slices.ContainsFunc(t.wires, func(w wire) bool { return w.holds(at) }) {
		return nil
	}
	return f.hop(at, family)
}
