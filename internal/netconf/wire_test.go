package netconf_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// recreateEth0 replaces the interface by a new one with another index.
func recreateEth0(t *testing.T, n node) {
	t.Helper()
	err := n.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(link); err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Up("peer0"), n.Up("eth0")); err != nil {
		t.Fatal(err)
	}
}

// reach gives the client the node's own MAC for the VIP: there is no XDP here to accept the
// shared one.
func (n node) reach(t *testing.T, vip netip.Addr) {
	t.Helper()
	mac, err := n.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.client.Neighbour("eth0", vip, mac); err != nil {
		t.Fatal(err)
	}
}

func TestSocketsAnswerOnTheVIP(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4, vip6)
	for _, vip := range []netip.Addr{vip4.Addr, vip6.Addr} {
		n.reach(t, vip)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		at := netip.AddrPortFrom(vip, 80).String()

		l, err := n.Listen(ctx, "tcp", at)
		if err != nil {
			t.Fatal("listen on the vip itself:", err)
		}
		defer l.Close()
		c, err := n.client.Dial(ctx, "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()

		u, err := n.ListenPacket(ctx, "udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		udp, err := n.client.Dial(ctx, "udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		if err := bounce(udp, u); err != nil {
			t.Errorf("udp to %s: %v", vip, err)
		}
		if err := ping(ctx, n.client, vip); err != nil {
			t.Errorf("ping %s: %v", vip, err)
		}
	}
}

// bounce sends a datagram to a server and back.
func bounce(client net.Conn, server net.PacketConn) error {
	deadline := time.Now().Add(2 * time.Second)
	if err := errors.Join(client.SetDeadline(deadline), server.SetDeadline(deadline)); err != nil {
		return err
	}
	if _, err := client.Write([]byte("hello")); err != nil {
		return err
	}
	buf := make([]byte, 16)
	size, from, err := server.ReadFrom(buf)
	if err != nil {
		return err
	}
	if _, err := server.WriteTo(buf[:size], from); err != nil {
		return err
	}
	_, err = client.Read(buf)
	return err
}

// ping sends an echo request and waits for its reply, which a raw socket sees.
func ping(ctx context.Context, from *netlab.Host, to netip.Addr) error {
	network, request, reply := "ip4:icmp", []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, byte(0)
	if to.Is6() {
		network, request, reply = "ip6:58", []byte{128, 0, 0, 0, 0, 0, 0, 0}, 129
	}
	c, err := from.Dial(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	for buf := make([]byte, 128); ; {
		size, _, err := c.(net.PacketConn).ReadFrom(buf) // Read would give the IPv4 header too
		if err != nil {
			return err
		}
		if size > 0 && buf[0] == reply {
			return nil
		}
	}
}

// A VIP as the source of the node's own traffic would bring the replies to another node.
func TestTheVIPIsNeverTheSourceOfOwnConnections(t *testing.T) {
	n := newNode(t)
	for _, vips := range [][]lb.VIP{{vip4, vip6}, {vip4, vip6, group4, group6}} {
		n.set(t, vips...)
		// Beyond the link, there is no address of the same prefix to prefer.
		for gateway, dst := range map[string]string{"192.0.2.9": "198.51.100.7:9", "2001:db8::9": "[2001:db8:ffff::7]:9"} {
			via, to := netip.MustParseAddr(gateway), netip.MustParseAddrPort(dst)
			if err := n.Route(netip.PrefixFrom(to.Addr(), to.Addr().BitLen()), via); err != nil && !errors.Is(err, unix.EEXIST) {
				t.Fatal(err)
			}
			for _, target := range []string{dst, netip.AddrPortFrom(via, 9).String()} {
				c, err := n.Dial(t.Context(), "udp", target)
				if err != nil {
					t.Fatal(err)
				}
				source := netip.MustParseAddrPort(c.LocalAddr().String()).Addr()
				if source.String() != "192.0.2.1" && source.String() != "2001:db8::1" {
					t.Errorf("to %s from %s", target, source)
				}
				c.Close()
			}
		}
	}
}

// Without an address of its own on the interface, IPv4 has none to use rather than the VIP.
func TestTheVIPIsNoSourceEvenWithoutAnotherAddress(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4)
	if err := n.DelAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	err := n.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		dst := &net.IPNet{IP: net.IP{192, 0, 2, 0}, Mask: net.CIDRMask(24, 32)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Scope: unix.RT_SCOPE_LINK})
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.Dial(t.Context(), "udp", "192.0.2.9:9")
	if err != nil {
		return
	}
	defer c.Close()
	if source := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); source == vip4.Addr {
		t.Errorf("from %s", source)
	}
}

// The datapath answers with the shared MAC; an answer of the kernel would name this node's own.
func TestTheKernelResolvesNoVIP(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4, vip6)
	for _, vip := range []netip.Addr{vip4.Addr, vip6.Addr} {
		c, err := n.client.Dial(t.Context(), "udp", netip.AddrPortFrom(vip, 9).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("who has?")); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond)
	err := n.client.Do(func() error {
		entries, err := netlink.NeighList(0, netlink.FAMILY_ALL)
		for _, e := range entries {
			ip, _ := netip.AddrFromSlice(e.IP)
			if (ip.Unmap() == vip4.Addr || ip == vip6.Addr) && e.HardwareAddr != nil {
				t.Errorf("%s is at %s", ip, e.HardwareAddr)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestGroupsAreReportedOnTheWire(t *testing.T) {
	n := newNode(t)
	reports := make(chan string, 100)
	for _, proto := range []int{unix.ETH_P_IP, unix.ETH_P_IPV6} {
		var conn *packet.Conn
		err := n.client.Do(func() error {
			ifi, err := net.InterfaceByName("eth0")
			if err == nil {
				conn, err = packet.Listen(ifi, packet.Raw, proto, nil)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			for buf := make([]byte, 2048); ; {
				size, _, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				if r := report(buf[:size]); r != "" {
					reports <- r
				}
			}
		}()
	}
	var seen []string
	awaitReports := func(want ...string) {
		t.Helper()
		nettest.Eventually(t, time.Minute, func() error {
			for len(reports) > 0 {
				seen = append(seen, <-reports)
			}
			for _, w := range want {
				if !slices.Contains(seen, w) {
					return fmt.Errorf("seen %q, not %q", seen, w)
				}
			}
			return nil
		})
	}
	n.set(t, group4, group6)
	awaitReports("join 239.255.2.81", "join ff05::bf00:81")
	if found := n.proc(t, "igmp6", "eth0", "ff0500000000000000000000bf000081"); len(found) != 1 {
		t.Errorf("igmp6: %v", found)
	}
	if found := n.proc(t, "igmp", "5102FFEF"); len(found) != 1 {
		t.Errorf("igmp: %v", found)
	}
	n.withdraw(t)
	awaitReports("leave 239.255.2.81", "leave ff05::bf00:81")
}

// report returns "join <group>" or "leave <group>" for a frame with an IGMPv3 or MLDv2 report
// about the groups of these tests.
func report(frame []byte) string {
	// A record is: type, length of auxiliary data, number of sources (2 bytes), group.
	types := map[byte]string{2: "join", 4: "join", 3: "leave"}
	for _, group := range []netip.Addr{group4.Group, group6.Group} {
		at := bytes.LastIndex(frame, group.AsSlice())
		if at >= 14+20 && types[frame[at-4]] != "" {
			return types[frame[at-4]] + " " + group.String()
		}
	}
	return ""
}

func TestGroupsOutliveALinkThatIsSwitchedOff(t *testing.T) {
	n := newNode(t)
	n.set(t, group4, group6)
	// The kernel joins the solicited-node group of a new address a little later, also of one that
	// stands for a group. Going down before that, it leaves once more than it joined.
	nettest.Eventually(t, time.Minute, func() error {
		if found := n.proc(t, "igmp6", "ff0200000000000000000001ff000081"); len(found) != 1 || found[0][3] != "3" {
			return fmt.Errorf("users of the solicited-node group: %v", found)
		}
		return nil
	})
	if err := errors.Join(n.Down("eth0"), n.Up("eth0")); err != nil {
		t.Fatal(err)
	}
	n.set(t, group4, group6)
	if drifts := n.check(t, group4, group6); drifts != nil {
		t.Errorf("drifts: %q", drifts)
	}
	if found := n.proc(t, "igmp6", "ff0500000000000000000000bf000081"); len(found) != 1 {
		t.Errorf("igmp6: %v", found)
	}
	if found := n.proc(t, "igmp", "5102FFEF"); len(found) != 1 {
		t.Errorf("igmp: %v", found)
	}
	n.withdraw(t)
	n.set(t, group6)
	if drifts := n.check(t, group6); drifts != nil {
		t.Errorf("drifts of the group that the kernel never left: %q", drifts)
	}
}

func TestAnInterfaceWithoutUnicastFilterIsNamed(t *testing.T) {
	n := newNode(t)
	err := n.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "tun0"
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN})
	})
	if err != nil {
		t.Fatal(err)
	}
	vip := stealth
	vip.Interface = "tun0"
	err = n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), netconf.Want{VIPs: []lb.VIP{vip, vip4}}) })
	const want = "vip 192.0.2.82: interface tun0: mac filter 02:bf:c0:00:02:52: add: " +
		"the driver takes no second unicast mac, use a multicast form: invalid argument"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	lo, err := n.Addrs("lo")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(lo, netip.MustParsePrefix("192.0.2.82/32")) {
		t.Error("the vip came up without its filter")
	}
	if drifts := n.check(t, vip4); drifts != nil {
		t.Errorf("the other vip: %q", drifts)
	}
	n.withdraw(t)
}

// IPv6 goes from an interface whose MTU is too small for it, and every membership with it. The
// kernel's own socket does not notice, and would never join again.
func TestGroupsThatTheKernelLostAreRepaired(t *testing.T) {
	n := newNode(t)
	vips := []lb.VIP{vip6, group6}
	var h *netconf.Host
	lbd := func(fn func() error) {
		t.Helper()
		if err := n.Do(fn); err != nil {
			t.Fatal(err)
		}
	}
	drifts := func() (lines []string) {
		t.Helper()
		lbd(func() error {
			found, err := h.Check(t.Context(), netconf.Want{VIPs: vips})
			for _, d := range found {
				lines = append(lines, d.String())
			}
			return err
		})
		return lines
	}
	groups := []string{
		"ff0200000000000000000001ff000080", "ff0200000000000000000001ff000081", "ff0500000000000000000000bf000081",
	}
	h = netconf.New(n.state)
	set := func() error { return h.Set(t.Context(), netconf.Want{VIPs: vips}) }
	lbd(set)
	for range 2 { // what lbd itself holds is lost the same way
		for _, mtu := range []int{1000, 1500} {
			lbd(func() error {
				link, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				return netlink.LinkSetMTU(link, mtu)
			})
		}
		want := []string{
			"interface eth0: group ff02::1:ff00:80: missing, should be present",
			"interface eth0: group ff05::bf00:81: missing, should be present",
			"interface eth0: group ff02::1:ff00:81: missing, should be present",
		}
		if diff := cmp.Diff(want, slices.DeleteFunc(drifts(), func(l string) bool { return strings.HasPrefix(l, "sysctl") })); diff != "" {
			t.Errorf("drifts of lost groups (-want +got):\n%s", diff)
		}
		lbd(set)
		if found := drifts(); found != nil {
			t.Errorf("drifts after the repair: %q", found)
		}
		for _, group := range groups {
			if found := n.proc(t, "igmp6", "eth0", group); len(found) != 1 {
				t.Errorf("igmp6 of %s: %v", group, found)
			}
		}
		if found := n.proc(t, "dev_mcast", "eth0", "3333ff000080"); len(found) != 1 {
			t.Errorf("dev_mcast: %v, want the solicited-node group", found)
		}
	}
	lbd(func() error { return h.Withdraw(t.Context()) })
	for _, group := range groups {
		if found := n.proc(t, "igmp6", "eth0", group); found != nil {
			t.Errorf("igmp6 of %s after withdrawal: %v", group, found)
		}
	}
}

// A node that has no global IPv6 address but the VIP does not use it: what it connects to would
// answer another node.
func TestTheIPv6VIPIsNoSourceEvenWithoutAnotherAddress(t *testing.T) {
	n := newNode(t)
	own := netip.MustParsePrefix("2001:db8::1/64")
	if err := n.DelAddr("eth0", own); err != nil {
		t.Fatal(err)
	}
	n.set(t, vip6)
	err := n.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		dst := &net.IPNet{IP: netip.MustParseAddr("2001:db8::").AsSlice(), Mask: net.CIDRMask(64, 128)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst})
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := n.client.Listen(t.Context(), "tcp", "[2001:db8::9]:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	source := func() netip.Addr {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := n.Dial(ctx, "tcp", "[2001:db8::9]:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return netip.MustParseAddrPort(c.LocalAddr().String()).Addr()
	}
	if got := source(); !got.IsLinkLocalUnicast() {
		t.Errorf("the connection comes from %s, not from the interface's link-local address", got)
	}

	// with an address of its own the node is left as it was, wherever that address is
	if err := n.Addr("lo", netip.MustParsePrefix("2001:db8:1::1/128")); err != nil {
		t.Fatal(err)
	}
	n.set(t, vip6)
	if value, err := n.Sysctl("net.ipv6.conf.eth0.use_oif_addrs_only"); err != nil || value != "0" {
		t.Errorf("use_oif_addrs_only is %s, %v, with an address to prefer on lo", value, err)
	}
	c, err := n.Dial(t.Context(), "udp", "[2001:db8::9]:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); got != netip.MustParseAddr("2001:db8:1::1") {
		t.Errorf("the connection comes from %s, not from the node's address on lo", got)
	}
}
