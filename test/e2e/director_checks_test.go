package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

const checkedServices = `
  - name: web
    vips: [192.0.2.80, "2001:db8::80"]
    ports: 80
    forward: dr
    backends: [{name: b1, address: 192.0.2.21}, {name: b2, address: 192.0.2.22}]
    agree: 50
    checks: [{type: tcp, via: direct, interval: 200ms, timeout: 190ms, rise: 1, fall: 3}]
`

// newCheckedLab is two directors and two machines that answer at port 80. Nobody of them has a VIP yet.
func newCheckedLab(t *testing.T, services string) (*cluster, []*netlab.Host) {
	t.Helper()
	c := newMembers(t, options{weights: []int{100, 100}, services: services})
	var backends []*netlab.Host
	for i := range 2 {
		h := nettest.Host(t, c.lab, fmt.Sprintf("b%d", i+1))
		check(t, c.lab.Connect(h, "eth0", c.sw, netlab.LinkOptions{}))
		check(t, h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", 21+i))))
		check(t, h.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", 21+i))))
		listener, err := h.Listen(t.Context(), "tcp", ":80")
		check(t, err)
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				conn.Close()
			}
		}()
		backends = append(backends, h)
	}
	return c, backends
}

// holdVIPs makes a machine a backend of direct routing, as far as its checks can tell.
func holdVIPs(t *testing.T, h *netlab.Host) {
	t.Helper()
	check(t, h.SetSysctl("net.ipv4.conf.all.arp_ignore", "1"))
	check(t, h.SetSysctl("net.ipv4.conf.all.arp_announce", "2"))
	for _, vip := range []netip.Addr{vip4, vip6} {
		check(t, h.Addr("lo", netip.PrefixFrom(vip, vip.BitLen())))
	}
}

// seen waits until the directors take the backends for these: state and why, b1 first. What ends in dots
// may go on.
func (c *cluster) seen(t *testing.T, nodes []*node, want ...string) {
	t.Helper()
	start := time.Now()
	nettest.Eventually(t, agreeWithin, func() error {
		for _, n := range nodes {
			status, err := n.status()
			if err != nil {
				return err
			}
			got := statesOf(status)
			if !slices.EqualFunc(got, want, func(got, want string) bool {
				start, open := strings.CutSuffix(want, "...")
				return got == want || open && strings.HasPrefix(got, start)
			}) {
				return fmt.Errorf("%s sees %q, want %q", n.name, got, want)
			}
		}
		return nil
	})
	t.Logf("%q after %s", want, time.Since(start).Round(10*time.Millisecond))
}

func statesOf(s *control.Status) []string {
	var states []string
	for _, b := range s.Backends {
		text := b.Name + " " + b.State
		if b.Why != "" {
			text += ": " + b.Why
		}
		states = append(states, text)
	}
	return states
}

func TestACheckByTheVIPFindsABackendThatLacksIt(t *testing.T) {
	c, backends := newCheckedLab(t, checkedServices)
	c.seen(t, c.nodes, "b1 up", "b2 up") // both answer at their own addresses
	holdVIPs(t, backends[0])
	c.everywhere("via: direct", "via: vip")
	c.seen(t, c.nodes, "b1 up", "b2 down: check tcp 192.0.2.80 is down: connect: timeout")
	holdVIPs(t, backends[1])
	c.seen(t, c.nodes, "b1 up", "b2 up")
	check(t, backends[0].DelAddr("lo", netip.PrefixFrom(vip6, 128)))
	c.seen(t, c.nodes, "b1 down: check tcp 2001:db8::80 is down: connect: timeout", "b2 up")
}

func TestDirectorsAgreeOnWhichBackendIsUp(t *testing.T) {
	c, backends := newCheckedLab(t, checkedServices)
	c.seen(t, c.nodes, "b1 up", "b2 up")
	// b1 does not answer n2 any more.
	check(t, backends[0].Do(func() error {
		one := netip.MustParsePrefix("192.0.2.12/32")
		return netlink.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(one.Addr().AsSlice()), Type: unix.RTN_BLACKHOLE})
	}))
	const dissent = "1 of 2 directors find it unhealthy; n2: check tcp is down: connect: timeout"
	c.seen(t, c.nodes, "b1 up: "+dissent, "b2 up")
	c.everywhere("agree: 50", "agree: 51")
	c.seen(t, c.nodes, "b1 down: "+dissent, "b2 up")
	// The dead have no vote.
	c.nodes[1].stop(syscall.SIGKILL)
	c.seen(t, c.nodes[:1], "b1 up", "b2 up")
	c.nodes[1].start()
	c.seen(t, c.nodes, "b1 down: "+dissent, "b2 up")
	check(t, backends[0].Do(func() error {
		one := netip.MustParsePrefix("192.0.2.12/32")
		return netlink.RouteDel(&netlink.Route{Dst: netlink.NewIPNet(one.Addr().AsSlice()), Type: unix.RTN_BLACKHOLE})
	}))
	c.seen(t, c.nodes, "b1 up", "b2 up")
}

func TestABackendThatNobodyCanReachIsDownForThatReason(t *testing.T) {
	services := strings.ReplaceAll(checkedServices, "address: 192.0.2.22}", "address: 192.0.2.29}, {name: b3, address: 198.51.100.22}")
	c, _ := newCheckedLab(t, services)
	const silent, nowhere = "b2 down: no answer to ARP on eth0", "b3 down: no route to 198.51.100.22: network is unreachable"
	c.seen(t, c.nodes, "b1 up", silent, nowhere)
	check(t, c.sw.Host.Down("b1-eth0")) // pulls the cable
	c.seen(t, c.nodes, "b1 down: check tcp is down: connect: timeout", silent, nowhere)
}

// Checks begin up: one that was not made yet must not count.
func TestADirectorThatStartsBringsNoDeadBackendBack(t *testing.T) {
	c, _ := newCheckedLab(t, checkedServices)
	c.seen(t, c.nodes, "b1 up", "b2 up")
	check(t, c.sw.Host.Down("b2-eth0"))
	c.seen(t, c.nodes, "b1 up", "b2 down...")
	// From now on a check needs 6 s to find that a backend is down, longer than a director to join.
	c.everywhere("interval: 200ms, timeout: 190ms, rise: 1, fall: 3", "interval: 300ms, timeout: 290ms, rise: 1, fall: 20")
	c.nodes[1].stop(syscall.SIGKILL)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			status, err := c.nodes[0].status()
			if err == nil && len(status.Backends) == 2 && status.Backends[1].State != "down" { // it may be too busy to answer
				ended <- fmt.Errorf("%q", statesOf(status))
				return
			}
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	c.nodes[1].start()
	c.agree(t)
	c.seen(t, c.nodes, "b1 up", "b2 down...")
	time.Sleep(2 * time.Second) // more than a vote takes to get there
	close(stop)
	if err := <-ended; err != nil {
		t.Errorf("n1 saw: %v", err)
	}
}

const tunnelDirector = `
cluster:
  name: test
  seed: 0707070707070707070707070707070707070707070707070707070707070707
  node: n1
  nodes: [{name: n1, addresses: [192.0.2.11, "2001:db8::11"]}]
interface: eth0
vips: [{address: 192.0.2.80}, {address: "2001:db8::80"}]
services:
  - name: web
    vips: [192.0.2.80, "2001:db8::80"]
    ports: 80
    forward: tunnel
    encap: ENCAP
    backends: [{name: b1, address: "ADDRESS"}]
    checks: [{type: tcp, via: vip, interval: 200ms, timeout: 190ms, rise: 1, fall: 3, start: down}]
`

// The check of a tunnel's backend goes through the tunnel: it notices that nobody takes it off.
func TestACheckByTheVIPNoticesThatTunnelsAreTakenOff(t *testing.T) {
	for encap, address := range map[string]string{"ip": "2001:db8::12", "gue": "192.0.2.12"} {
		t.Run(encap+" to "+address, func(t *testing.T) {
			c := newMachines(t, options{weights: []int{100, 100}})
			director, backend := c.nodes[0], c.nodes[1]
			t.Cleanup(director.remove)
			t.Cleanup(backend.remove)
			file := strings.NewReplacer("ENCAP", encap, "ADDRESS", address).Replace(tunnelDirector)
			check(t, os.WriteFile(director.path("lb.yaml"), []byte(file), 0o600))
			file = strings.NewReplacer("192.0.2.100", "192.0.2.11", "2001:db8::100", "2001:db8::11").Replace(tunnelBackend("native"))
			check(t, os.WriteFile(backend.path("lb.yaml"), []byte(file), 0o600))
			listener, err := backend.host.Listen(t.Context(), "tcp", ":80")
			check(t, err)
			t.Cleanup(func() { listener.Close() })
			director.start()
			c.seen(t, c.nodes[:1], "b1 down: check tcp 192.0.2.80 is down: connect: timeout")
			backend.start()
			c.seen(t, c.nodes[:1], "b1 up")
			backend.stop(syscall.SIGTERM) // it withdraws
			c.seen(t, c.nodes[:1], "b1 down: check tcp 192.0.2.80 is down: connect: timeout")
		})
	}
}
