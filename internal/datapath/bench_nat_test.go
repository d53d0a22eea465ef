package datapath_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// BenchmarkNAT is BenchmarkForward for both ways of NAT: requests to one of many backends, and the
// replies of one, to clients behind a gateway that is known, or that the kernel is asked for.
func BenchmarkNAT(b *testing.B) {
	drop, _ := packettest.Floors(b)
	lab := nettest.New(b)
	host := nettest.Host(b, lab, "node")
	prepareRouter(b, lab, host)
	var instance *datapath.Instance
	if err := host.Do(func() error {
		instance = forwardInstance(b, lb.AnnounceMulticast, lb.ForwardNAT, lb.EncapIP, v4)
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		vip := netip.MustParseAddr(map[string]string{"IPv4": "192.0.2.80", "IPv6": "2001:db8::80"}[f.name])
		backend := natBackend(f, 7)
		for _, flows := range []packettest.Flows{1, 1 << 10, 1 << 17, 1 << 20} {
			lane := func(name string, run func(*testing.B)) {
				b.Run(name+"/"+f.name+"/flows="+flows.String(), func(b *testing.B) {
					if err := host.Do(func() error { run(b); return nil }); err != nil {
						b.Fatal(err)
					}
				})
			}
			lane("nat", func(b *testing.B) {
				frame := benchFrame(vip)
				compare(b, packettest.NewLane(b, instance.XDP(), frame, flows, actionTX),
					packettest.NewLane(b, drop, frame, flows, actionDrop), 50)
			})
			reply := func(b *testing.B, routes *lb.Routes, bar float64) {
				if err := instance.Routing().Keep(routes); err != nil {
					b.Fatal(err)
				}
				frame := packettest.Frame(packettest.Ethernet{Dst: loopback.HardwareAddr, Src: clientMAC}, f.between(backend, f.client),
					packettest.TCP{Src: 8080, Dst: portClient, Flags: packettest.ACK}, packettest.Raw{Bytes: make([]byte, 10)})
				compare(b, packettest.NewReplyLane(b, instance.XDP(), frame, flows, actionRedirect),
					packettest.NewReplyLane(b, drop, frame, flows, actionDrop), bar)
			}
			lane("nat-reply", func(b *testing.B) { reply(b, benchRoutes(), 50) })
			lane("nat-reply-asked", func(b *testing.B) { reply(b, &lb.Routes{}, 0) })
		}
	}
}

// benchRoutes are what a summary of prepareRouter's routes is.
func benchRoutes() *lb.Routes {
	table := func(prefixes ...string) lb.RouteTable {
		table := lb.RouteTable{Forwards: map[int]bool{loopback.Index: true}}
		for _, p := range prefixes {
			table.Routes = append(table.Routes, lb.Route{Prefix: netip.MustParsePrefix(p)})
		}
		table.Routes[len(prefixes)-1].Hop = &lb.RouteHop{Index: 2, MAC: net.HardwareAddr{2, 0, 0, 0, 1, 1}, Own: ownMAC, MTU: 1500}
		return table
	}
	return &lb.Routes{
		V4: table("127.0.0.0/8", "192.0.2.0/25", "0.0.0.0/0"),
		V6: table("::1/128", "2001:db8:1::/64", "fe80::/7", "::/0"),
	}
}

// prepareRouter gives the host one link, by which it reaches everybody.
func prepareRouter(t testing.TB, lab *netlab.Lab, host *netlab.Host) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	must(err)
	must(host.Forward())
	must(lab.Connect(host, "eth0", sw, netlab.LinkOptions{}))
	for _, f := range families {
		bits, all := 24, netip.MustParsePrefix("0.0.0.0/0")
		if f == v6 {
			bits, all = 64, netip.MustParsePrefix("::/0")
		}
		must(host.Addr("eth0", netip.PrefixFrom(f.onLink(0, 2), bits)))
		must(host.Neighbour("eth0", f.onLink(0, 1), net.HardwareAddr{2, 0, 0, 0, 1, 1}))
		must(host.Route(all, f.onLink(0, 1)))
	}
}

// natBackends are backends as others, but of the VIP's family, and at another port.
func natBackends(vip netip.Addr, like []lb.Backend) []lb.Backend {
	f := v4
	if vip.Is6() {
		f = v6
	}
	backends := make([]lb.Backend, len(like))
	for i, b := range like {
		b.Addr, b.Port = natBackend(f, i), 8080
		backends[i] = b
	}
	return backends
}

func natBackend(f family, i int) netip.Addr {
	if f == v4 {
		return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)})
}
