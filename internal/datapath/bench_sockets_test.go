package datapath_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// benchFlow is a flow that the generator makes.
func benchFlow(f family, n int) netip.AddrPort {
	port := uint16(n*40503) | 4
	port = port<<8 | port>>8
	if f == v4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), port)
	}
	addr := netip.MustParseAddr("2001:db8:1::").As16()
	addr[14], addr[15] = byte(n>>8), byte(n)
	return netip.AddrPortFrom(netip.AddrFrom16(addr), port)
}

// BenchmarkXDPSockets is BenchmarkXDP for what costs most of all that is accepted: established
// connections of buckets that are contested, each found among the sockets.
func BenchmarkXDPSockets(b *testing.B) {
	const most = 1 << 10
	drop, _ := packettest.Floors(b)
	host := socketHost{nettest.Host(b, nettest.New(b), "bench")}
	instance := benchTable(b, &lb.Table{
		Owners: make([]int16, lb.Buckets), Marks: slices.Repeat([]lb.Mark{lb.MarkContested}, lb.Buckets),
	})
	for _, f := range families {
		vip, clients := netip.MustParseAddr("192.0.2.80"), "10.0.0.0/8"
		if f == v6 {
			vip, clients = netip.MustParseAddr("2001:db8::80"), "2001:db8:1::/64"
		}
		if err := host.Addr("lo", netip.PrefixFrom(vip, vip.BitLen())); err != nil {
			b.Fatal(err)
		}
		_, network, err := net.ParseCIDR(clients)
		if err != nil {
			b.Fatal(err)
		}
		host.must(b, func() error {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: loopback.Index, Dst: network}); err != nil {
				return err
			}
			for n := range most {
				packettest.Established(b, netip.AddrPortFrom(vip, 80), benchFlow(f, n))
			}
			return nil
		})
		frame := benchFrame(vip)
		frame[len(benchFrame(vip))-20+13] = packettest.ACK
		for _, flows := range []packettest.Flows{1, most} {
			b.Run("owner/"+f.name+"/flows="+flows.String(), func(b *testing.B) {
				ours := packettest.NewLane(b, instance.XDP(), frame, flows, actionPass)
				ground := packettest.NewLane(b, drop, frame, flows, actionDrop)
				host.must(b, func() error {
					compare(b, ours, ground, 0)
					return nil
				})
			})
		}
	}
}
