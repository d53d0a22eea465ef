package main

import (
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

// ours serves the frames' VIP and port as a node that owns all flows, or none.
func ours(owner bool) func(*namespace) (*ebpf.Program, error) {
	return func(*namespace) (*ebpf.Program, error) {
		mac, err := net.ParseMAC(clusterMAC)
		if err != nil {
			return nil, err
		}
		node := int16(1)
		if owner {
			node = 0
		}
		instance, err := datapath.NewInstance(&lb.State{
			Cluster: "peers",
			Nodes: []lb.Node{
				{Index: 0, Name: "n0", Weight: 100, Local: true},
				{Index: 1, Name: "n1", Weight: 100},
			},
			VIPs: []lb.VIP{{Addr: netip.MustParseAddr(vip), Interface: receiver, MAC: mac}},
			Services: []lb.Service{{
				Name: "peers", Protocol: lb.ProtocolUDP,
				Ports: []lb.PortRange{{First: port, Last: port}}, Hash: lb.HashSourcePort,
			}},
			Tables: []*lb.Table{{Owners: slices.Repeat([]int16{node}, lb.Buckets)}},
		}, net.InterfaceByName)
		if err != nil {
			return nil, err
		}
		return instance.XDP(), nil
	}
}

// forwards serves the VIP as a director that has all flows.
func forwards(method lb.Forward) func(*namespace) (*ebpf.Program, error) {
	return func(*namespace) (*ebpf.Program, error) {
		backend := lb.Backend{Name: "b0", Addr: backendAddr, Hop: &lb.NextHop{
			Interface: receiver, MAC: backendMAC, Source: netip.MustParseAddr("192.0.2.2"), MTU: 1500,
		}}
		if method == lb.ForwardNAT {
			backend.Port = backendPort
		}
		instance, err := datapath.NewInstance(&lb.State{
			Cluster: "peers",
			Nodes:   []lb.Node{{Index: 0, Name: "n0", Weight: 100, Local: true}},
			VIPs:    []lb.VIP{{Addr: vipPort().Addr(), Interface: receiver, Announce: lb.AnnounceNone}},
			Services: []lb.Service{{
				Name: "peers", Protocol: lb.ProtocolTCP,
				Ports: []lb.PortRange{{First: port, Last: port}}, Hash: lb.HashSourcePort,
				Forward: method, Backends: []lb.Backend{backend}, Choice: &lb.Choice{Current: make([]int16, lb.Slots)},
			}},
			Tables: []*lb.Table{{Owners: slices.Repeat([]int16{0}, lb.Buckets)}},
		}, net.InterfaceByName)
		if err != nil {
			return nil, err
		}
		return instance.XDP(), nil
	}
}
