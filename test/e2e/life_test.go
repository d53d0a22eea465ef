package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/nettest"
)

// rewrite changes a node's file. Text that is not there would make the test pass for nothing.
func (n *node) rewrite(old, new string) {
	n.t.Helper()
	text, err := os.ReadFile(n.path("lb.yaml"))
	check(n.t, err)
	if !strings.Contains(string(text), old) {
		n.t.Fatalf("%q is not in:\n%s", old, text)
	}
	check(n.t, os.WriteFile(n.path("lb.yaml"), []byte(strings.Replace(string(text), old, new, 1)), 0o600))
}

// reload sends SIGHUP and waits until the file was looked at.
func (n *node) reload() {
	n.t.Helper()
	before, err := n.status()
	check(n.t, err)
	check(n.t, n.cmd.Process.Signal(syscall.SIGHUP))
	nettest.Eventually(n.t, agreeWithin, func() error {
		after, err := n.status()
		if err != nil {
			return err
		}
		if after.Config == before.Config { // the generation may change for another reason
			return fmt.Errorf("%s: nothing happened", n.name)
		}
		return nil
	})
}

func TestAReloadAppliesAGoodFileAndRefusesABadOne(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}})
	for _, n := range c.nodes {
		n.serve()
	}
	// n3 gets no new flows any more
	for _, n := range c.nodes {
		n.rewrite("'2001:db8::13'], weight: 100", "'2001:db8::13'], weight: 0")
		n.reload()
	}
	if answers := c.connections(t, vip4, 20000, 300); answers["n3"] != 0 || answers["n1"]+answers["n2"] != 300 {
		t.Errorf("with n3's weight at 0: %v", answers)
	}

	n := c.nodes[0]
	good, err := os.ReadFile(n.path("lb.yaml"))
	check(t, err)
	for _, bad := range []struct{ old, new, want string }{
		{"protocol: tcp", "protokol: tcp", `unknown key (did you mean "protocol"?)`},
		{"interface: eth0", "interface: eth7", "eth7"},
	} {
		n.rewrite(bad.old, bad.new)
		n.reload()
		status, err := n.status()
		check(t, err)
		if !strings.Contains(status.Config.LastError, bad.want) || len(status.Problems) == 0 {
			t.Errorf("%q: last error %q, problems %q; want %q", bad.new, status.Config.LastError, status.Problems, bad.want)
		}
		if answers := c.connections(t, vip4, 21000, 100); answers["n1"]+answers["n2"] != 100 {
			t.Errorf("%q: the old configuration does not serve: %v", bad.new, answers)
		}
		check(t, os.WriteFile(n.path("lb.yaml"), good, 0o600))
		n.reload()
		if status, err := n.status(); err != nil || len(status.Problems) != 0 {
			t.Errorf("after the good file again: problems %q, %v", status.Problems, err)
		}
	}

	// the VIP that goes is gone from the machine, the other one stays
	for _, n := range c.nodes {
		n.rewrite("  - address: '2001:db8::80'\n", "")
		n.rewrite(`, "2001:db8::80"`, "")
		n.rewrite(`, "2001:db8::80"`, "")
		n.reload()
		if found := n.addresses(t); strings.Contains(found, vip6.String()) || !strings.Contains(found, vip4.String()) {
			t.Errorf("%s: addresses on lo: %s", n.name, found)
		}
	}
	if answers := c.connections(t, vip4, 22000, 100); answers["n1"]+answers["n2"] != 100 {
		t.Errorf("after the other VIP went: %v", answers)
	}
}

func (n *node) addresses(t *testing.T) string {
	t.Helper()
	list, err := n.host.Addrs("lo")
	check(t, err)
	return fmt.Sprint(list)
}

// shutdown: leave is the default. Nobody's lbd runs, and everything is served.
func TestTheKernelServesWithoutAnyDaemon(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}})
	for _, n := range c.nodes {
		n.serve()
		n.stop(syscall.SIGTERM)
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		if answers := c.connections(t, vip, 20000, 300); len(answers) != 3 {
			t.Errorf("%s: %v, want answers of all three", vip, answers)
		}
	}
}

// shutdown: withdraw leaves the machine as it was.
func TestWithdrawTakesEverythingBack(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.rewrite("attach: native", "attach: native\nshutdown: withdraw")
	n.reload()
	n.stop(syscall.SIGTERM)
	if found := n.addresses(t); strings.Contains(found, vip4.String()) || strings.Contains(found, vip6.String()) {
		t.Errorf("addresses on lo: %s", found)
	}
	if value, err := n.host.Sysctl("net.ipv4.conf.eth0.arp_ignore"); err != nil || value != "0" {
		t.Errorf("arp_ignore is %s, %v", value, err)
	}
	if _, err := os.Stat(n.pins); !os.IsNotExist(err) {
		t.Errorf("pins are left: %v", err)
	}
	check(t, n.host.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if link.Attrs().Xdp != nil && link.Attrs().Xdp.Attached {
			t.Error("an XDP program is left")
		}
		return nil
	}))
	n.launch() // for the cleanup
}

// What somebody else takes away comes back, and is reported.
func TestPruneRepairsWhatOthersChanged(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.serve()
	check(t, n.host.DelAddr("lo", netip.PrefixFrom(vip4, 32)))
	check(t, os.RemoveAll(filepath.Join(n.pins, "links"))) // detaches the programs
	check(t, os.RemoveAll(filepath.Join(n.pins, "maps")))
	nettest.Eventually(t, agreeWithin, func() error {
		if found := n.addresses(t); !strings.Contains(found, vip4.String()) {
			return fmt.Errorf("addresses on lo: %s", found)
		}
		_, err := n.counterList()
		return err
	})
	if answers := c.connections(t, vip4, 20000, 50); answers["n1"] != 50 {
		t.Errorf("after the repair: %v", answers)
	}
	if n.counted(t, "accepted") == 0 {
		t.Error("the datapath that is attached is not the one that is pinned")
	}
}
