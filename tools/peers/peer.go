package main

import "github.com/cilium/ebpf"

// Roles of a node for the frames it gets. A real node is owner of a part of the flows; here it is
// of all or none, so that a figure belongs to one role.
const (
	roleBaseline = "baseline"
	roleOwner    = "owner"
	roleNonOwner = "non-owner"
)

// peer is one line of the table.
type peer struct {
	name, role string
	about      string
	verdict    verdict
	delivers   bool                   // all frames reach the socket; else none does
	setup      func(*namespace) error // nil for nothing
	// program takes the place of the verdict, for a peer made of XDP.
	program func(*namespace) (*ebpf.Program, error)
}

// The names of baselines, each explained in the package's comment.
const (
	xdpDrop = "xdp-drop"
	skbDrop = "skb-drop"
	deliver = "deliver"
)

// lbctl is what the others are compared with.
const lbctl = "lbctl"

var peers = []peer{
	{name: xdpDrop, role: roleBaseline, about: "XDP_DROP at once", verdict: verdictDrop},
	{name: skbDrop, role: roleBaseline, about: "made into an skb, then no protocol takes it", verdict: verdictForeign},
	{name: deliver, role: roleBaseline, about: "received by a socket whose queue is full", verdict: verdictPass, delivers: true},
	{name: lbctl, role: roleNonOwner, about: "this project: XDP, keyed hash of source and port", program: ours(false)},
	{name: lbctl, role: roleOwner, about: "the same", program: ours(true), delivers: true},
	{
		name: "clusterip", role: roleNonOwner, about: "iptables CLUSTERIP by source and port, conntrack",
		verdict: verdictPass, setup: clusterIP(nil),
	}, {
		name: "clusterip", role: roleOwner, about: "the same",
		verdict: verdictPass, setup: clusterIP([]int{1, 2, 3}), delivers: true,
	}, {
		name: "nft-jhash", role: roleNonOwner, about: "nftables netdev ingress: jhash of source and port, no conntrack",
		verdict: verdictPass, setup: nftJhash(false),
	}, {
		name: "nft-jhash", role: roleOwner, about: "the same",
		verdict: verdictPass, setup: nftJhash(true), delivers: true,
	}, {
		name: "xt_cluster", role: roleNonOwner, about: "iptables -m cluster in mangle PREROUTING, conntrack",
		verdict: verdictPass, setup: xtCluster(false),
	}, {
		name: "xt_cluster", role: roleOwner, about: "the same",
		verdict: verdictPass, setup: xtCluster(true), delivers: true,
	},
}
