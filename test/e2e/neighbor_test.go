package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

var sharedMACs = map[netip.Addr]string{vip4: "03:bf:c0:00:02:50", vip6: "03:bf:00:00:00:80"}

// Clients and routers must know a VIP by the shared MAC and nothing else, whatever the nodes
// themselves have to say on the link.
func TestNeighborsKnowTheVIPByTheSharedMAC(t *testing.T) {
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 100}})
			for _, n := range c.nodes {
				n.serve()
			}
			p := c.farClient(t)
			for _, n := range c.nodes {
				n.send(100)
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				c.connections(t, vip, 20000, 50)
				p.receive(t, vip, 20000)
				c.wantNeighbor(t, c.client, vip)
				c.wantNeighbor(t, p.near, vip)
			}
			for _, n := range c.nodes {
				n.speakFirst(t, clientAddr(vip4))
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				c.wantNeighbor(t, c.client, vip)
			}
		})
	}
}

// speakFirst makes the node look for the client with the VIP as source, by undoing the sysctl that keeps VIPs
// out of ARP. lbd puts that back, at times before the kernel asks, so it takes more than one try.
func (n *node) speakFirst(t *testing.T, client netip.Addr) {
	t.Helper()
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip4, 0))
	conn, err := n.host.DialFrom(context.Background(), &net.Dialer{LocalAddr: local}, "udp", netip.AddrPortFrom(client, 9).String())
	check(t, err)
	defer conn.Close()
	nettest.Eventually(t, agreeWithin, func() error {
		check(t, n.host.SetSysctl("net.ipv4.conf.eth0.arp_announce", "0"))
		check(t, n.host.Do(func() error { return forgetNeighbor("eth0", client) }))
		_, _ = conn.Write([]byte("x")) // nobody listens; the ARP request is what matters
		time.Sleep(20 * time.Millisecond)
		if n.counted(t, "arp-masked") == 0 {
			return fmt.Errorf("%s: no ARP request from the VIP yet", n.name)
		}
		return nil
	})
}

// forgetNeighbor removes what this host knows of an address on a link.
func forgetNeighbor(iface string, address netip.Addr) error {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return err
	}
	neighbors, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for i := range neighbors {
		if neighbors[i].IP.Equal(address.AsSlice()) {
			if err := netlink.NeighDel(&neighbors[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	return nil
}

// wantNeighbor checks the entry of the VIP, which there must be.
func (c *cluster) wantNeighbor(t *testing.T, host *netlab.Host, vip netip.Addr) {
	t.Helper()
	found := "none"
	check(t, host.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		neighbors, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, entry := range neighbors {
			if entry.IP.Equal(vip.AsSlice()) {
				found = entry.HardwareAddr.String()
			}
		}
		return nil
	}))
	if found != sharedMACs[vip] {
		t.Errorf("%s knows %s by %s, want %s", host.Name, vip, found, sharedMACs[vip])
	}
}

// A probe of an entry goes to the multicast MAC itself and has to be answered, by one node.
func TestEveryRequestForTheVIPIsAnsweredOnce(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}})
	for _, n := range c.nodes {
		n.serve()
	}
	check(t, c.client.SetSysctl("net.ipv4.neigh.eth0.base_reachable_time_ms", "200"))
	check(t, c.client.SetSysctl("net.ipv6.neigh.eth0.base_reachable_time_ms", "200"))
	check(t, c.client.SetSysctl("net.ipv4.neigh.eth0.delay_first_probe_time", "0"))
	check(t, c.client.SetSysctl("net.ipv6.neigh.eth0.delay_first_probe_time", "0"))
	deadline := time.Now().Add(4 * time.Second)
	for i := 0; time.Now().Before(deadline); i++ {
		for _, vip := range []netip.Addr{vip4, vip6} {
			c.datagram(t, vip, 20000+i, 10) // TCP would confirm the entry without a probe
			c.wantNeighbor(t, c.client, vip)
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, family := range []string{"arp", "nd"} {
		nettest.Eventually(t, time.Minute, func() error { // the last one may be on its way
			var answered, left uint64
			for _, n := range c.nodes {
				answered += n.counted(t, family+"-answered")
				left += n.counted(t, family+"-not-owner")
			}
			if answered < 3 || left != 2*answered {
				return fmt.Errorf("%s: %d requests answered, %d left to others; want several, and twice as many", family, answered, left)
			}
			return nil
		})
	}
}
