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
