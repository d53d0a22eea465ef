package datapath_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// benchBackends is as many as a service may have.
const benchBackends = lb.MaxBackends

// BenchmarkForward reports nanoseconds above a program that drops at once, of the same round, for
// packets to one of many backends.
func BenchmarkForward(b *testing.B) {
	drop, _ := packettest.Floors(b)
	for _, test := range []struct {
		name    string
		forward lb.Forward
		encap   lb.Encap
		outer   family
		flags   byte
		bar     float64
	}{
		{"dr", lb.ForwardDR, lb.EncapIP, v4, 0, 35},
		{"dr-new", lb.ForwardDR, lb.EncapIP, v4, packettest.SYN, 35},
		{"tunnel-ipv4", lb.ForwardTunnel, lb.EncapIP, v4, 0, 45},
		{"tunnel-ipv6", lb.ForwardTunnel, lb.EncapIP, v6, 0, 45},
		{"tunnel-gue", lb.ForwardTunnel, lb.EncapGUE, v4, 0, 45},
	} {
		instance := forwardInstance(b, lb.AnnounceMulticast, test.forward, test.encap, test.outer)
		for _, f := range families {
			dst := netip.MustParseAddr(map[string]string{"IPv4": "192.0.2.80", "IPv6": "2001:db8::80"}[f.name])
			for _, flows := range []packettest.Flows{1, 1 << 10, 1 << 17, 1 << 20} {
				frame := benchFrame(dst)
				frame[map[string]int{"IPv4": 14 + 20 + 13, "IPv6": 14 + 40 + 13}[f.name]] = test.flags
				b.Run(test.name+"/"+f.name+"/flows="+flows.String(), func(b *testing.B) {
					lane := packettest.NewLane
					if test.forward == lb.ForwardTunnel {
						lane = packettest.NewWrappedLane
					}
					compare(b, lane(b, instance.XDP(), frame, flows, actionTX), lane(b, drop, frame, flows, actionDrop), test.bar)
				})
			}
		}
	}
}

// BenchmarkGrow is what the kernel takes for room before a packet, which each tunnel needs.
func BenchmarkGrow(b *testing.B) {
	drop, _ := packettest.Floors(b)
	frame := benchFrame(netip.MustParseAddr("192.0.2.80"))
	compare(b, packettest.NewWrappedLane(b, packettest.Grow(b), frame, 1, actionTX), packettest.NewWrappedLane(b, drop, frame, 1, actionDrop), 0)
}

// BenchmarkDecap is BenchmarkForward for the backend's program, which takes packets out of tunnels and
// passes them.
func BenchmarkDecap(b *testing.B) {
	drop, _ := packettest.Floors(b)
	d, _ := newDecap(b)
	inner := plain(false, make([]byte, 10))
	for kind := range wrappings() {
		frame := wrapped(kind, inner)
		outer := len(frame) - len(inner) + 14
		for _, flows := range []packettest.Flows{1, 1 << 10, 1 << 17, 1 << 20} {
			b.Run(strings.ReplaceAll(kind, " ", "-")+"/flows="+flows.String(), func(b *testing.B) {
				compare(b, packettest.NewTunnelLane(b, d.XDP(), frame, outer, flows, actionPass),
					packettest.NewTunnelLane(b, drop, frame, outer, flows, actionDrop), 0)
			})
		}
	}
}

// forwardInstance serves one VIP a family, with one service each, all of whose buckets are this
// node's and whose slots are spread over as many backends as there may be.
func forwardInstance(t testing.TB, announce lb.Announce, forward lb.Forward, encap lb.Encap, outer family) *datapath.Instance {
	t.Helper()
	instance, err := datapath.NewInstance(forwardState(announce, forward, encap, outer), device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(instance.Close)
	return instance
}

func forwardState(announce lb.Announce, forward lb.Forward, encap lb.Encap, outer family) *lb.State {
	want := &lb.State{
		Cluster: "bench",
		Nodes:   []lb.Node{{Index: 0, Name: "n0", Weight: 100, Local: true}},
		Tables:  []*lb.Table{{Owners: slices.Repeat([]int16{0}, lb.Buckets)}},
	}
	var backends []lb.Backend
	for i := range benchBackends {
		addr, source := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.MustParseAddr("10.0.0.1")
		if outer == v6 {
			addr, source = netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}), netip.MustParseAddr("fd01::1")
		}
		backends = append(backends, lb.Backend{Name: fmt.Sprint("b", i), Addr: addr, Hop: &lb.NextHop{
			Interface: "lo", MAC: net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}, Source: source, MTU: 1500,
		}})
	}
	choice := &lb.Choice{Current: make([]int16, lb.Slots)}
	for slot := range choice.Current {
		choice.Current[slot] = int16(slot * 7919 % len(backends))
	}
	for _, addr := range []string{"192.0.2.80", "2001:db8::80"} {
		if forward == lb.ForwardNAT {
			backends = natBackends(netip.MustParseAddr(addr), backends)
		}
		want.Services = append(want.Services, lb.Service{
			Name: "web", VIP: len(want.VIPs), Protocol: lb.ProtocolTCP,
			Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort,
			Forward: forward, Encap: encap, Backends: backends, Choice: choice,
		})
		want.VIPs = append(want.VIPs, lb.VIP{
			Addr: netip.MustParseAddr(addr), Interface: "lo", Announce: announce, MAC: net.HardwareAddr{3, 0xbf, 192, 0, 2, 80},
		})
	}
	return want
}
