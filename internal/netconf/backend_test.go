package netconf_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
	"github.com/lbctl/lbctl/internal/nettest"
)

// What a backend holds: no MAC, no group, and packets may come by another way than answers leave.
func backendVIPs() netconf.Want {
	return netconf.Want{Backend: true, VIPs: []lb.VIP{
		{Addr: vip4.Addr, Interface: "eth0", Announce: lb.AnnounceNone},
		{Addr: vip6.Addr, Interface: "eth0", Announce: lb.AnnounceNone},
	}}
}

func TestABackendHoldsVIPsWithoutTheirMACAndGivesAllBack(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{"all", "eth0"} {
		if err := n.SetSysctl("net.ipv4.conf."+name+".rp_filter", "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := n.world(t)
	set := func() {
		t.Helper()
		if err := n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), backendVIPs()) }); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second finds nothing to do, and must not forget the first one's values
		set()
	}
	for name, want := range map[string]string{
		"ipv4.conf.eth0.arp_ignore": "1", "ipv4.conf.eth0.arp_announce": "2", "ipv4.conf.eth0.rp_filter": "2",
		"ipv4.conf.eth0.drop_unicast_in_l2_multicast": "1", "ipv6.conf.eth0.drop_unicast_in_l2_multicast": "1",
	} {
		if got, err := n.Sysctl("net." + name); got != want || err != nil {
			t.Errorf("%s is %s, %v, want %s", name, got, err, want)
		}
	}
	lo, err := n.Addrs("lo")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"127.0.0.1/8", "192.0.2.80/32", "2001:db8::80/128", "::1/128"}
	if diff := cmp.Diff(want, texts(lo)); diff != "" {
		t.Errorf("addresses of lo (-want +got):\n%s", diff)
	}
	for _, file := range []string{"dev_mcast", "igmp6"} {
		for _, line := range n.proc(t, file, "eth0") {
			for _, field := range line {
				if field == "3333ff000080" || field == "03bfc0000250" {
					t.Errorf("%s: %v", file, line)
				}
			}
		}
	}
	err = n.lbd(func(h *netconf.Host) error {
		drifts, err := h.Check(t.Context(), backendVIPs())
		if drifts != nil {
			err = errors.Join(err, fmt.Errorf("drifts: %v", drifts))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	n.withdraw(t)
	if diff := cmp.Diff(before, n.world(t)); diff != "" {
		t.Errorf("after withdrawal (-before +after):\n%s", diff)
	}
}

func texts(list []netip.Prefix) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}

// Loose filters that an administrator chose, and such as are off, are left alone.
func TestAFilterThatIsNotStrictIsLeftAlone(t *testing.T) {
	for _, value := range []string{"0", "2"} {
		n := newNode(t)
		if err := n.SetSysctl("net.ipv4.conf.all.rp_filter", value); err != nil {
			t.Fatal(err)
		}
		if err := n.SetSysctl("net.ipv4.conf.eth0.rp_filter", "0"); err != nil {
			t.Fatal(err)
		}
		if err := n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), backendVIPs()) }); err != nil {
			t.Fatal(err)
		}
		if got, err := n.Sysctl("net.ipv4.conf.eth0.rp_filter"); got != "0" || err != nil {
			t.Errorf("with %s for all: rp_filter is %s, %v", value, got, err)
		}
	}
}

// What directors share by a multicast MAC, every machine on the link hears. A backend that took it
// would answer what a director sends to another one.
func TestFramesThatDirectorsShareAreNotABackends(t *testing.T) {
	for _, vip := range []netip.Addr{vip4.Addr, vip6.Addr} {
		n := newNode(t)
		must(t, n.client.Neighbour("eth0", vip, vip4.MAC))
		server, err := n.ListenPacket(t.Context(), "udp", ":80")
		must(t, err)
		defer server.Close()
		client, err := n.client.Dial(t.Context(), "udp", netip.AddrPortFrom(vip, 80).String())
		must(t, err)
		defer client.Close()
		sent := byte(0)
		arrives := func() bool { // the one that is sent now, not one that was late
			t.Helper()
			sent++
			_, err := client.Write([]byte{sent})
			must(t, err, server.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
			for buf := make([]byte, 16); ; {
				if _, _, err = server.ReadFrom(buf); err != nil || buf[0] == sent {
					return err == nil
				}
			}
		}
		must(t, n.Addr("lo", netip.PrefixFrom(vip, vip.BitLen())))
		// the kernel is a little late with an IPv6 address
		nettest.Eventually(t, time.Minute, func() error {
			if !arrives() {
				return fmt.Errorf("%s: it does not come anyway: this test proves nothing", vip)
			}
			return nil
		})
		must(t, n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), backendVIPs()) }))
		if arrives() {
			t.Errorf("%s: a frame to the directors' MAC was taken", vip)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
