package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

func TestTheDoctorFindsNothingOnABackendOfLbdUntilSomethingIsWrong(t *testing.T) {
	l := newBackendLab(t, tunnelBackend("auto"))
	host := l.backend.host
	check(t, host.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")))
	check(t, host.Route(netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8::1")))
	l.backend.start()
	l.backend.lbctl(t, "doctor").want(t, exitOK, "on lo", "lbd's program takes tunnels off", "192.0.2.1 by eth0")

	check(t, host.Addr("eth0", netip.MustParsePrefix("2001:db8::80/128")))
	l.backend.lbctl(t, "doctor").want(t, exitDegraded, "wrong: vip 2001:db8::80", "ip addr del 2001:db8::80/128 dev eth0")
	check(t, host.DelAddr("eth0", netip.MustParsePrefix("2001:db8::80/128")))

	// without lbd, the flags say what the machine is to be
	check(t, host.DelAddr("eth0", netip.MustParsePrefix("192.0.2.11/24")))
	l.backend.lbctl(t, "doctor --vips 192.0.2.80,2001:db8::80 --directors 2001:db8::1").
		want(t, exitDegraded, "there is no default route", "2001:db8::1, a director")
}

// What claims a VIP is dropped by the datapath before anybody on the director could see it.
func TestTheDoctorOfADirectorNamesABackendThatAnswersForAVIP(t *testing.T) {
	c := newMachines(t, options{weights: []int{100}})
	n := c.nodes[0]
	t.Cleanup(n.remove)
	c.writeConfig(n, options{attach: "auto", services: `
  - {name: web, vips: [192.0.2.80], ports: 80, forward: dr, backends: [{name: b1, address: 192.0.2.200}]}
`})
	n.start()
	n.lbctl(t, "doctor").want(t, exitOK, "web/b1", "nobody else answers for it")

	check(t, c.client.Addr("lo", netip.MustParsePrefix("192.0.2.80/32")))
	known(t, n.host, netip.MustParseAddr("192.0.2.200"))
	mac, err := c.client.MAC("eth0")
	check(t, err)
	n.lbctl(t, "doctor").want(t, exitDegraded, fmt.Sprintf("backend web/b1 (192.0.2.200, %s) answers ARP requests for it", mac), "arp_ignore=1")

	check(t, c.client.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "1"))
	n.lbctl(t, "doctor").want(t, exitOK, "nobody else answers for it")

	check(t, c.client.Addr("eth0", netip.MustParsePrefix("2001:db8::80/64")))
	n.lbctl(t, "doctor").want(t, exitDegraded, fmt.Sprintf("backend web/b1 (192.0.2.200, %s) answers solicitations for it", mac))
}

// known returns when a host knows a neighbour's MAC.
func known(t *testing.T, host *netlab.Host, addr netip.Addr) {
	t.Helper()
	c, err := host.Dial(t.Context(), "udp", netip.AddrPortFrom(addr, 9).String())
	check(t, err)
	defer c.Close()
	nettest.Eventually(t, agreeWithin, func() error {
		_, _ = c.Write([]byte("hello")) // refused by the second, when the first was answered
		if nettest.Neighbor(t, host, "eth0", addr) == "" {
			return fmt.Errorf("%s is not known", addr)
		}
		return nil
	})
}
