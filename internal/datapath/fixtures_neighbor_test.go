package datapath_test

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/lbctl/lbctl/internal/packettest"
)

type (
	ipv6     = packettest.IPv6
	neighbor = packettest.Neighbor
	option   = packettest.Option
)

// allNodes is where an answer to nobody goes, and the MAC of that group.
var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

// solicited is the group in which a solicitation for an address is heard, and its MAC.
func solicited(addr netip.Addr) (netip.Addr, net.HardwareAddr) {
	group, b := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(group[13:], b[13:])
	return netip.AddrFrom16(group), append(net.HardwareAddr{0x33, 0x33}, group[12:]...)
}

// A solicitation is a well-formed one, unless told otherwise.
type solicitation struct {
	vip      byte
	dst      net.HardwareAddr // nil: the solicited-node group's
	to       netip.Addr       // the zero Addr: the solicited-node group
	src      netip.Addr       // the zero Addr: the client
	hopLimit uint8            // 0: 255
	code     uint8
	options  []packettest.Layer // nil: the source's link-layer address; empty: none
	tags     []packettest.Layer
	label    uint32
}

func (s solicitation) frame() []byte {
	group, mac := solicited(v6.vip(s.vip))
	if s.dst == nil {
		s.dst = mac
	}
	if !s.to.IsValid() {
		s.to = group
	}
	if !s.src.IsValid() {
		s.src = v6.client
	}
	if s.hopLimit == 0 {
		s.hopLimit = 255
	}
	if s.options == nil {
		s.options = []packettest.Layer{option{Type: packettest.SourceLink, Data: clientMAC}}
	}
	layers := append([]packettest.Layer{eth{Dst: s.dst, Src: clientMAC}}, s.tags...)
	layers = append(layers, ipv6{Src: s.src, Dst: s.to, HopLimit: s.hopLimit, FlowLabel: s.label},
		neighbor{Type: packettest.Solicitation, Code: s.code, Target: v6.vip(s.vip)})
	return frameOf(append(layers, s.options...)...)
}

// answer is what the sender must get: from this node's MAC, naming the shared one.
func (s solicitation) answer() ending {
	to, mac, flags := s.src, clientMAC, uint32(packettest.FlagSolicited|packettest.FlagOverride)
	if !to.IsValid() {
		to = v6.client
	}
	if to == nobody6 {
		to, mac, flags = allNodes, allNodesMAC, packettest.FlagOverride
	}
	vip := v6.vip(s.vip)
	layers := append([]packettest.Layer{eth{Dst: mac, Src: ownMAC}}, s.tags...)
	layers = append(layers, ipv6{Src: vip, Dst: to, HopLimit: 255, FlowLabel: s.label},
		neighbor{Type: packettest.Advertisement, Flags: flags, Target: vip},
		option{Type: packettest.TargetLink, Data: v6.mac(s.vip)})
	return answered(frameOf(layers...), "nd-answered", v6.scope(s.vip))
}

// neighborFixtures are about who answers for a VIP, and who claims one.
func neighborFixtures() []fixture {
	f := v6
	vip := f.vip
	even, odd := f.clientIn(hashModes()[0], 0, 0, 0), f.clientIn(hashModes()[0], 1, 0, 0)
	none := []packettest.Layer{}
	nonce := option{Type: packettest.Nonce, Data: []byte{1, 2, 3, 4, 5, 6}}
	var list []fixture
	add := func(sentence string, frame []byte, want ending) {
		list = append(list, fixture{sentence: "ND: " + sentence, frame: frame, want: want})
	}
	answers := func(sentence string, s solicitation) { add(sentence, s.frame(), s.answer()) }
	notOurs := func(n byte) ending { return dropped("nd-not-owner", f.scope(n)) }
	malformed := dropped("nd-malformed", f.scope(vipMine))

	answers("a solicitation is answered with the shared MAC by the sender's node", solicitation{vip: vipMine})
	add("a solicitation is not answered by other nodes, and never seen by their stacks",
		solicitation{vip: vipTheirs}.frame(), notOurs(vipTheirs))
	add("a solicitation is not answered where nobody is eligible",
		solicitation{vip: vipNobody}.frame(), dropped("no-owner", f.scope(vipNobody)))
	answers("a solicitation goes by its sender: an even bucket", solicitation{vip: vipHash, src: even})
	add("a solicitation goes by its sender: an odd bucket", solicitation{vip: vipHash, src: odd}.frame(), notOurs(vipHash))
	answers("a solicitation without link-layer address is answered with a longer frame", solicitation{vip: vipMine, options: none})
	answers("a solicitation with a nonce is answered without it",
		solicitation{vip: vipMine, options: []packettest.Layer{option{Type: packettest.SourceLink, Data: clientMAC}, nonce}})
	answers("a solicitation with a nonce alone is answered", solicitation{vip: vipMine, options: []packettest.Layer{nonce}})
	answers("a solicitation as large as several buffers is answered with a small frame",
		solicitation{vip: vipMine, options: []packettest.Layer{option{Type: packettest.Nonce, Data: make([]byte, 1998)}, option{Type: packettest.Nonce, Data: make([]byte, 1998)}, option{Type: packettest.Nonce, Data: make([]byte, 1998)}}})
	answers("a flow label stays", solicitation{vip: vipMine, label: 0xfffff})
	answers("a solicitation with a tag is answered with the tag", solicitation{vip: vipMine, tags: []packettest.Layer{vlan{ID: 5}}})
	answers("a solicitation with two tags is answered with both",
		solicitation{vip: vipMine, tags: []packettest.Layer{vlan{ID: 6, Service: true}, vlan{ID: 5}}})
	answers("a solicitation with two tags and no link-layer address is answered with both",
		solicitation{vip: vipMine, tags: []packettest.Layer{vlan{ID: 6, Service: true}, vlan{ID: 5}}, options: none})
	answers("a solicitation from a link-local address is answered",
		solicitation{vip: vipMine, src: netip.MustParseAddr("fe80::1")})
	answers("duplicate address detection is answered to all nodes", solicitation{vip: vipMine, src: nobody6, options: none})
	answers("duplicate address detection with a nonce is answered to all nodes",
		solicitation{vip: vipMine, src: nobody6, options: []packettest.Layer{nonce}})
	answers("duplicate address detection with a tag is answered to all nodes",
		solicitation{vip: vipMine, src: nobody6, options: none, tags: []packettest.Layer{vlan{ID: 5}}})
	add("duplicate address detection is not answered by other nodes",
		solicitation{vip: vipTheirs, src: nobody6, options: none}.frame(), notOurs(vipTheirs))
	answers("a solicitation to the VIP and the shared MAC, as reachability is confirmed, is answered by one node",
		solicitation{vip: vipMine, to: vip(vipMine), dst: f.mac(vipMine)})
	add("a solicitation to the VIP and the shared MAC is not answered by other nodes",
		solicitation{vip: vipTheirs, to: vip(vipTheirs), dst: f.mac(vipTheirs)}.frame(), notOurs(vipTheirs))
	answers("a solicitation to our own MAC is answered, whoever owns its bucket",
		solicitation{vip: vipTheirs, to: vip(vipTheirs), dst: ownMAC})
	answers("a solicitation to our own MAC is answered, though nobody owns its bucket",
		solicitation{vip: vipNobody, to: vip(vipNobody), dst: ownMAC})
	add("a solicitation to another machine's MAC is left alone",
		solicitation{vip: vipMine, dst: peerMAC}.frame(), untouched("other-host", f.scope(vipMine)))
	answers("a solicitation to a shared unicast MAC is answered by one node",
		solicitation{vip: vipStealth, to: vip(vipStealth), dst: f.mac(vipStealth)})
	add("a solicitation for an address that is no VIP is left alone",
		solicitation{vip: noVIP}.frame(), untouched("not-vip", ""))
	add("a solicitation for a VIP of another interface is left alone here",
		solicitation{vip: vipElsewhere}.frame(), untouched("other-interface", ""))
	add("a solicitation from a router away (hop limit 254) is discarded", solicitation{vip: vipMine, hopLimit: 254}.frame(), malformed)
	add("a solicitation with a code is discarded", solicitation{vip: vipMine, code: 1}.frame(), malformed)
	add("a solicitation from a router away for no VIP is left alone",
		solicitation{vip: noVIP, hopLimit: 254}.frame(), untouched("not-vip", ""))
	add("a solicitation to our own MAC from a router away is discarded",
		solicitation{vip: vipMine, dst: ownMAC, hopLimit: 64}.frame(), malformed)
	fragmented := frameOf(f.eth(vipMine), f.ip(vipMine), packettest.Fragment{ID: 3},
		neighbor{Type: packettest.Solicitation, Target: vip(vipMine)})
	add("a fragmented solicitation is not answered here (RFC 6980)", fragmented, accepted("unnamed-accepted", f.scope(vipMine)))

	whole := solicitation{vip: vipMine}.frame()
	for n := 14; n < 14+40+24; n++ {
		want := untouched("unparsed", "")
		if n >= 14+40 {
			want = untouched("not-vip", "")
		}
		add(fmt.Sprintf("a solicitation cut to %d bytes is left to the stack", n), whole[:n], want)
	}
	return append(list, advertisementFixtures()...)
}

func advertisementFixtures() []fixture {
	f := v6
	advertise := func(n byte, mac net.HardwareAddr, change func(*neighbor, *ipv6), options ...packettest.Layer) []byte {
		ip := ipv6{Src: f.vip(n), Dst: allNodes, HopLimit: 255}
		na := neighbor{Type: packettest.Advertisement, Flags: packettest.FlagOverride, Target: f.vip(n)}
		if change != nil {
			change(&na, &ip)
		}
		return frameOf(append([]packettest.Layer{eth{Dst: allNodesMAC, Src: mac}, ip, na}, options...)...)
	}
	target := func(mac net.HardwareAddr) option { return option{Type: packettest.TargetLink, Data: mac} }
	conflict := dropped("nd-conflict", f.scope(vipMine))
	malformed := dropped("nd-malformed", f.scope(vipMine))
	list := []fixture{
		{sentence: "an advertisement of a VIP with another MAC is a conflict, and the stack does not see it",
			frame: advertise(vipMine, clientMAC, nil, target(clientMAC)), want: conflict},
		{sentence: "another node that advertises a VIP with its own MAC is a conflict",
			frame: advertise(vipMine, peerMAC, nil, target(peerMAC)), want: conflict},
		{sentence: "an advertisement of a VIP without MAC is a conflict",
			frame: advertise(vipMine, clientMAC, nil), want: conflict},
		{sentence: "an advertisement of a VIP with half a MAC is a conflict",
			frame: advertise(vipMine, clientMAC, nil, target(f.mac(vipMine)))[:14+40+24+5], want: conflict},
		{sentence: "an advertisement of a VIP with another option is a conflict",
			frame: advertise(vipMine, clientMAC, nil, option{Type: packettest.SourceLink, Data: f.mac(vipMine)}), want: conflict},
		{sentence: "another node's answer to all, with the shared MAC, is no conflict",
			frame: advertise(vipMine, peerMAC, nil, target(f.mac(vipMine))), want: dropped("nd-not-owner", f.scope(vipMine))},
		{sentence: "an advertisement of an address that is no VIP is left alone",
			frame: advertise(noVIP, clientMAC, nil, target(clientMAC)), want: untouched("not-vip", "")},
		{sentence: "an advertisement of a VIP of another interface is left alone here",
			frame: advertise(vipElsewhere, clientMAC, nil, target(clientMAC)), want: untouched("other-interface", "")},
		{sentence: "an advertisement from a router away is discarded",
			frame: advertise(vipMine, clientMAC, func(_ *neighbor, ip *ipv6) { ip.HopLimit = 254 }, target(clientMAC)), want: malformed},
		{sentence: "an advertisement with a code is discarded",
			frame: advertise(vipMine, clientMAC, func(na *neighbor, _ *ipv6) { na.Code = 1 }, target(clientMAC)), want: malformed},
		{sentence: "an advertisement that is cut short is left to the stack",
			frame: advertise(vipMine, clientMAC, nil)[:14+40+23], want: untouched("not-vip", "")},
	}
	for i := range list {
		list[i].sentence = "ND: " + list[i].sentence
	}
	return list
}
