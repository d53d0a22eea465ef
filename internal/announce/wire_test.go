package announce

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A virtual MAC as VRRP has them, RFC 9568 section 7.3.
var virtual = net.HardwareAddr{0, 0, 0x5e, 0, 1, 80}

func TestNeighboursFollowAnnouncements(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root")
	}
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hosts := make(map[string]*netlab.Host)
	for name, addresses := range map[string][]string{
		"old": {"192.0.2.80/24", "2001:db8::80/64"}, "new": nil, "client": {"192.0.2.1/24", "2001:db8::1/64"},
	} {
		hosts[name] = nettest.Host(t, lab, name)
		if err := lab.Connect(hosts[name], "eth0", sw, netlab.LinkOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, address := range addresses {
			if err := hosts[name].Addr("eth0", netip.MustParsePrefix(address)); err != nil {
				t.Fatal(err)
			}
		}
	}
	knows := func(mac string) {
		t.Helper()
		for _, vip := range []netip.Addr{vip4, vip6} {
			nettest.Eventually(t, time.Minute, func() error {
				if got := nettest.Neighbor(t, hosts["client"], "eth0", vip); got != mac {
					return fmt.Errorf("the client knows %s at %s, want %s", vip, got, mac)
				}
				return nil
			})
		}
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		if err := hosts["client"].Do(func() error {
			conn, err := net.Dial("udp", netip.AddrPortFrom(vip, 9).String())
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("where are you?"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	macs := make(map[string]net.HardwareAddr)
	for _, name := range []string{"old", "new"} {
		if macs[name], err = hosts[name].MAC("eth0"); err != nil {
			t.Fatal(err)
		}
	}
	knows(macs["old"].String())

	a := New(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- hosts["new"].Do(func() error { return a.Run(ctx) }) }()
	watch := nettest.NewWatch(t, sw.Host)
	a.Set([]VIP{{Addr: vip4, Interface: "eth0"}, {Addr: vip6, Interface: "eth0"}})
	knows(macs["new"].String())
	a.Set([]VIP{{Addr: vip4, Interface: "eth0", MAC: virtual}, {Addr: vip6, Interface: "eth0", MAC: virtual}})
	knows(virtual.String())
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := watch.Count(t, func(f nettest.Frame) bool { return !f.Out && f.Source == virtual.String() }); n < 3 {
		t.Errorf("%d frames from the virtual MAC came to the switch: it does not know where to send", n)
	}
}
