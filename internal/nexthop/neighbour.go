package nexthop

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// A neighbour is one whose MAC is needed.
type neighbour struct {
	state  int // NUD_*; 0: the kernel has no entry
	mac    net.HardwareAddr
	asked  bool // the kernel keeps the entry for us
	failed bool // it did not answer, and has not answered since

	refused error // the kernel does not ask for it: its table is full
}

const (
	usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	byHand = netlink.NUD_PERMANENT
)

// note takes in the state of the kernel's entry.
func (n *neighbour) note(state int, mac net.HardwareAddr) {
	n.state = state
	switch {
	case state&usable != 0 && len(mac) == 6:
		n.mac, n.failed = slices.Clone(mac), false
	case state&netlink.NUD_FAILED != 0:
		n.failed = true
	}
}

// goes notes that the kernel has no entry any more. One that somebody takes away fails first, and
// goes in the same moment: that says nothing of the neighbour.
func (n *neighbour) goes() {
	n.state, n.asked = 0, false
	n.failed = n.failed && n.mac == nil
}

// settle ends that moment.
func (n *neighbour) settle() {
	if n.failed {
		n.mac = nil
	}
}

// A follower knows the routes and neighbours on the ways to the wanted addresses.
type follower struct {
	kernel *netlink.Handle
	log    *slog.Logger
	routes map[netip.Addr]route
	near   map[place]*neighbour
}

// forget says that what was heard of neighbours may be wrong.
func (f *follower) forget() {
	for _, n := range f.near {
		n.state = 0
	}
}

// look finds the routes to the addresses, and has their neighbours asked for.
func (f *follower) look(want []netip.Addr) error {
	routes, links := make(map[netip.Addr]route, len(want)), make(map[int]link)
	needed := make(map[place]bool)
	for _, addr := range want {
		r := lookUp(f.kernel, addr, links)
		routes[addr] = r
		if r.problem == "" {
			needed[r.next] = true
		}
	}
	f.routes = routes
	for at, n := range f.near {
		if !needed[at] {
			f.release(at, n)
			delete(f.near, at)
		}
	}
	unknown := false
	for at := range needed {
		if f.near[at] == nil {
			f.near[at] = &neighbour{}
		}
		unknown = unknown || f.near[at].state == 0
	}
	if !unknown {
		return nil
	}
	if err := f.readAll(); err != nil {
		return err
	}
	f.askAgain()
	return nil
}

// readAll takes in all entries that the kernel has.
func (f *follower) readAll() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		entries, err := f.kernel.NeighList(0, family)
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for i := range entries {
			f.hear([]heard{{Neigh: entries[i]}})
		}
	}
	return nil
}

// hear takes in what the kernel told, and says whether any of it is about us.
func (f *follower) hear(all []heard) (news bool) {
	for i := range all {
		n := f.near[place{all[i].LinkIndex, addrOf(all[i].IP)}]
		if n == nil {
			continue
		}
		news = true
		if all[i].gone {
			n.goes()
		} else {
			n.note(all[i].State, all[i].HardwareAddr)
		}
	}
	return news
}

// askAgain has the kernel ask for all that are not known, and keep all.
func (f *follower) askAgain() {
	for at, n := range f.near {
		// Asking would take the mark of an entry made by hand off it.
		if n.state&byHand != 0 || n.asked && n.state&usable != 0 {
			continue
		}
		err := f.kernel.NeighSet(&netlink.Neigh{
			LinkIndex: at.index, IP: at.addr.AsSlice(), FlagsExt: netlink.NTF_EXT_MANAGED,
		})
		if err != nil && n.refused == nil {
			f.log.Error("the kernel does not ask for a neighbour", "neighbour", at.addr, "err", err)
		}
		n.asked, n.refused = err == nil, err
	}
}

// release lets the kernel forget an entry when it likes.
func (f *follower) release(at place, n *neighbour) {
	if !n.asked || n.state == 0 || n.state&byHand != 0 {
		return
	}
	err := f.kernel.NeighSet(&netlink.Neigh{
		LinkIndex: at.index, IP: at.addr.AsSlice(), Flags: netlink.NTF_USE,
	})
	if err != nil {
		f.log.Debug("a neighbour is still asked for", "neighbour", at.addr, "err", err) // its interface went
	}
}

func (f *follower) releaseAll() {
	for at, n := range f.near {
		f.release(at, n)
	}
}

// ways says what is known of each address.
func (f *follower) ways() map[netip.Addr]Way {
	for _, n := range f.near {
		n.settle()
	}
	ways := make(map[netip.Addr]Way, len(f.routes))
	for addr, r := range f.routes {
		ways[addr] = r.way(addr, f.near[r.next])
	}
	return ways
}

func (r *route) way(addr netip.Addr, n *neighbour) Way {
	w := Way{Gateway: r.gateway, Problem: r.problem}
	switch {
	case w.Problem != "":
		return w
	case !r.source.IsValid():
		w.Problem = fmt.Sprintf("no own address towards %s on %s", addr, r.link.name)
		return w
	case n.refused != nil && n.state&usable == 0:
		w.Problem = fmt.Sprintf("the kernel does not ask for %s on %s: %s", r.next.addr, r.link.name, n.refused)
		return w
	case n.failed && r.gateway.IsValid():
		w.Problem = fmt.Sprintf("gateway %s on %s does not answer %s", r.gateway, r.link.name, question(r.gateway))
		return w
	case n.failed:
		w.Problem = fmt.Sprintf("no answer to %s on %s", question(addr), r.link.name)
		return w
	}
	w.Pending = n.state&usable == 0
	if n.mac != nil {
		w.Hop = &lb.NextHop{Interface: r.link.name, MAC: n.mac, Source: r.source, MTU: r.mtu}
	}
	return w
}

// question is what neighbours of a family are asked by.
func question(addr netip.Addr) string {
	if addr.Is4() {
		return "ARP"
	}
	return "neighbour solicitations"
}

// use has the kernel see to an entry that it has as if it had sent a packet to it.
func use(at place) error {
	family := unix.AF_INET
	if at.addr.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_ACK) // makes none
	req.AddData(&netlink.Ndmsg{Family: uint8(family), Index: uint32(at.index), Flags: netlink.NTF_USE})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, at.addr.AsSlice()))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
