package main

import (
	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/lb"
)

// Roles of a node for the frames it gets. A real node is owner of a part of the flows; here it is
// of all or none, so that a figure belongs to one role. Directors forward all.
const (
	roleBaseline = "baseline"
	roleOwner    = "owner"
	roleNonOwner = "non-owner"
	roleDR       = "dr"
	roleNAT      = "nat"
)

// end is where all frames of a peer end.
type end int

const (
	endNowhere end = iota
	endSocket
	endForwarded
)

// peer is one line of the table, and three if it forwards: for a connection, for many, and for new
// ones.
type peer struct {
	name, role string
	about      string
	verdict    verdict
	end        end
	setup      func(*namespace) error // nil for nothing
	// program takes the place of the verdict, for a peer made of XDP.
	program func(*namespace) (*ebpf.Program, error)
}

// The names of baselines, each explained in the package's comment.
const (
	xdpDrop = "xdp-drop"
	skbDrop = "skb-drop"
	deliver = "deliver"

	segmentDrop = "segment-drop"
	segmentSend = "segment-send"
	route       = "route"
)

// lbctl is what the others are compared with.
const lbctl = "lbctl"

var peers = []peer{
	{name: xdpDrop, role: roleBaseline, about: "XDP_DROP at once", verdict: verdictDrop},
	{name: skbDrop, role: roleBaseline, about: "made into an skb, then no protocol takes it", verdict: verdictForeign},
	{name: deliver, role: roleBaseline, about: "received by a socket whose queue is full", verdict: verdictPass, end: endSocket},
	{name: lbctl, role: roleNonOwner, about: "this project: XDP, keyed hash of source and port", program: ours(false)},
	{name: lbctl, role: roleOwner, about: "the same", program: ours(true), end: endSocket},
	{
		name: "clusterip", role: roleNonOwner, about: "iptables CLUSTERIP by source and port, conntrack",
		verdict: verdictPass, setup: clusterIP(nil),
	}, {
		name: "clusterip", role: roleOwner, about: "the same",
		verdict: verdictPass, setup: clusterIP([]int{1, 2, 3}), end: endSocket,
	}, {
		name: "nft-jhash", role: roleNonOwner, about: "nftables netdev ingress: jhash of source and port, no conntrack",
		verdict: verdictPass, setup: nftJhash(false),
	}, {
		name: "nft-jhash", role: roleOwner, about: "the same",
		verdict: verdictPass, setup: nftJhash(true), end: endSocket,
	}, {
		name: "xt_cluster", role: roleNonOwner, about: "iptables -m cluster in mangle PREROUTING, conntrack",
		verdict: verdictPass, setup: xtCluster(false),
	}, {
		name: "xt_cluster", role: roleOwner, about: "the same",
		verdict: verdictPass, setup: xtCluster(true), end: endSocket,
	},

	{name: segmentDrop, role: roleBaseline, about: "a TCP segment, XDP_DROP at once", verdict: verdictDrop},
	{
		name: segmentSend, role: roleBaseline, about: "XDP_TX at once",
		verdict: verdictSend, end: endForwarded,
	}, {
		name: route, role: roleBaseline, about: "forwarded by the kernel's routes",
		verdict: verdictPass, setup: routes, end: endForwarded,
	},
	{name: lbctl, role: roleDR, about: "this project: Maglev, nothing remembered", program: forwards(lb.ForwardDR), end: endForwarded},
	{name: "lru", role: roleDR, about: "plain XDP, an LRU of flows", program: lru(false), end: endForwarded},
	{name: "ipvs", role: roleDR, about: "IPVS, scheduler mh", verdict: verdictPass, setup: ipvs(ipvsDirect), end: endForwarded},
	{name: lbctl, role: roleNAT, about: "this project, with a port of its own", program: forwards(lb.ForwardNAT), end: endForwarded},
	{name: "lru", role: roleNAT, about: "plain XDP, an LRU of flows", program: lru(true), end: endForwarded},
	{name: "ipvs", role: roleNAT, about: "IPVS, scheduler mh, -m", verdict: verdictPass, setup: ipvs(ipvsMasquerade), end: endForwarded},
	{name: "nft-dnat", role: roleNAT, about: "nftables dnat, conntrack", verdict: verdictPass, setup: nftDNAT(false), end: endForwarded},
	{name: "nft-flowtable", role: roleNAT, about: "the same with a flowtable", verdict: verdictPass, setup: nftDNAT(true), end: endForwarded},
}
