package datapath_test

import (
	"encoding/binary"
	"math/bits"
	"net"
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// benchNear is how many clients there are on the link: as many neighbours as a kernel has room for that
// nobody gave more.
const benchNear = 1 << 10

// nearRoutes are benchRoutes with clients on the link, at the addresses of packettest.NewNearLane, and at
// those of the flows of packettest.NewLane.
func nearRoutes() *lb.Routes {
	routes := benchRoutes()
	routes.Near = make(map[netip.Addr]lb.RouteHop)
	for table, first := range map[*lb.RouteTable]netip.Addr{&routes.V4: netip.MustParseAddr("10.0.0.0"), &routes.V6: netip.MustParseAddr("2001:db8:1::1:0:0")} {
		table.Routes = table.Routes[:len(table.Routes)-1] // the gateway's
		for i := range benchNear {
			bytes := first.AsSlice()
			bytes[len(bytes)-2], bytes[len(bytes)-1] = byte(i>>8), byte(i)
			addr, _ := netip.AddrFromSlice(bytes)
			routes.Near[addr] = lb.RouteHop{Index: 2, MAC: net.HardwareAddr{2, 0, 0, 7, byte(i >> 8), byte(i)}, Own: ownMAC, MTU: 1500}
		}
	}
	return routes
}

// BenchmarkNear is BenchmarkNAT's nat-reply to clients on the director's own link.
func BenchmarkNear(b *testing.B) {
	drop, _ := packettest.Floors(b)
	instance := forwardInstance(b, lb.AnnounceMulticast, lb.ForwardNAT, lb.EncapIP, v4)
	if err := instance.Routing().Keep(nearRoutes()); err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		for _, flows := range []packettest.Flows{1, 1 << 10, 1 << 17, 1 << 20} {
			b.Run("nat-reply/"+f.name+"/flows="+flows.String(), func(b *testing.B) {
				frame := packettest.Frame(packettest.Ethernet{Dst: loopback.HardwareAddr, Src: clientMAC}, f.between(natBackend(f, 7), laneSource(f, 0).Addr()),
					packettest.TCP{Src: 8080, Dst: portClient, Flags: packettest.ACK}, packettest.Raw{Bytes: make([]byte, 10)})
				compare(b, packettest.NewNearLane(b, instance.XDP(), frame, flows, benchNear, actionRedirect),
					packettest.NewNearLane(b, drop, frame, flows, benchNear, actionDrop), 50)
			})
		}
	}
}

// BenchmarkFullNAT is BenchmarkNAT for established flows of full NAT, as many as there is room for, and their
// replies: to clients behind a gateway, on the link, or that the kernel is asked for.
func BenchmarkFullNAT(b *testing.B) {
	drop, _ := packettest.Floors(b)
	lab := nettest.New(b)
	host := nettest.Host(b, lab, "node")
	prepareRouter(b, lab, host)
	const port, source = 80, 40000
	for _, f := range families {
		vip := netip.MustParseAddr(map[string]string{"IPv4": "192.0.2.80", "IPv6": "2001:db8::80"}[f.name])
		for _, flows := range []packettest.Flows{1, 1 << 10, 1 << 17} {
			state := forwardState(lb.AnnounceMulticast, lb.ForwardNAT, lb.EncapIP, v4)
			for i := range state.Services {
				state.Services[i].SourceNAT = true
			}
			instance, err := datapath.NewInstance(state, device)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(instance.Close)
			var established []datapath.Established
			for flow := range uint32(flows) {
				at := laneSource(f, flow)
				established = append(established, datapath.Established{Client: at, Replies: at, Source: source})
			}
			if err := instance.Establish("web", netip.AddrPortFrom(vip, port), lb.ProtocolTCP, established); err != nil {
				b.Fatal(err)
			}
			lane := func(name string, routes *lb.Routes, action uint32) {
				b.Run(name+"/"+f.name+"/flows="+flows.String(), func(b *testing.B) {
					if err := host.Do(func() error {
						if err := instance.Routing().Keep(routes); err != nil {
							return err
						}
						frame := benchFrame(vip)
						if action == actionRedirect {
							at := len(frame) - map[family]int{v4: 28, v6: 18}[f]
							binary.BigEndian.PutUint16(frame[at:], source)
						}
						compare(b, packettest.NewLane(b, instance.XDP(), frame, flows, action),
							packettest.NewLane(b, drop, frame, flows, actionDrop), 0)
						return nil
					}); err != nil {
						b.Fatal(err)
					}
				})
			}
			lane("nat", benchRoutes(), actionTX)
			lane("reply", benchRoutes(), actionRedirect)
			if flows <= benchNear {
				lane("reply-near", nearRoutes(), actionRedirect)
			}
			lane("reply-asked", &lb.Routes{}, actionRedirect)
		}
	}
}

// laneSource is where a flow of packettest.NewLane comes from.
func laneSource(f family, flow uint32) netip.AddrPort {
	port := bits.ReverseBytes16(uint16(flow*40503) | 4) // as the generator stores it
	if f == v4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(flow >> 16), byte(flow >> 8), byte(flow)}), port)
	}
	addr := netip.MustParseAddr("2001:db8:1::1:0:0").As16()
	binary.BigEndian.PutUint32(addr[12:], flow)
	return netip.AddrPortFrom(netip.AddrFrom16(addr), port)
}
