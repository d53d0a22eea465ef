package recipe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/recipe"
)

var (
	vip4, vip6 = netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8::80")
	director4  = netip.MustParseAddr("192.0.2.11")
)

func direct() recipe.Backend {
	return recipe.Backend{Interface: "eth0", Method: lb.ForwardDR, VIPs: []netip.Addr{vip4, vip6}}
}

func tunnel(encap lb.Encap) recipe.Backend {
	return recipe.Backend{
		Interface: "eth0.7", Method: lb.ForwardTunnel, Encap: encap, VIPs: []netip.Addr{vip4},
		Directors: []netip.Addr{director4, netip.MustParseAddr("192.0.2.12")},
	}
}

func commands(b recipe.Backend) []string {
	var all []string
	for _, step := range b.Steps() {
		all = append(all, step.Commands...)
	}
	return all
}

func TestTheRecipeForDirectRouting(t *testing.T) {
	want := []string{
		"sysctl -w net/ipv4/conf/eth0/arp_ignore=1",
		"sysctl -w net/ipv4/conf/eth0/arp_announce=2",
		"sysctl -w net/ipv4/conf/eth0/rp_filter=2",
		"sysctl -w net/ipv4/conf/eth0/drop_unicast_in_l2_multicast=1",
		"sysctl -w net/ipv6/conf/eth0/drop_unicast_in_l2_multicast=1",
		"ip addr replace 192.0.2.80/32 dev lo scope host",
		"ip addr replace 2001:db8::80/128 dev lo nodad preferred_lft 0",
	}
	if diff := cmp.Diff(want, commands(direct())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	only6 := direct()
	only6.VIPs = []netip.Addr{vip6}
	if diff := cmp.Diff(slices.Concat(want[4:5], want[6:]), commands(only6)); diff != "" {
		t.Errorf("IPv6 alone (-want +got):\n%s", diff)
	}
}

func TestTheRecipeForTunnels(t *testing.T) {
	want := []string{
		"sysctl -w net/ipv4/conf/eth0.7/arp_ignore=1",
		"sysctl -w net/ipv4/conf/eth0.7/arp_announce=2",
		"sysctl -w net/ipv4/conf/eth0.7/rp_filter=2",
		"sysctl -w net/ipv4/conf/eth0.7/drop_unicast_in_l2_multicast=1",
		"nft add table inet lb_backend",
		"nft flush table inet lb_backend",
		"nft 'add chain inet lb_backend tunnels { type filter hook prerouting priority raw; }'",
		"nft 'add rule inet lb_backend tunnels ip protocol { 4, 41 } ip saddr != { 192.0.2.11, 192.0.2.12 } drop'",
		"nft 'add rule inet lb_backend tunnels ip6 nexthdr { 4, 41 } drop'",
		"modprobe -a ipip sit ip6_tunnel",
		"ip link set tunl0 up",
		"ip link set sit0 up",
		"ip -6 tunnel change ip6tnl0 mode any",
		"ip link set ip6tnl0 up",
		"sysctl -w net/ipv4/conf/tunl0/rp_filter=2",
		"sysctl -w net/ipv4/conf/ip6tnl0/rp_filter=2",
		"ip addr replace 192.0.2.80/32 dev lo scope host",
	}
	if diff := cmp.Diff(want, commands(tunnel(lb.EncapIP))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var gue []string
	for _, c := range commands(tunnel(lb.EncapGUE)) {
		if strings.Contains(c, "fou") || strings.Contains(c, "6080") {
			gue = append(gue, c)
		}
	}
	want = []string{
		"nft 'add rule inet lb_backend tunnels ip protocol udp udp dport 6080 ip saddr != { 192.0.2.11, 192.0.2.12 } drop'",
		"nft 'add rule inet lb_backend tunnels ip6 nexthdr udp udp dport 6080 drop'",
		"modprobe -a fou fou6",
		"ip fou show | grep -qw 6080 || ip fou add port 6080 gue",
		"ip -6 fou show | grep -qw 6080 || ip -6 fou add port 6080 gue",
	}
	if diff := cmp.Diff(want, gue); diff != "" {
		t.Errorf("GUE (-want +got):\n%s", diff)
	}
}

func TestTheRecipeForNAT(t *testing.T) {
	b := direct()
	b.Method = lb.ForwardNAT
	b.Directors = []netip.Addr{netip.MustParseAddr("2001:db8::11"), director4, netip.MustParseAddr("192.0.2.12")}
	want := []string{"ip route replace default via 192.0.2.11", "ip -6 route replace default via 2001:db8::11"}
	if diff := cmp.Diff(want, commands(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A machine next to a client and a director.
type lab struct {
	backend, client, director, asker *netlab.Host
}

func newLab(t *testing.T) *lab {
	t.Helper()
	network := nettest.New(t)
	sw, err := network.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var hosts [4]*netlab.Host
	for i, name := range []string{"backend", "client", "director", "asker"} {
		h := nettest.Host(t, network, name)
		hosts[i] = h
		number := []int{21, 200, 11, 201}[i]
		for _, err := range []error{
			network.Connect(h, "eth0", sw, netlab.LinkOptions{}),
			h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", number))),
			h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", number))),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	l := &lab{hosts[0], hosts[1], hosts[2], hosts[3]}
	mac, err := l.backend.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, vip := range []netip.Addr{vip4, vip6} { // what a director does to frames
		if err := l.client.Neighbour("eth0", vip, mac); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *lab) serve(t *testing.T) {
	t.Helper()
	listener, err := l.backend.Listen(t.Context(), "tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
}

func dial(t *testing.T, from *netlab.Host, vip netip.Addr, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", netip.AddrPortFrom(vip, 80).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 5))
	return err
}

// byShell is what an operator does.
func byShell(host *netlab.Host, command string) error {
	said, err := host.Command(context.Background(), "sh", "-ec", command).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", command, err, said)
	}
	return err
}

// byHand does what the commands of iproute2 and procps do, for machines that have neither.
func byHand(host *netlab.Host, command string) error {
	words := strings.Fields(command)
	switch {
	case strings.HasPrefix(command, "sysctl -w "):
		name, value, _ := strings.Cut(words[2], "=")
		return host.SetSysctl(name, value)
	case strings.HasPrefix(command, "ip addr replace ") && words[4] == "dev":
		prefix, err := netip.ParsePrefix(words[3])
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}}
		switch rest := strings.Join(words[6:], " "); rest {
		case "scope host":
			addr.Scope = unix.RT_SCOPE_HOST
		case "nodad preferred_lft 0":
			addr.Flags, addr.ValidLft = unix.IFA_F_NODAD, 1<<32-1
		default:
			return fmt.Errorf("%s: what is %q?", command, rest)
		}
		return host.Do(func() error {
			link, err := netlink.LinkByName(words[5])
			if err != nil {
				return err
			}
			return netlink.AddrReplace(link, addr)
		})
	}
	return errors.New(command + ": unknown")
}

func TestAMachineThatFollowsTheRecipeServesVIPsThatItDoesNotAnswerFor(t *testing.T) {
	ways := map[string]func(*netlab.Host, string) error{"by hand": byHand}
	if hasTools("ip", "sysctl") {
		ways["by a shell"] = byShell
	}
	for way, perform := range ways {
		t.Run(way, func(t *testing.T) {
			l := newLab(t)
			l.serve(t)
			if err := l.backend.SetSysctl("net.ipv4.conf.all.rp_filter", "1"); err != nil {
				t.Fatal(err)
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				if err := dial(t, l.client, vip, 300*time.Millisecond); err == nil {
					t.Errorf("%s answers before anything was done", vip)
				}
			}
			for range 2 { // all of it may be done again
				for _, command := range commands(direct()) {
					if err := perform(l.backend, command); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				if err := dial(t, l.client, vip, 5*time.Second); err != nil {
					t.Errorf("%s: %v", vip, err)
				}
				if err := dial(t, l.asker, vip, 300*time.Millisecond); err == nil {
					t.Errorf("%s was reached without a director", vip)
				}
				if mac := nettest.Neighbor(t, l.asker, "eth0", vip); mac != "" && mac != "00:00:00:00:00:00" {
					t.Errorf("somebody says that %s is at %s", vip, mac)
				}
			}
			l.ownSources(t)
		})
	}
}

// ownSources looks that no VIP is the source of the machine's own connections.
func (l *lab) ownSources(t *testing.T) {
	t.Helper()
	for _, to := range []string{"192.0.2.200:9", "[2001:db8::200]:9"} {
		c, err := l.backend.Dial(t.Context(), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if source := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); source == vip4 || source == vip6 {
			t.Errorf("a connection to %s comes from %s", to, source)
		}
	}
}

func hasTools(names ...string) bool {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return false
		}
	}
	return true
}

// The kernels of this project's development have no tunnel devices; its rules are nftables' own.
func TestTunnelsOfOthersThanDirectorsAreDropped(t *testing.T) {
	l := newLab(t)
	if hasTools("nft") {
		for _, command := range commands(tunnel(lb.EncapGUE)) {
			if strings.HasPrefix(command, "nft ") {
				if err := byShell(l.backend, command); err != nil {
					t.Fatal(err)
				}
			}
		}
	} else {
		t.Log("no nft on this machine: nothing is dropped")
	}
	conn, err := l.backend.ListenPacket(t.Context(), "udp", ":6080")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	arrives := func(from *netlab.Host, to string) bool {
		t.Helper()
		c, err := from.Dial(t.Context(), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("tunnel")); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _, err = conn.ReadFrom(make([]byte, 16))
		return err == nil
	}
	for _, test := range []struct {
		name string
		from *netlab.Host
		to   string
		want bool
	}{
		{"a director", l.director, "192.0.2.21:6080", true},
		{"a stranger", l.client, "192.0.2.21:6080", false},
		{"a stranger by IPv6", l.client, "[2001:db8::21]:6080", false},
	} {
		if got := arrives(test.from, test.to); got != (test.want || !hasTools("nft")) {
			t.Errorf("%s: its tunnel arrives: %t", test.name, got)
		}
	}
}
