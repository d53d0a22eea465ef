package nexthop

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A watch that hears nothing stands for one whose messages were lost.
func TestLostMessagesMeanLookingAtAllAgain(t *testing.T) {
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := nettest.Host(t, lab, "d")
	if err := lab.Connect(d, "eth0", sw, netlab.LinkOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Addr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	backend, old, replaced := netip.MustParseAddr("192.0.2.7"), net.HardwareAddr{2, 0, 0, 0, 0, 7}, net.HardwareAddr{2, 0, 0, 0, 0, 8}
	if err := d.Neighbour("eth0", backend, old); err != nil {
		t.Fatal(err)
	}

	changed := make(chan struct{}, 1)
	r := New(slog.New(slog.DiscardHandler), func() { changed <- struct{}{} })
	r.Set([]netip.Addr{backend})
	deaf := &watch{wake: make(chan struct{}, 1), failed: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- d.Do(func() error {
			handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer handle.Close()
			return r.follow(ctx, &follower{kernel: handle, log: r.log, near: make(map[place]*neighbour)}, deaf)
		})
	}()
	want := func(mac net.HardwareAddr) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(5 * time.Second):
			t.Error("nothing changed")
		}
		hop := &lb.NextHop{Interface: "eth0", MAC: mac, Source: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
		same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(map[netip.Addr]Way{backend: {Hop: hop}}, r.Ways(), same); diff != "" {
			t.Errorf("ways (-want +got):\n%s", diff)
		}
	}
	want(old)
	if err := d.Neighbour("eth0", backend, replaced); err != nil {
		t.Fatal(err)
	}
	deaf.tell(func(n *news) { n.lost = true })
	want(replaced)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The kernel refuses when its table is full, or an interface has just gone.
func TestANeighbourThatTheKernelDoesNotAskForIsAProblem(t *testing.T) {
	const noInterface = 1 << 30
	d := nettest.Host(t, nettest.New(t), "d")
	backend := netip.MustParseAddr("192.0.2.7")
	at := place{noInterface, backend}
	err := d.Do(func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		f := &follower{kernel: handle, log: slog.New(slog.DiscardHandler), near: map[place]*neighbour{at: {}}}
		f.routes = map[netip.Addr]route{backend: {link: link{name: "eth9"}, next: at, source: backend}}
		f.askAgain()
		want := map[netip.Addr]Way{backend: {Problem: "the kernel does not ask for 192.0.2.7 on eth9: no such device"}}
		if diff := cmp.Diff(want, f.ways(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("ways (-want +got):\n%s", diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
