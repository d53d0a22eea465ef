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
