package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// ownAddresses gives back to eth0 what an operator's tools would.
func (n *node) ownAddresses(t *testing.T) {
	t.Helper()
	for _, prefix := range []string{"192.0.2.11/24", "2001:db8::11/64"} {
		err := n.host.Addr("eth0", netip.MustParsePrefix(prefix))
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
}

// proc says whether a line of a file in the node's /proc/net holds all words.
func (n *node) proc(t *testing.T, file string, words ...string) bool {
	t.Helper()
	var data []byte
	check(t, n.host.Do(func() (err error) { data, err = os.ReadFile("/proc/thread-self/net/" + file); return err }))
lines:
	for line := range strings.Lines(string(data)) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		return true
	}
	return false
}

// hears checks that a network card would let frames for the VIPs through.
func (n *node) hears(t *testing.T) {
	t.Helper()
	for _, mac := range []string{"03bfc0000250", "03bf00000080", "3333ff000080"} {
		if !n.proc(t, "dev_mcast", "eth0", mac) {
			t.Errorf("%s: eth0 does not let %s through", n.name, mac)
		}
	}
	if !n.proc(t, "igmp6", "eth0", "ff0200000000000000000001ff000080") {
		t.Errorf("%s: no member of the group that solicitations for %s go to", n.name, vip6)
	}
}

// withLoad runs traffic of both families through what happens, which may cost packets, and neither
// connections nor clarity about who answers.
func (c *cluster) withLoad(t *testing.T, happens func(*load)) {
	t.Helper()
	tap := newTap(t, c.client)
	l := c.startLoad(t)
	time.Sleep(200 * time.Millisecond) // of traffic before
	happens(l)
	time.Sleep(500 * time.Millisecond) // and after
	l.stop()
	if _, doubled := tap.duplicates(); doubled != 0 {
		t.Errorf("%d SYNs were answered by two nodes", doubled)
	}
	t.Logf("%d new connections, %d SYNs sent again, %d echoes over %d held connections; longest gap %v",
		l.made.Load(), tap.resent(), l.echoes.Load(), held, time.Duration(l.gap.Load()))
	if l.made.Load() < 50 || l.echoes.Load() < 100 {
		t.Error("too little traffic to tell")
	}
}

// wantShared checks that all nodes serve both VIPs, and that nothing is wrong with the first.
func (c *cluster) wantShared(t *testing.T) {
	t.Helper()
	for _, vip := range []netip.Addr{vip4, vip6} {
		if answers := c.connections(t, vip, 40000, 60); len(answers) != len(c.nodes) {
			t.Errorf("%s: answers of %v, want all nodes'", vip, answers)
		}
	}
	nettest.Eventually(t, agreeWithin, func() error {
		status, err := c.nodes[0].status()
		if err != nil {
			return err
		}
		for _, problem := range status.Problems {
			if !strings.HasPrefix(problem, "changed by somebody else: ") { // stays until the next prune
				return fmt.Errorf("problems: %q", status.Problems)
			}
		}
		if len(status.Attach) != 1 {
			return fmt.Errorf("attached: %v", status.Attach)
		}
		return nil
	})
}

func TestTrafficSurvivesAnotherMACOfTheInterface(t *testing.T) {
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 100}})
			for _, n := range c.nodes {
				n.serve()
			}
			n := c.nodes[0]
			last := net.HardwareAddr{2, 0, 0, 0, 0x11, 0}
			c.withLoad(t, func(*load) {
				for range 5 {
					last[5]++
					check(t, n.host.SetMAC("eth0", last))
					time.Sleep(200 * time.Millisecond)
				}
			})
			c.wantShared(t)
			dump := parse[mapsDump](t, n.lbctl(t, "maps dump -o json"))
			for _, vip := range dump.VIPs {
				if vip.OwnMAC != last.String() {
					t.Errorf("%s: the programs know the interface by %s, not by %s", vip.Address, vip.OwnMAC, last)
				}
			}
			n.lbctl(t, "trace tcp 192.0.2.200:7 192.0.2.80:8080 --to "+last.String()).want(t, exitOK, "accept, direct")
			n.lbctl(t, "trace tcp 192.0.2.200:7 192.0.2.80:8080 --to 02:00:00:00:11:01").want(t, exitOK, "pass, other-host")
		})
	}
}

// The interface of a node goes and another one gets its name: lbd says that it is gone, and serves
// on the new one by itself. Connections wait, and live on.
func TestTrafficSurvivesANewInterfaceOfTheSameName(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}})
	for _, n := range c.nodes {
		n.serve()
	}
	n := c.nodes[0]
	c.withLoad(t, func(*load) {
		check(t, n.host.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.LinkDel(link)
		}))
		n.awaitProblems(agreeWithin, func(problems []string) bool {
			return len(problems) > 0 && strings.Contains(problems[0], "interface eth0: no such interface (have: lo)")
		})
		n.lbctl(t, "status").want(t, exitDegraded, "problem: ", "interface eth0: no such interface")
		check(t, c.lab.Connect(n.host, "eth0", c.sw, netlab.LinkOptions{SwitchXDP: true}))
		n.ownAddresses(t)
		nettest.Eventually(t, agreeWithin, func() error {
			if nettest.XDP(t, n.host, "eth0") == 0 {
				return errors.New("no program on the new interface")
			}
			return nil
		})
	})
	c.wantShared(t)
	n.hears(t)
}

func TestTrafficSurvivesALinkThatIsSwitchedOffAndOn(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}})
	for _, n := range c.nodes {
		n.serve()
	}
	n := c.nodes[0]
	c.withLoad(t, func(*load) {
		for range 3 {
			check(t, n.host.Down("eth0"))
			time.Sleep(100 * time.Millisecond)
			check(t, n.host.Up("eth0"))
			n.ownAddresses(t)
			time.Sleep(300 * time.Millisecond)
		}
	})
	c.wantShared(t)
	n.hears(t)

	// an MTU that is too small for IPv6 takes it off the interface, and the memberships for good
	n.setMTU(t, 1000)
	n.awaitProblems(agreeWithin, func(problems []string) bool {
		return len(problems) > 0 && strings.Contains(problems[0], "vip 2001:db8::80") &&
			strings.Contains(problems[0], "is ipv6 switched off on eth0?")
	})
	n.setMTU(t, 1500)
	n.ownAddresses(t)
	nettest.Eventually(t, agreeWithin, func() error {
		if !n.proc(t, "igmp6", "eth0", "ff0200000000000000000001ff000080") {
			return errors.New("the group is not joined again")
		}
		return nil
	})
	c.wantShared(t)
	n.hears(t)
}

func (n *node) setMTU(t *testing.T, mtu int) {
	t.Helper()
	check(t, n.host.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	}))
}

// What somebody changes by hand is put back, and said: at once where the kernel tells of it, else
// by the prune.
func TestWhatIsChangedByHandIsPutBackAndReported(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.serve()
	n.settle(t)
	check(t, n.host.DelAddr("lo", netip.PrefixFrom(vip4, 32)))
	check(t, n.host.DelAddr("lo", netip.PrefixFrom(vip6, 128)))
	nettest.Eventually(t, time.Minute, func() error {
		if !n.holds(t, vip4) || !n.holds(t, vip6) {
			return fmt.Errorf("addresses on lo: %s", n.addresses(t))
		}
		return nil
	})
	n.wantReported(t, "address 192.0.2.80 on lo: missing, should be present", "address 2001:db8::80 on lo: missing, should be present")

	n.settle(t) // or what is changed now would be put back with what came before

	// nobody tells of a sysctl
	const name = "net.ipv4.conf.eth0.arp_ignore"
	check(t, n.host.SetSysctl(name, "0"))
	const line = "sysctl net.ipv4.conf.eth0.arp_ignore: 0, should be 1"
	found := n.awaitProblems(agreeWithin, func(problems []string) bool {
		return len(problems) > 0 && strings.Contains(problems[len(problems)-1], line)
	})
	if found[len(found)-1] != "changed by somebody else: "+line {
		t.Errorf("problems: %q", found)
	}
	n.lbctl(t, "status").want(t, exitDegraded, "drift: "+line)
	if value, err := n.host.Sysctl(name); err != nil || value != "1" {
		t.Errorf("reported, and arp_ignore is %s, %v", value, err)
	}
	n.wantReported(t, line)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if answers := c.connections(t, vip, 20000, 20); answers["n1"] != 20 {
			t.Errorf("%s after the repair: %v", vip, answers)
		}
	}
}

// wantReported checks that each line is an event, once.
func (n *node) wantReported(t *testing.T, lines ...string) {
	t.Helper()
	events := parse[[]control.Event](t, n.lbctl(t, "events -o json"))
	for _, line := range lines {
		times := 0
		for _, e := range events {
			if e.Kind == "drift" && e.What == line && e.Node == n.name {
				times++
			}
		}
		if times != 1 {
			t.Errorf("%q was reported %d times, want once:\n%v", line, times, events)
		}
	}
}
