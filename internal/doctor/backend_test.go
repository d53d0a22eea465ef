package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/doctor"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

var (
	vip4, vip6 = netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8::80")
	router4    = netip.MustParseAddr("192.0.2.1")
	router6    = netip.MustParseAddr("2001:db8::1")
	director4  = netip.MustParseAddr("192.0.2.11")
	director6  = netip.MustParseAddr("2001:db8::11")
	all4, all6 = netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// newBackend is a machine on which nothing is wrong.
func newBackend(t *testing.T) *netlab.Host {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	must(t, err)
	h := nettest.Host(t, lab, "backend")
	must(t,
		lab.Connect(h, "eth0", sw, netlab.LinkOptions{}),
		lab.Connect(h, "eth1", sw, netlab.LinkOptions{}),
		h.Addr("eth0", prefix("192.0.2.21/24")),
		h.Addr("eth0", prefix("2001:db8::21/64")),
		h.Addr("eth1", prefix("198.51.100.21/24")),
		h.Route(all4, router4),
		h.Route(all6, router6),
		h.SetSysctl("net.ipv4.conf.all.arp_ignore", "1"),
		h.SetSysctl("net.ipv4.conf.all.arp_announce", "2"),
		h.SetSysctl("net.ipv4.conf.all.drop_unicast_in_l2_multicast", "1"),
		h.SetSysctl("net.ipv6.conf.all.drop_unicast_in_l2_multicast", "1"),
		h.Addr("lo", prefix("192.0.2.80/32")),
		h.Addr("lo", prefix("2001:db8::80/128")),
	)
	return h
}

func backend() doctor.Backend {
	return doctor.Backend{
		Interface: "eth0", Method: lb.ForwardDR, VIPs: []netip.Addr{vip4, vip6},
		Directors: []netip.Addr{director4, director6},
	}
}

// wrong lists what is wrong as "check subject: found", and how to put it right.
func wrong(t *testing.T, h *netlab.Host, b doctor.Backend) (lines, fixes []string) {
	t.Helper()
	var findings []doctor.Finding
	must(t, h.Do(func() (err error) {
		findings, err = b.Examine()
		return err
	}))
	for _, f := range findings {
		if !f.OK {
			lines = append(lines, fmt.Sprintf("%s %s: %s", f.Check, f.Subject, f.Found))
			fixes = append(fixes, f.Fix...)
		}
	}
	return lines, fixes
}

func onLink(h *netlab.Host, change func(netlink.Link) error, ifname string) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return change(link)
	})
}

func replaceDefault(h *netlab.Host, dst netip.Prefix, via string) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if strings.HasPrefix(via, "198.") {
			if link, err = netlink.LinkByName("eth1"); err != nil {
				return err
			}
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: netlabNet(dst)}
		if via == "" {
			return netlink.RouteDel(route)
		}
		route.Gw = netip.MustParseAddr(via).AsSlice()
		return netlink.RouteReplace(route)
	})
}

// The usual mistakes, one at a time: each is found alone, and its fix leaves nothing wrong.
func TestEachMistakeOfABackendIsFoundAndItsFixHelps(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(*netlab.Host) error
		want []string
	}{
		{"nothing", func(*netlab.Host) error { return nil }, nil},
		{
			"an IPv4 VIP is not on lo",
			func(h *netlab.Host) error { return h.DelAddr("lo", prefix("192.0.2.80/32")) },
			[]string{"vip 192.0.2.80: it is not on lo: its packets are for nobody here"},
		},
		{
			"an IPv6 VIP is not on lo",
			func(h *netlab.Host) error { return h.DelAddr("lo", prefix("2001:db8::80/128")) },
			[]string{"vip 2001:db8::80: it is not on lo: its packets are for nobody here"},
		},
		{
			"a VIP is on the interface",
			func(h *netlab.Host) error {
				return errors.Join(h.DelAddr("lo", prefix("192.0.2.80/32")), h.Addr("eth0", prefix("192.0.2.80/32")))
			},
			[]string{"vip 192.0.2.80: it is on eth0: neighbours learn this machine's MAC for it"},
		},
		{
			"an IPv6 VIP is on the interface",
			func(h *netlab.Host) error {
				return errors.Join(h.DelAddr("lo", prefix("2001:db8::80/128")), h.Addr("eth0", prefix("2001:db8::80/64")))
			},
			[]string{"vip 2001:db8::80: it is on eth0: neighbours learn this machine's MAC for it"},
		},
		{
			"a VIP on lo has the mask of the network",
			func(h *netlab.Host) error {
				return errors.Join(h.DelAddr("lo", prefix("192.0.2.80/32")), h.Addr("lo", prefix("192.0.2.80/24")))
			},
			[]string{"vip 192.0.2.80: 192.0.2.80/24 on lo makes all of 192.0.2.0/24 this machine's own: it reaches nobody there"},
		},
		{
			"ARP is answered",
			func(h *netlab.Host) error { return h.SetSysctl("net.ipv4.conf.all.arp_ignore", "0") },
			[]string{
				"arp eth0: requests for addresses on lo are answered: clients go round the directors",
				"arp eth1: requests for addresses on lo are answered: clients go round the directors",
			},
		},
		{
			"ARP is answered by another interface",
			func(h *netlab.Host) error {
				return errors.Join(h.SetSysctl("net.ipv4.conf.all.arp_ignore", "0"), h.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "1"))
			},
			[]string{"arp eth1: requests for addresses on lo are answered: clients go round the directors"},
		},
		{
			"ARP is asked as the VIP",
			func(h *netlab.Host) error {
				return errors.Join(h.SetSysctl("net.ipv4.conf.all.arp_announce", "1"), h.SetSysctl("net.ipv4.conf.eth1.arp_announce", "2"))
			},
			[]string{"arp eth0: requests are sent with a VIP as their sender: neighbours learn this machine's MAC for it"},
		},
		{
			"the filter is strict, and the way back is the way in",
			func(h *netlab.Host) error { return h.SetSysctl("net.ipv4.conf.all.rp_filter", "1") },
			nil,
		},
		{
			"the filter is strict, and answers leave elsewhere",
			func(h *netlab.Host) error {
				return errors.Join(h.SetSysctl("net.ipv4.conf.all.rp_filter", "1"), replaceDefault(h, all4, "198.51.100.1"))
			},
			[]string{"rp-filter eth0: strict, and answers leave by another interface: packets of clients are dropped"},
		},
		{
			"what directors share is taken",
			func(h *netlab.Host) error {
				return errors.Join(h.SetSysctl("net.ipv4.conf.all.drop_unicast_in_l2_multicast", "0"),
					h.SetSysctl("net.ipv6.conf.all.drop_unicast_in_l2_multicast", "0"))
			},
			[]string{
				"shared ipv4: frames that directors share (announce: multicast) are taken: a datagram may get two answers",
				"shared ipv6: frames that directors share (announce: multicast) are taken: a datagram may get two answers",
			},
		},
		{
			"there is no way back",
			func(h *netlab.Host) error { return replaceDefault(h, all4, "") },
			[]string{"gateway IPv4: there is no default route: clients beyond the link get no answer"},
		},
		{
			"there is no way back for IPv6",
			func(h *netlab.Host) error { return replaceDefault(h, all6, "") },
			[]string{"gateway IPv6: there is no default route: clients beyond the link get no answer"},
		},
		{
			"the way back is a director",
			func(h *netlab.Host) error { return replaceDefault(h, all4, "192.0.2.11") },
			[]string{"gateway IPv4: answers leave through 192.0.2.11, a director: they must go to clients by themselves"},
		},
		{
			"the way back is a director for IPv6",
			func(h *netlab.Host) error { return replaceDefault(h, all6, "2001:db8::11") },
			[]string{"gateway IPv6: answers leave through 2001:db8::11, a director: they must go to clients by themselves"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newBackend(t)
			must(t, test.make(h))
			lines, fixes := wrong(t, h, backend())
			if diff := cmp.Diff(test.want, lines); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !repair(t, h, fixes) {
				return
			}
			if lines, _ := wrong(t, h, backend()); lines != nil {
				t.Errorf("after %q: %q", fixes, lines)
			}
		})
	}
}

// repair does what the operator is told to, by the tools that he has; false without them.
func repair(t *testing.T, h *netlab.Host, fixes []string) bool {
	t.Helper()
	for _, tool := range []string{"ip", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("no %s on this machine: the fix is not tried", tool)
			return false
		}
	}
	for _, fix := range fixes {
		router := router4.String()
		if strings.Contains(fix, "-6") {
			router = router6.String()
		}
		fix = strings.Replace(fix, "ROUTER", router, 1)
		if said, err := h.Command(context.Background(), "sh", "-ec", fix).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", fix, err, said)
		}
	}
	return true
}

func TestAnInterfaceThatIsNotThereOrDownIsNamed(t *testing.T) {
	h := newBackend(t)
	b := backend()
	b.Interface = "eth7"
	lines, _ := wrong(t, h, b)
	if want := []string{"link eth7: there is no such interface (have: lo, eth0, eth1)"}; !cmp.Equal(want, lines) {
		t.Errorf("%q", lines)
	}
	must(t, h.Down("eth1"))
	b.Interface = "eth1"
	lines, fixes := wrong(t, h, b)
	if want := []string{"link eth1: the interface is down"}; !cmp.Equal(want, lines) || !cmp.Equal(fixes, []string{"ip link set eth1 up"}) {
		t.Errorf("%q, %q", lines, fixes)
	}
}

func TestABackendOfNATHasADirectorAsItsGatewayAndNoVIP(t *testing.T) {
	h := newBackend(t)
	b := backend()
	b.Method = lb.ForwardNAT
	must(t, h.DelAddr("lo", prefix("192.0.2.80/32")), h.DelAddr("lo", prefix("2001:db8::80/128")), h.SetSysctl("net.ipv4.conf.all.arp_ignore", "0"))
	lines, fixes := wrong(t, h, b)
	want := []string{
		"gateway IPv4: answers leave through 192.0.2.1 by eth0, no director: clients get them from an address that they do not know",
		"gateway IPv6: answers leave through 2001:db8::1 by eth0, no director: clients get them from an address that they do not know",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := []string{"ip route replace default via DIRECTOR", "ip -6 route replace default via DIRECTOR"}; !cmp.Equal(want, fixes) {
		t.Errorf("fixes: %q", fixes)
	}
	must(t, replaceDefault(h, all4, "192.0.2.11"), replaceDefault(h, all6, "2001:db8::11"))
	if lines, _ := wrong(t, h, b); lines != nil {
		t.Errorf("through the director: %q", lines)
	}
}

func TestTunnelsThatNothingTakesOffAreFound(t *testing.T) {
	h := newBackend(t)
	b := backend()
	b.Method = lb.ForwardTunnel
	lines, _ := wrong(t, h, b)
	want := []string{"tunnel eth0: nothing takes tunnels off: no program of lbd, and no device of the kernel is up"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.Unwraps = true
	if lines, _ := wrong(t, h, b); lines != nil {
		t.Errorf("with lbd's program: %q", lines)
	}
}
