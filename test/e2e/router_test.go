package e2e

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A path is a client two routers away, over a link that carries less than the others:
//
//	far --1500-- r2 --1400-- r1 --1500-- the cluster's switch
type path struct {
	far, near *netlab.Host
}

const narrow = 1400

var (
	far4 = netip.MustParseAddr("203.0.113.9")
	far6 = netip.MustParseAddr("2001:db8:2::9")
)

// farClient is such a path to a cluster whose nodes know it.
func (c *cluster) farClient(t *testing.T) *path {
	t.Helper()
	p := c.newPath(t)
	for _, n := range c.nodes {
		n.routeFar()
	}
	return p
}

// routeFar makes the near router the way to the far client.
func (n *node) routeFar() {
	n.t.Helper()
	for _, route := range []struct{ dst, via string }{
		{"203.0.113.0/24", "192.0.2.1"}, {"198.51.100.0/24", "192.0.2.1"},
		{"2001:db8:2::/64", "2001:db8::1"}, {"2001:db8:1::/64", "2001:db8::1"},
	} {
		check(n.t, n.host.Route(netip.MustParsePrefix(route.dst), netip.MustParseAddr(route.via)))
	}
}

func (c *cluster) newPath(t *testing.T) *path {
	t.Helper()
	p := &path{far: nettest.Host(t, c.lab, "far"), near: nettest.Host(t, c.lab, "r1")}
	r2 := nettest.Host(t, c.lab, "r2")
	middle, err := c.lab.Switch("middle", netlab.SwitchOptions{})
	check(t, err)
	outer, err := c.lab.Switch("outer", netlab.SwitchOptions{})
	check(t, err)
	for _, cable := range []struct {
		host   *netlab.Host
		name   string
		sw     *netlab.Switch
		mtu    int
		v4, v6 string
	}{
		{p.near, "eth0", c.sw, 1500, "192.0.2.1/24", "2001:db8::1/64"},
		{p.near, "eth1", middle, narrow, "198.51.100.1/24", "2001:db8:1::1/64"},
		{r2, "eth0", middle, narrow, "198.51.100.2/24", "2001:db8:1::2/64"},
		{r2, "eth1", outer, 1500, "203.0.113.1/24", "2001:db8:2::1/64"},
		{p.far, "eth0", outer, 1500, "203.0.113.9/24", "2001:db8:2::9/64"},
	} {
		check(t, c.lab.Connect(cable.host, cable.name, cable.sw, netlab.LinkOptions{MTU: cable.mtu}))
		check(t, cable.host.Addr(cable.name, netip.MustParsePrefix(cable.v4)))
		check(t, cable.host.Addr(cable.name, netip.MustParsePrefix(cable.v6)))
	}
	check(t, p.near.Forward())
	check(t, r2.Forward())
	for _, route := range []struct {
		host     *netlab.Host
		dst, via string
	}{
		{p.far, "192.0.2.0/24", "203.0.113.1"}, {p.far, "2001:db8::/64", "2001:db8:2::1"},
		{r2, "192.0.2.0/24", "198.51.100.1"}, {r2, "2001:db8::/64", "2001:db8:1::1"},
		{p.near, "203.0.113.0/24", "198.51.100.2"}, {p.near, "2001:db8:2::/64", "2001:db8:1::2"},
	} {
		check(t, route.host.Route(netip.MustParsePrefix(route.dst), netip.MustParseAddr(route.via)))
	}
	return p
}

// The router before the narrow link tells the VIP, not a node: every node hears it, and the one
// that sends has to be the one that listens.
func TestPathMTUErrorsReachTheNodeThatSends(t *testing.T) {
	const transfers, size = 12, 200_000
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 100}})
			for _, n := range c.nodes {
				n.send(size)
			}
			p := c.farClient(t)
			for _, vip := range []netip.Addr{vip4, vip6} {
				for i := range transfers {
					if got := p.receive(t, vip, 20000+i); got != size {
						t.Errorf("%s, transfer %d: %d bytes, want %d", vip, i, got, size)
					}
				}
			}
			// an error is accepted by one node and dropped by the two others
			var accepted, others uint64
			for _, n := range c.nodes {
				accepted += n.counted(t, "error-accepted")
				others += n.counted(t, "error-not-owner")
				if n.counted(t, "error-unknown") != 0 {
					t.Errorf("%s did not know what flow an error was about", n.name)
				}
			}
			if accepted == 0 || others != 2*accepted {
				t.Errorf("%d errors accepted and %d left to others, want twice as many", accepted, others)
			}
		})
	}
}

// send makes a node send size bytes to whoever connects to port 9090.
func (n *node) send(size int) {
	n.t.Helper()
	l, err := n.host.Listen(context.Background(), "tcp", ":9090")
	check(n.t, err)
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Write(make([]byte, size)) // the receiver counts
			}()
		}
	}()
}

func (p *path) receive(t *testing.T, vip netip.Addr, sourcePort int) int {
	t.Helper()
	source := far4
	if vip.Is6() {
		source = far6
	}
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, uint16(sourcePort)))}
	conn, err := p.far.DialFrom(context.Background(), dialer, "tcp", netip.AddrPortFrom(vip, 9090).String())
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	n, err := io.Copy(io.Discard, conn)
	if err != nil {
		t.Errorf("%s: after %d bytes: %v", vip, n, err)
	}
	return int(n)
}

// counted sums a reason over all VIPs and services of a node.
func (n *node) counted(t *testing.T, reason string) uint64 {
	t.Helper()
	list, err := n.counterList()
	check(t, err)
	var sum uint64
	for _, c := range list {
		if c.Reason == reason {
			sum += c.Packets
		}
	}
	return sum
}
