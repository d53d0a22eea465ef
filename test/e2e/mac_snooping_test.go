package e2e

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A switch that snoops must learn from the joins of lbd which ports the nodes are at, for as long as
// it asks, and bring them the frames and nobody else.
//
// The switch here is a Linux bridge, which looks up the IP address of a frame, not its MAC: the
// VIP's is no group, so such frames go to ports of multicast routers alone, joined or not. A
// switch that looks up the MAC, as others do, needs nothing but the joins.
func TestASnoopingSwitchBringsTheGroupFormToTheNodesOnly(t *testing.T) {
	t.Parallel() // it waits most of the time
	groups := map[netip.Addr]struct{ group, mac string }{
		vip4: {"239.127.2.80", "01:00:5e:7f:02:50"},
		vip6: {"ff15::80", "33:33:00:00:00:80"},
	}
	c := newCluster(t, options{
		attach: "native", weights: []int{100, 100, 100}, snooping: true,
		vips: "\n  - {address: 192.0.2.80, mac: group}\n  - {address: '2001:db8::80', mac: group}\n",
	})
	for _, n := range c.nodes {
		n.serve()
	}
	other := nettest.Host(t, c.lab, "other")
	check(t, c.lab.Connect(other, "eth0", c.sw, netlab.LinkOptions{}))
	watch := nettest.NewWatch(t, c.sw.Host)
	strayed := func() int {
		return watch.Count(t, func(f nettest.Frame) bool {
			// the bridge floods ARP, which has no IP header
			return f.Port == "other-eth0" && f.Out && f.Ethertype != 0x0806 && (f.Dest == groups[vip4].mac || f.Dest == groups[vip6].mac)
		})
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		c.answerer(t, "udp", at(clientAddr(vip), 10000), at(vip, port))
	}
	if strayed() == 0 {
		t.Error("without a querier nothing was flooded: the test proves nothing")
	}

	nettest.AskForMembers(t, c.sw)
	for until := time.Now().Add(nettest.Forgets + time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		for vip, joined := range groups {
			ports := nettest.Members(t, c.sw, netip.MustParseAddr(joined.group))
			if !slices.Equal(ports, []string{"n1-eth0", "n2-eth0", "n3-eth0"}) {
				t.Fatalf("%s: the switch knows group %s at ports %v, not at those of the nodes", vip, joined.group, ports)
			}
		}
	}

	before := strayed() // and reports of members, which go to the group, while the bridge flooded
	for _, n := range c.nodes {
		nettest.RouterPort(t, c.sw, n.name+"-eth0")
	}
	tap := newTap(t, c.client)
	for i, vip := range []netip.Addr{vip4, vip6} {
		c.makeFlows(t, vip, i)
		if mac := nettest.Neighbor(t, c.client, "eth0", vip); mac != groups[vip].mac {
			t.Errorf("the client knows %s by %q, want %s", vip, mac, groups[vip].mac)
		}
	}
	wantOneAnswerEach(t, tap, 2)
	if got := strayed(); got != before {
		t.Errorf("%d frames for the VIPs went to the port of a machine that is no node", got-before)
	}
}
