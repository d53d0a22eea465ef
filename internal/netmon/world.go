package netmon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A world is what was last heard. The kernel also sends messages when nothing of interest to us
// changed: router advertisements renew addresses, and neighbours are confirmed all the time.
type world struct {
	links      map[int]link
	addresses  map[place]uint32 // flags
	neighbours map[place]string // MAC; only those whose MAC is known
}

type link struct {
	name, mac string
	up        bool // switched on, with carrier
}

// A place is an address on an interface.
type place struct {
	index int
	addr  netip.Addr
}

// readWorld asks the kernel for everything.
func readWorld() (*world, error) {
	w := &world{links: make(map[int]link), addresses: make(map[place]uint32), neighbours: make(map[place]string)}
	for _, dump := range []struct {
		what         string
		request, new uint16
		filter       nl.NetlinkRequestData
	}{
		{"links", unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC)},
		{"addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC)},
		{"neighbours", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &netlink.Ndmsg{Family: unix.AF_UNSPEC}},
	} {
		req := nl.NewNetlinkRequest(int(dump.request), unix.NLM_F_DUMP)
		req.AddData(dump.filter)
		messages, err := req.Execute(unix.NETLINK_ROUTE, dump.new)
		// What changed during the dump comes through the subscription.
		if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list %s: %w", dump.what, err)
		}
		for _, m := range messages {
			w.note(dump.new, m, &changes{})
		}
	}
	return w, nil
}

// note takes in one message and adds to c what it changes.
func (w *world) note(kind uint16, data []byte, c *changes) {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		w.noteLink(kind == unix.RTM_NEWLINK, data, c)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		w.noteAddress(kind == unix.RTM_NEWADDR, data, c)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		w.noteNeighbour(kind == unix.RTM_NEWNEIGH, data, c)
	}
}

func (w *world) noteLink(exists bool, data []byte, c *changes) {
	if len(data) < unix.SizeofIfInfomsg {
		return
	}
	msg := nl.DeserializeIfInfomsg(data)
	if msg.Family != unix.AF_UNSPEC {
		return // about a bridge's port: the link itself stays when it leaves the bridge
	}
	index := int(msg.Index)
	old, known := w.links[index]
	if !exists {
		if known {
			c.links.add(old.name)
		}
		delete(w.links, index)
		maps.DeleteFunc(w.addresses, func(p place, _ uint32) bool { return p.index == index })
		maps.DeleteFunc(w.neighbours, func(p place, _ string) bool { return p.index == index })
		return
	}
	const on = unix.IFF_UP | unix.IFF_LOWER_UP
	attrs := attributes(data[unix.SizeofIfInfomsg:])
	now := link{
		name: unix.ByteSliceToString(attrs[unix.IFLA_IFNAME]),
		mac:  string(attrs[unix.IFLA_ADDRESS]),
		up:   msg.Flags&on == on,
	}
	w.links[index] = now
	if now == old {
		return
	}
	c.links.add(now.name)
	if known {
		c.links.add(old.name)
	}
}

func (w *world) noteAddress(exists bool, data []byte, c *changes) {
	if len(data) < unix.SizeofIfAddrmsg {
		return
	}
	msg := nl.DeserializeIfAddrmsg(data)
	attrs := attributes(data[unix.SizeofIfAddrmsg:])
	ip, local := attrs[unix.IFA_LOCAL]
	if !local { // IPv6 without a peer
		ip = attrs[unix.IFA_ADDRESS]
	}
	addr, _ := netip.AddrFromSlice(ip)
	flags := uint32(msg.Flags)
	if all := attrs[unix.IFA_FLAGS]; len(all) == 4 {
		flags = binary.NativeEndian.Uint32(all)
	}
	p := place{int(msg.Index), addr}
	old, known := w.addresses[p]
	if exists {
		w.addresses[p] = flags
	} else {
		delete(w.addresses, p)
	}
	if known != exists || old != flags && exists {
		c.addresses.add(w.name(p.index))
	}
}

func (w *world) noteNeighbour(exists bool, data []byte, c *changes) {
	neigh, err := netlink.NeighDeserialize(data)
	if err != nil || neigh.Family != unix.AF_INET && neigh.Family != unix.AF_INET6 {
		return // forwarding entries of bridges come this way too
	}
	// Not NUD_NOARP: those are computed, for groups and loopback, and not learnt from anybody.
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
		netlink.NUD_PERMANENT
	addr, _ := netip.AddrFromSlice(neigh.IP)
	p := place{neigh.LinkIndex, addr}
	var mac string
	if exists && neigh.State&usable != 0 {
		mac = string(neigh.HardwareAddr)
	}
	if w.neighbours[p] == mac {
		return
	}
	if mac == "" {
		delete(w.neighbours, p)
	} else {
		w.neighbours[p] = mac
	}
	c.neighbours.add(w.name(p.index))
}

// name returns the interface's name. That of a link we never heard of is its number.
func (w *world) name(index int) string {
	if l, ok := w.links[index]; ok {
		return l.name
	}
	return fmt.Sprint(index)
}

// attributes splits the second half of a message.
func attributes(data []byte) map[uint16][]byte {
	attrs := make(map[uint16][]byte)
	parsed, err := nl.ParseRouteAttr(data)
	if err != nil {
		return attrs
	}
	for _, a := range parsed {
		attrs[a.Attr.Type] = a.Value
	}
	return attrs
}
