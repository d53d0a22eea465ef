package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// vipBeside is announced on another interface than the others.
var vipBeside = netip.MustParseAddr("198.51.100.80")

// withSecondInterface gives a stopped node eth1, a client behind it, and a VIP there.
func (c *cluster) withSecondInterface(t *testing.T, n *node) *netlab.Host {
	t.Helper()
	sw, err := c.lab.Switch("beside", netlab.SwitchOptions{})
	check(t, err)
	client := nettest.Host(t, c.lab, "c2")
	check(t, c.lab.Connect(client, "eth0", sw, netlab.LinkOptions{}))
	check(t, client.Addr("eth0", netip.MustParsePrefix("198.51.100.200/24")))
	check(t, c.lab.Connect(n.host, "eth1", sw, netlab.LinkOptions{SwitchXDP: true}))
	check(t, n.host.Addr("eth1", netip.MustParsePrefix("198.51.100.11/24")))
	n.rewrite("vips:\n", "vips:\n  - {address: 198.51.100.80, interface: eth1}\n")
	n.rewrite("vips: [192.0.2.80", "vips: [198.51.100.80, 192.0.2.80")
	return client
}

// stopBare ends a node's lbd and leaves nothing of it on the machine.
func (n *node) stopBare() {
	n.t.Helper()
	n.rewrite("interface: eth0\n", "interface: eth0\nshutdown: withdraw\n")
	n.reload()
	n.stop(syscall.SIGTERM)
}

// nameBehind makes one connection and returns who answered.
func nameBehind(client *netlab.Host, vip netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := client.Dial(ctx, "tcp", netip.AddrPortFrom(vip, port).String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	var name [16]byte
	size, err := conn.Read(name[:])
	return strings.TrimSpace(string(name[:size])), err
}

// awaitProblems waits until status reports what ok accepts.
func (n *node) awaitProblems(within time.Duration, ok func([]string) bool) []string {
	n.t.Helper()
	var found []string
	nettest.Eventually(n.t, within, func() error {
		status, err := n.status()
		if err != nil {
			return err
		}
		if found = status.Problems; !ok(found) {
			return fmt.Errorf("problems: %q\n%s", found, n.logs)
		}
		return nil
	})
	return found
}

// settle waits until lbd has nothing to apply any more.
func (n *node) settle(t *testing.T) {
	t.Helper()
	var generation uint64
	since := time.Now()
	nettest.Eventually(t, agreeWithin, func() error {
		status, err := n.status()
		if err != nil {
			return err
		}
		if status.Generation != generation {
			generation, since = status.Generation, time.Now()
		}
		if time.Since(since) < 300*time.Millisecond {
			return fmt.Errorf("%s: generation %d is new", n.name, generation)
		}
		return nil
	})
}

// holds says whether an address is on the node's lo.
func (n *node) holds(t *testing.T, vip netip.Addr) bool {
	t.Helper()
	return strings.Contains(n.addresses(t), vip.String()+"/")
}

// Somebody else's program came first: lbd says so, lets it be, serves what it can, and takes the
// interface as soon as it is free.
func TestAForeignProgramIsNeverReplaced(t *testing.T) {
	for _, foreign := range []struct {
		name  string
		flags int
		off   string
	}{
		{"native", unix.XDP_FLAGS_DRV_MODE, "ip link set dev eth0 xdp off"},
		{"generic", unix.XDP_FLAGS_SKB_MODE, "ip link set dev eth0 xdpgeneric off"},
	} {
		t.Run(foreign.name, func(t *testing.T) {
			c := newCluster(t, options{attach: "auto", weights: []int{100}})
			n := c.nodes[0]
			n.stopBare()
			beside := c.withSecondInterface(t, n)
			id, err := nettest.ForeignXDP(n.host, "eth0", foreign.flags)
			check(t, err)

			n.launch()
			found := n.awaitProblems(agreeWithin, func(p []string) bool { return len(p) == 1 })
			want := fmt.Sprintf("interface eth0: another XDP program is attached (id %d, name foreign); it is not replaced: "+
				"detach it by what loaded it or by %q, or announce the VIP on another interface", id, foreign.off)
			if found[0] != want {
				t.Errorf("problem %q\nwant    %q", found[0], want)
			}
			if now := nettest.XDP(t, n.host, "eth0"); now != id {
				t.Errorf("program %d runs on eth0, not the foreign one, %d", now, id)
			}
			if n.holds(t, vip4) || n.holds(t, vip6) || !n.holds(t, vipBeside) {
				t.Errorf("addresses on lo: %s; want those of the free interface and no other", n.addresses(t))
			}
			l, err := n.host.Listen(t.Context(), "tcp", fmt.Sprintf(":%d", port))
			check(t, err)
			go n.answerAll(l)
			t.Cleanup(func() { l.Close() })
			if name, err := nameBehind(beside, vipBeside); name != "n1" || err != nil {
				t.Errorf("the other interface: %q, %v", name, err)
			}

			nettest.Eventually(t, agreeWithin, func() error { // what lbd wrote comes through a pipe
				if logs := n.logs.String(); strings.Count(logs, "another XDP program") != 1 {
					return fmt.Errorf("it is to be logged once:\n%s", logs)
				}
				return nil
			})

			nettest.RemoveXDP(t, n.host, "eth0", foreign.flags)
			n.awaitProblems(agreeWithin, func(p []string) bool { return len(p) == 0 })
			for _, vip := range []netip.Addr{vip4, vip6} {
				if name, err := nameBehind(c.client, vip); name != "n1" || err != nil {
					t.Errorf("%s, once the interface was free: %q, %v", vip, name, err)
				}
			}
			if name, err := nameBehind(beside, vipBeside); name != "n1" || err != nil {
				t.Errorf("the other interface afterwards: %q, %v", name, err)
			}
		})
	}
}

// answerAll serves a listener until it is closed.
func (n *node) answerAll(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go n.answer(conn)
	}
}

// While our link is there, the kernel lets nobody in beside it. Who takes the link away first is
// found out by the prune, and the VIPs of that interface are not left without a program.
func TestAForeignProgramThatComesLaterIsReported(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.serve()
	for name, flags := range map[string]int{"native": unix.XDP_FLAGS_DRV_MODE, "generic": unix.XDP_FLAGS_SKB_MODE} {
		_, err := nettest.ForeignXDP(n.host, "eth0", flags)
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST) {
			t.Errorf("a %s program beside ours: %v", name, err)
		}
	}
	if status, err := n.status(); err != nil || len(status.Problems) != 0 {
		t.Errorf("after those attempts: %v, %v", status, err)
	}

	n.settle(t)
	ours, err := link.LoadPinnedLink(filepath.Join(n.pins, "links", "eth0-xdp"), nil)
	check(t, err)
	defer ours.Close()
	check(t, ours.Detach())
	id, err := nettest.ForeignXDP(n.host, "eth0", unix.XDP_FLAGS_SKB_MODE)
	check(t, err)
	found := n.awaitProblems(agreeWithin, func(p []string) bool { return len(p) == 2 })
	owner := fmt.Sprintf("interface eth0: another XDP program is attached (id %d, name foreign)", id)
	if !strings.HasPrefix(found[0], owner+"; it is not replaced: ") || found[1] != "changed by somebody else: "+owner {
		t.Errorf("problems: %q", found)
	}
	if now := nettest.XDP(t, n.host, "eth0"); now != id {
		t.Errorf("program %d runs on eth0, not the foreign one, %d", now, id)
	}
	if n.holds(t, vip4) || n.holds(t, vip6) {
		t.Errorf("the machine holds VIPs without a program that drops what is not its own: %s", n.addresses(t))
	}
	if status, err := n.status(); err != nil || len(status.Attach) != 0 {
		t.Errorf("attached %v, %v; want nothing", status.Attach, err)
	}

	nettest.RemoveXDP(t, n.host, "eth0", unix.XDP_FLAGS_SKB_MODE)
	nettest.Eventually(t, agreeWithin, func() error {
		if status, err := n.status(); err != nil || len(status.Attach) != 1 {
			return fmt.Errorf("not attached: %+v, %w", status, err)
		}
		return nil
	})
	if answers := c.connections(t, vip4, 20000, 20); answers["n1"] != 20 {
		t.Errorf("once the interface was free: %v", answers)
	}
}
