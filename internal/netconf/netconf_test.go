package netconf_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

var (
	vip4 = lb.VIP{
		Addr: netip.MustParseAddr("192.0.2.80"), Interface: "eth0",
		MAC: net.HardwareAddr{0x03, 0xbf, 192, 0, 2, 80},
	}
	vip6 = lb.VIP{
		Addr: netip.MustParseAddr("2001:db8::80"), Interface: "eth0",
		MAC: net.HardwareAddr{0x03, 0xbf, 0, 0, 0, 0x80},
	}
	group4 = lb.VIP{
		Addr: netip.MustParseAddr("192.0.2.81"), Interface: "eth0", MACForm: lb.MACGroup,
		MAC: net.HardwareAddr{0x01, 0x00, 0x5e, 0x7f, 2, 81}, Group: netip.MustParseAddr("239.255.2.81"),
	}
	group6 = lb.VIP{
		Addr: netip.MustParseAddr("2001:db8::81"), Interface: "eth0", MACForm: lb.MACGroup,
		MAC: net.HardwareAddr{0x33, 0x33, 0xbf, 0, 0, 0x81}, Group: netip.MustParseAddr("ff05::bf00:81"),
	}
	stealth = lb.VIP{
		Addr: netip.MustParseAddr("192.0.2.82"), Interface: "eth0", MACForm: lb.MACUnicast,
		MAC: net.HardwareAddr{0x02, 0xbf, 192, 0, 2, 82},
	}
)

// A node is a host with eth0, next to a client, and the state file of its lbd.
type node struct {
	*netlab.Host
	client *netlab.Host
	state  string
}

func newNode(t *testing.T) node {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := node{nettest.Host(t, lab, "n1"), nettest.Host(t, lab, "c1"), filepath.Join(t.TempDir(), "netconf.json")}
	for _, err := range []error{
		lab.Connect(n.Host, "eth0", sw, netlab.LinkOptions{}),
		lab.Connect(n.client, "eth0", sw, netlab.LinkOptions{}),
		n.Addr("eth0", netip.MustParsePrefix("192.0.2.1/24")),
		n.Addr("eth0", netip.MustParsePrefix("2001:db8::1/64")),
		n.client.Addr("eth0", netip.MustParsePrefix("192.0.2.9/24")),
		n.client.Addr("eth0", netip.MustParsePrefix("2001:db8::9/64")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// lbd acts as a newly started lbd would: nothing is remembered but the state file.
func (n node) lbd(fn func(h *netconf.Host) error) error {
	return n.Do(func() error { return fn(netconf.New(n.state)) })
}

func (n node) set(t *testing.T, vips ...lb.VIP) {
	t.Helper()
	err := n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), netconf.Want{VIPs: vips}) })
	if err != nil {
		t.Fatal(err)
	}
}

func (n node) withdraw(t *testing.T) {
	t.Helper()
	if err := n.lbd(func(h *netconf.Host) error { return h.Withdraw(t.Context()) }); err != nil {
		t.Fatal(err)
	}
}

func (n node) check(t *testing.T, vips ...lb.VIP) []string {
	t.Helper()
	var lines []string
	err := n.lbd(func(h *netconf.Host) error {
		drifts, err := h.Check(t.Context(), netconf.Want{VIPs: vips})
		for _, d := range drifts {
			lines = append(lines, d.String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// proc returns the fields of those lines of a file in /proc/net that contain all of the words.
func (n node) proc(t *testing.T, file string, words ...string) [][]string {
	t.Helper()
	var data []byte
	err := n.Do(func() (err error) { data, err = os.ReadFile("/proc/thread-self/net/" + file); return err })
	if err != nil {
		t.Fatal(err)
	}
	var found [][]string
lines:
	for line := range strings.Lines(string(data)) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		found = append(found, strings.Fields(line))
	}
	return found
}

// world is all of a node that Set may touch, for comparing before and after.
func (n node) world(t *testing.T) map[string]any {
	t.Helper()
	w := make(map[string]any)
	for _, ifname := range []string{"lo", "eth0"} {
		addrs, err := n.Addrs(ifname)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, a := range addrs {
			lines = append(lines, a.String())
		}
		slices.Sort(lines)
		w["addresses "+ifname] = lines
	}
	for _, name := range []string{
		"net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.eth0.arp_announce", "net.ipv4.conf.eth0.arp_accept",
		"net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.eth0.drop_unicast_in_l2_multicast",
		"net.ipv6.conf.eth0.drop_unicast_in_l2_multicast",
	} {
		value, err := n.Sysctl(name)
		if err != nil {
			t.Fatal(err)
		}
		w[name] = value
	}
	w["filters"] = n.proc(t, "dev_mcast", "eth0")
	w["groups6"] = n.proc(t, "igmp6", "eth0")
	w["groups4"] = len(n.proc(t, "igmp"))
	return w
}

func TestSetHoldsVIPsAndWithdrawRestoresTheMachine(t *testing.T) {
	n := newNode(t)
	for name, value := range map[string]string{
		"net.ipv4.conf.eth0.drop_unicast_in_l2_multicast": "1",
		"net.ipv6.conf.eth0.drop_unicast_in_l2_multicast": "1",
		"net.ipv4.conf.eth0.arp_announce":                 "1",
		"net.ipv4.conf.eth0.arp_ignore":                   "2", // stricter than needed: stays
	} {
		if err := n.SetSysctl(name, value); err != nil {
			t.Fatal(err)
		}
	}
	before := n.world(t)
	vips := []lb.VIP{vip4, vip6, group4, group6, stealth}
	n.set(t, vips...)
	// the kernel joins the solicited-node groups of the addresses a little later, too
	nettest.Eventually(t, time.Minute, func() error {
		for group, users := range map[string]string{"ff0200000000000000000001ff000080": "2", "ff0200000000000000000001ff000081": "3"} {
			if found := n.proc(t, "igmp6", "eth0", group); len(found) != 1 || found[0][3] != users {
				return fmt.Errorf("users of %s: %v, want %s", group, found, users)
			}
		}
		return nil
	})
	held := n.world(t)
	want := map[string]any{
		"addresses lo": []string{
			"127.0.0.1/8", "192.0.2.80/32", "192.0.2.81/32", "192.0.2.82/32",
			"2001:db8::80/128", "2001:db8::81/128", "::1/128",
		},
		"net.ipv4.conf.eth0.arp_ignore":                   "2",
		"net.ipv4.conf.eth0.arp_announce":                 "2",
		"net.ipv4.conf.eth0.drop_unicast_in_l2_multicast": "0",
		"net.ipv6.conf.eth0.drop_unicast_in_l2_multicast": "0",
	}
	for name := range want {
		if diff := cmp.Diff(want[name], held[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if drifts := n.check(t, vips...); drifts != nil {
		t.Errorf("drifts after set: %q", drifts)
	}
	n.set(t, vips...)
	if diff := cmp.Diff(held, n.world(t)); diff != "" {
		t.Errorf("the second set changed something:\n%s", diff)
	}
	n.withdraw(t)
	if diff := cmp.Diff(before, n.world(t)); diff != "" {
		t.Errorf("after withdraw (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(n.state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state file: %v", err)
	}
}

func TestSetRemovesOnlyTheVIPThatWent(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4)
	one := n.world(t)
	n.set(t, vip4, group4, vip6)
	n.set(t, vip4)
	if diff := cmp.Diff(one, n.world(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheFilterIsHeldOnce(t *testing.T) {
	n := newNode(t)
	for range 3 {
		n.set(t, vip4)
	}
	found := n.proc(t, "dev_mcast", "eth0", "03bfc0000250")
	if len(found) != 1 || found[0][2] != "1" || found[0][3] != "1" {
		t.Errorf("dev_mcast: %v", found)
	}
	n.set(t)
	if found := n.proc(t, "dev_mcast", "03bfc0000250"); found != nil {
		t.Errorf("dev_mcast after removal: %v", found)
	}
}

func TestSolicitationsForTheVIPGetThroughTheFilter(t *testing.T) {
	n := newNode(t)
	n.set(t, vip6)
	if found := n.proc(t, "dev_mcast", "eth0", "3333ff000080"); len(found) != 1 {
		t.Errorf("dev_mcast: %v, want the solicited-node group of %s", found, vip6.Addr)
	}
	n.withdraw(t)
	if found := n.proc(t, "dev_mcast", "eth0", "3333ff000080"); found != nil {
		t.Errorf("dev_mcast after withdrawal: %v", found)
	}
}

// Their packets come to this machine's own MAC; nobody asks who has them, or is answered.
func TestVIPsThatAreNotAnnouncedNeedNoFilterAndNoGroup(t *testing.T) {
	n := newNode(t)
	before := n.world(t)
	silent4 := lb.VIP{Addr: vip4.Addr, Interface: "eth0", Announce: lb.AnnounceNone, MACForm: lb.MACOwn}
	silent6 := lb.VIP{Addr: vip6.Addr, Interface: "eth0", Announce: lb.AnnounceNone, MACForm: lb.MACOwn}
	n.set(t, silent4, silent6)
	held := n.world(t)
	if diff := cmp.Diff([]string{"127.0.0.1/8", "192.0.2.80/32", "2001:db8::80/128", "::1/128"}, held["addresses lo"]); diff != "" {
		t.Errorf("lo (-want +got):\n%s", diff)
	}
	for _, what := range []string{"filters", "groups6", "groups4"} {
		if diff := cmp.Diff(before[what], held[what]); diff != "" {
			t.Errorf("%s (-before +after):\n%s", what, diff)
		}
	}
	if drifts := n.check(t, silent4, silent6); drifts != nil {
		t.Errorf("drifts after set: %q", drifts)
	}
	n.withdraw(t)
	if diff := cmp.Diff(before, n.world(t)); diff != "" {
		t.Errorf("after withdraw (-before +after):\n%s", diff)
	}
}

func TestWhatOthersAddedStays(t *testing.T) {
	n := newNode(t)
	if err := n.Addr("lo", netip.MustParsePrefix("192.0.2.80/32")); err != nil {
		t.Fatal(err)
	}
	before := n.world(t)
	n.set(t, vip4, vip6)
	n.withdraw(t)
	if diff := cmp.Diff(before, n.world(t)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestASysctlThatWasChangedAfterUsIsNotRestored(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4)
	if err := n.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "8"); err != nil {
		t.Fatal(err)
	}
	n.withdraw(t)
	if got, err := n.Sysctl("net.ipv4.conf.eth0.arp_ignore"); err != nil || got != "8" {
		t.Errorf("arp_ignore %s, %v", got, err)
	}
}

func TestAKilledSetIsUndoneByTheNextOne(t *testing.T) {
	n := newNode(t)
	before := n.world(t)
	// As killed between the state file and the first change, and half way.
	for _, vips := range [][]lb.VIP{{vip4, group6}, {vip4, group6, vip6}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := n.lbd(func(h *netconf.Host) error { return h.Set(ctx, netconf.Want{VIPs: vips}) })
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		info, err := os.Stat(n.state)
		if err != nil {
			t.Fatal("nothing was recorded before the change:", err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("state file has mode %s", info.Mode())
		}
		n.set(t, vips...)
	}
	n.withdraw(t)
	if diff := cmp.Diff(before, n.world(t)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestCheckNamesWhatOthersChangedAndSetRepairsIt(t *testing.T) {
	n := newNode(t)
	vips := []lb.VIP{vip4, group4, stealth}
	n.set(t, vips...)
	for _, err := range []error{
		n.DelAddr("lo", netip.MustParsePrefix("192.0.2.80/32")),
		n.DelAddr("eth0", netip.MustParsePrefix("239.255.2.81/32")),
		n.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "0"),
		n.SetSysctl("net.ipv4.conf.eth0.rp_filter", "1"),
		n.Addr("eth0", netip.MustParsePrefix("192.0.2.82/32")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	manual := []string{
		"address 192.0.2.82 on eth0: present, should be absent: neighbours learn this node's own mac",
		"sysctl net.ipv4.conf.eth0.rp_filter: 1, should be 0 or 2, or clients whose way back is another interface are dropped",
	}
	want := append([]string{
		"sysctl net.ipv4.conf.eth0.arp_ignore: 0, should be 1",
		"address 192.0.2.80 on lo: missing, should be present",
		"interface eth0: group 239.255.2.81: missing, should be present",
	}, manual...)
	if diff := cmp.Diff(want, n.check(t, vips...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	n.set(t, vips...)
	if diff := cmp.Diff(manual, n.check(t, vips...)); diff != "" {
		t.Errorf("after repair (-want +got):\n%s", diff)
	}
	n.withdraw(t)
	if got, err := n.Sysctl("net.ipv4.conf.eth0.arp_ignore"); err != nil || got != "0" {
		t.Errorf("arp_ignore %s, %v", got, err)
	}
}

func TestAMissingInterfaceIsNamedAndTheOtherVIPsAreSet(t *testing.T) {
	n := newNode(t)
	lost := vip4
	lost.Interface = "eth9"
	err := n.lbd(func(h *netconf.Host) error {
		return h.Set(t.Context(), netconf.Want{VIPs: []lb.VIP{lost, vip6}})
	})
	const want = "vip 192.0.2.80: interface eth9: no such interface (have: eth0, lo)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if drifts := n.check(t, vip6); drifts != nil {
		t.Errorf("the other vip: %q", drifts)
	}
}

func TestTheRecordOfAnotherBootIsForgotten(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4)
	data, err := os.ReadFile(n.state)
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	state["realm"] = "another boot"
	if data, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.state, data, 0o600); err != nil {
		t.Fatal(err)
	}
	held := n.world(t)
	n.withdraw(t) // takes all of it for somebody else's
	if diff := cmp.Diff(held, n.world(t)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestABrokenStateFileIsNamed(t *testing.T) {
	n := newNode(t)
	if err := os.WriteFile(n.state, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := n.lbd(func(h *netconf.Host) error { return h.Withdraw(t.Context()) })
	if want := "state " + n.state + ": unexpected end of JSON input"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestARecreatedInterfaceGetsEverythingAgain(t *testing.T) {
	n := newNode(t)
	n.set(t, vip4, group6, stealth)
	recreateEth0(t, n)
	n.set(t, vip4, group6, stealth)
	if drifts := n.check(t, vip4, group6, stealth); drifts != nil {
		t.Errorf("drifts: %q", drifts)
	}
}
