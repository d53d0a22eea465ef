package nexthop

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// Packets that XDP sends don't use an entry, as the kernel sees it: those to whom they go are asked all the
// same whether they are there, and nobody else is.
func TestNeighboursThatAreUsedAreAsked(t *testing.T) {
	lab := nettest.New(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	must(err)
	d, client := nettest.Host(t, lab, "d"), nettest.Host(t, lab, "client")
	here, moved, silent := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("192.0.2.9")
	for _, h := range []*netlab.Host{d, client} {
		must(lab.Connect(h, "eth0", sw, netlab.LinkOptions{}))
	}
	must(d.Addr("eth0", netip.MustParsePrefix("192.0.2.1/24")))
	for _, addr := range []netip.Addr{here, moved, silent} {
		must(client.Addr("eth0", netip.PrefixFrom(addr, 24)))
	}
	must(d.SetSysctl("net.ipv4.neigh.eth0.delay_first_probe_time", "1"))
	must(d.SetSysctl("net.ipv4.neigh.eth0.retrans_time_ms", "200"))
	var mac, gone net.HardwareAddr
	must(client.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			mac, gone = link.Attrs().HardwareAddr, net.HardwareAddr{2, 0, 0, 0, 0, 99}
		}
		return err
	}))
	index := 0
	must(d.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		index = link.Attrs().Index
		for addr, mac := range map[netip.Addr]net.HardwareAddr{here: mac, moved: gone, silent: gone} {
			err := netlink.NeighSet(&netlink.Neigh{LinkIndex: index, IP: addr.AsSlice(), HardwareAddr: mac, State: netlink.NUD_STALE})
			if err != nil {
				return err
			}
		}
		return nil
	}))

	var last atomic.Pointer[lb.Routes]
	s := NewSummary(slog.New(slog.DiscardHandler), func(routes *lb.Routes) error {
		last.Store(routes)
		return nil
	}, func() []netip.Addr { return []netip.Addr{here, moved} })
	s.Want(true)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Do(func() error { return s.Run(ctx) }) }()
	state := func(addr netip.Addr) (state int) {
		must(d.Do(func() error {
			all, err := netlink.NeighList(index, netlink.FAMILY_V4)
			for _, n := range all {
				if addrOf(n.IP) == addr {
					state = n.State
				}
			}
			return err
		}))
		return state
	}
	nettest.Eventually(t, time.Minute, func() error {
		routes := last.Load()
		switch {
		case routes == nil:
			return fmt.Errorf("there are no routes")
		case state(here) != netlink.NUD_REACHABLE:
			return fmt.Errorf("one that is there has state %#x", state(here))
		case !bytes.Equal(routes.Near[here].MAC, mac):
			return fmt.Errorf("one that is there is at %s", routes.Near[here].MAC)
		}
		if hop, known := routes.Near[moved]; known {
			return fmt.Errorf("one that is gone is at %s still", hop.MAC)
		}
		return nil
	})
	if state(silent) != netlink.NUD_STALE {
		t.Errorf("one to whom nothing went was asked: state %#x", state(silent))
	}
	cancel()
	must(<-ended)
}

// What the kernel tells of neighbours counts at once, and only that is given which changes something.
func TestWhatIsHeardOfNeighboursCountsAtOnce(t *testing.T) {
	old, fresh, own := net.HardwareAddr{2, 0, 0, 0, 0, 7}, net.HardwareAddr{2, 0, 0, 0, 0, 8}, net.HardwareAddr{2, 0, 0, 0, 0, 1}
	near, far := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.7")
	given := 0
	s := NewSummary(slog.New(slog.DiscardHandler), func(*lb.Routes) error { given++; return nil }, nil)
	f := &following{Summary: s, routes: &lb.Routes{Near: make(map[netip.Addr]lb.RouteHop)}, facts: &facts{
		devices:    map[int]device{3: {mac: own, mtu4: 1500}, 4: {mac: own, mtu4: 1500}},
		neighbours: make(map[place]sighting),
		tables:     map[int]*policy{unix.AF_INET: {simple: true, wires: []wire{{prefix: netip.MustParsePrefix("192.0.2.0/24"), index: 3}}}},
	}}
	for _, test := range []struct {
		what  string
		index int
		addr  netip.Addr
		mac   net.HardwareAddr
		state int
		gone  bool
		given bool
		want  net.HardwareAddr // of the near one
	}{
		{"it comes", 3, near, old, netlink.NUD_REACHABLE, false, true, old},
		{"it goes stale", 3, near, old, netlink.NUD_STALE, false, false, old},
		{"it moves", 3, near, fresh, netlink.NUD_STALE, false, true, fresh},
		{"one of its name on another link", 4, near, old, netlink.NUD_REACHABLE, false, false, fresh},
		{"which goes", 4, near, old, 0, true, false, fresh},
		{"one that no route leads to", 3, far, old, netlink.NUD_REACHABLE, false, false, fresh},
		{"it fails", 3, near, fresh, netlink.NUD_FAILED, false, true, nil},
		{"it comes again", 3, near, old, netlink.NUD_PROBE, false, true, old},
		{"it goes", 3, near, old, netlink.NUD_REACHABLE, true, true, nil},
	} {
		before := given
		f.hear([]heard{{Neigh: netlink.Neigh{LinkIndex: test.index, IP: test.addr.AsSlice(), HardwareAddr: test.mac, State: test.state}, gone: test.gone}})
		if got := f.routes.Near[near].MAC; !bytes.Equal(got, test.want) || given > before != test.given || len(f.routes.Near) > 1 {
			t.Errorf("%s: at %s, given %t, %d near, want %s, given %t", test.what, got, given > before, len(f.routes.Near), test.want, test.given)
		}
	}
}
