package datapath_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// The VIPs whose services forward, and those whose frames come to a node's own MAC.
const (
	vipForward = 120
	vipTunnel  = 130
	vipOwned   = 140 // failover, this node's
	vipStandby = 150 // failover, the other node's
	vipRouted  = 160 // announced by nobody
	vipVirtual = 170 // failover with a virtual MAC, this node's
)

// Ports of services that forward.
const (
	portLocal    = 81  // tcp, mine and local
	portEmpty    = 441 // tcp, no backend takes flows
	portWayless  = 442 // tcp, no next hop is known
	portTwoLinks = 444 // tcp, by another interface
	portOuter4   = 4   // tcp, a tunnel in IPv4, and so on
	portOuter6   = 6
	portGUE4     = 14
	portGUE6     = 16
	portClamped  = 24 // tcp, larger segments are cut to 1300
	portHuge     = 34 // udp, a tunnel that nearly all fits into
)

const (
	tunnelMTU    = 1500
	portClampMSS = 1300
)

// gatewayMAC is the next hop of what leaves by another interface, otherMAC that interface's.
var (
	virtualMAC = net.HardwareAddr{0, 0, 0x5e, 0, 1, 7}
	otherMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 77}
	source4    = netip.MustParseAddr("203.0.113.200")
	source6    = netip.MustParseAddr("2001:db8:ffff::200")
)

// worldBackends are three of a kind; with a flow's slot goes the one that its place says.
func worldBackends(outer family, device string) []lb.Backend {
	var list []lb.Backend
	for i := range byte(3) {
		b := lb.Backend{Name: string('a' + rune(i)), Addr: netip.AddrFrom4([4]byte{203, 0, 113, 10 + i})}
		source := source4
		if outer == v6 {
			b.Addr, source = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, 0xff, 15: 10 + i}), source6
		}
		b.Hop = &lb.NextHop{Interface: device, MAC: net.HardwareAddr{2, 0, 0, 0, 1, i}, Source: source, MTU: tunnelMTU}
		list = append(list, b)
	}
	return list
}

func worldChoice() *lb.Choice {
	c := &lb.Choice{Current: make([]int16, lb.Slots)}
	for slot := range c.Current {
		c.Current[slot] = int16(slot % 3)
	}
	return c
}

// forwardWorld is a state with every way of forwarding.
func forwardWorld() *lb.State {
	state := world()
	state.VIPs, state.Services = nil, nil
	choice := worldChoice()
	for _, f := range families {
		for _, v := range []struct {
			n        byte
			table    int
			announce lb.Announce
			mac      net.HardwareAddr
		}{
			{vipForward, tableMine, lb.AnnounceMulticast, f.mac(vipForward)},
			{vipTunnel, tableMine, lb.AnnounceMulticast, f.mac(vipTunnel)},
			{vipOwned, tableMine, lb.AnnounceFailover, nil},
			{vipStandby, tableTheirs, lb.AnnounceFailover, nil},
			{vipRouted, tableMine, lb.AnnounceNone, nil},
			{vipVirtual, tableMine, lb.AnnounceFailover, virtualMAC},
		} {
			state.VIPs = append(state.VIPs, lb.VIP{
				Addr: f.vip(v.n), Interface: "lo", Announce: v.announce, MAC: v.mac, Table: v.table,
			})
			addForwarding(state, v.n, v.table, choice)
		}
	}
	return state
}

// addForwarding adds the services of the VIP that was added last.
func addForwarding(state *lb.State, n byte, table int, choice *lb.Choice) {
	service := func(name string, p lb.Protocol, port uint16, forward lb.Forward) *lb.Service {
		state.Services = append(state.Services, lb.Service{
			Name: name, VIP: len(state.VIPs) - 1, Protocol: p, Ports: []lb.PortRange{{First: port, Last: port}},
			Hash: lb.HashSourcePort, Forward: forward, Table: table, Backends: worldBackends(v4, "lo"), Choice: choice,
		})
		return &state.Services[len(state.Services)-1]
	}
	service("local", lb.ProtocolTCP, portLocal, lb.ForwardLocal)
	if n != vipTunnel {
		service("web", lb.ProtocolTCP, portWeb, lb.ForwardDR)
		service("dns", lb.ProtocolUDP, portDNS, lb.ForwardDR)
	}
	switch n {
	case vipForward:
		service("ssh", lb.ProtocolTCP, portSSH, lb.ForwardDR).Table = tableTheirs
		service("gone", lb.ProtocolTCP, portGone, lb.ForwardDR).Table = tableNobody
		service("empty", lb.ProtocolTCP, portEmpty, lb.ForwardDR).Choice = nil
		wayless := service("wayless", lb.ProtocolTCP, portWayless, lb.ForwardDR)
		for i := range wayless.Backends {
			wayless.Backends[i].Hop = nil
		}
		service("two-links", lb.ProtocolTCP, portTwoLinks, lb.ForwardDR).Backends = worldBackends(v4, "elsewhere")
	case vipTunnel:
		service("outer4", lb.ProtocolTCP, portOuter4, lb.ForwardTunnel)
		service("outer6", lb.ProtocolTCP, portOuter6, lb.ForwardTunnel).Backends = worldBackends(v6, "lo")
		service("gue4", lb.ProtocolTCP, portGUE4, lb.ForwardTunnel).Encap = lb.EncapGUE
		gue6 := service("gue6", lb.ProtocolTCP, portGUE6, lb.ForwardTunnel)
		gue6.Encap, gue6.Backends = lb.EncapGUE, worldBackends(v6, "lo")
		service("clamped", lb.ProtocolTCP, portClamped, lb.ForwardTunnel).MSS = portClampMSS
		service("huge", lb.ProtocolUDP, portHuge, lb.ForwardTunnel)
	}
}

// hash is the Go side's of a flow from the client.
func (f family) hash(src netip.Addr, srcPort, dstPort uint16) uint64 {
	return flowhash.NewKeys(worldSeed).Sum(flowhash.NewMask(lb.HashSourcePort, f == v4), src, srcPort, dstPort)
}

// backend is which of worldBackends has a flow from the client's usual port.
func (f family) backend(dstPort uint16) int {
	return int(f.hash(f.client, portClient, dstPort)>>32*lb.Slots>>32) % 3
}

// hop is the way to it.
func (f family) hop(dstPort uint16) packettest.Hop {
	return packettest.Hop{MAC: net.HardwareAddr{2, 0, 0, 0, 1, byte(f.backend(dstPort))}, Own: ownMAC}
}

// tunnel is what is put around a packet to a port.
func (f family) tunnel(dstPort uint16) packettest.Tunnel {
	outer := v4
	if dstPort == portOuter6 || dstPort == portGUE6 {
		outer = v6
	}
	b := worldBackends(outer, "lo")[f.backend(dstPort)]
	t := packettest.Tunnel{Src: b.Hop.Source, Dst: b.Addr}
	if dstPort == portGUE4 || dstPort == portGUE6 {
		t.GUE = 0xc000 | uint16(f.hash(f.client, portClient, dstPort)>>16&0x3fff)
	}
	return t
}

// forwarded goes to a backend as another frame.
func forwarded(out []byte, scope string) ending {
	return ending{action: actionTX, out: out, away: true, reason: "forwarded", scope: scope}
}

// forwardFixtures are all about what is sent to backends, and about who takes it.
func forwardFixtures() []fixture {
	var all []fixture
	for _, f := range families {
		all = append(all, inFamily(f, slices.Concat(directRoutingFixtures(f), tunnelFixtures(f), expiredFixtures(f),
			tooBigFixtures(f), segmentSizeFixtures(f), forwardedPieceFixtures(f), forwardedErrorFixtures(f), ownedFixtures(f)))...)
	}
	return append(all, ownedNeighborFixtures()...)
}

func TestWhatIsForwardedEndsWhereItsSentenceSays(t *testing.T) {
	instance := instanceOf(t, forwardWorld())
	checkAll(t, instance, ways(instance), forwardFixtures())
}

// toPort is a packet of TCP from the client with any flags.
func (f family) toPort(n byte, port uint16, flags uint8, payload int) []byte {
	return frameOf(f.eth(n), f.ip(n), tcp{Src: portClient, Dst: port, Flags: flags}, raw{Bytes: bytes.Repeat([]byte{'x'}, payload)})
}

func directRoutingFixtures(f family) []fixture {
	const ack = packettest.ACK
	scope := f.serviceScope("web", vipForward)
	dr := func(sentence string, frame []byte, port uint16, name string) fixture {
		return fixture{sentence: sentence, frame: frame, want: forwarded(f.hop(port).Route(frame), f.serviceScope(name, vipForward))}
	}
	tagged := frameOf(f.eth(vipForward), packettest.VLAN{ID: 7, Priority: 3}, f.ip(vipForward), tcp{Src: portClient, Dst: portWeb, Flags: ack})
	twice := frameOf(f.eth(vipForward), packettest.VLAN{ID: 7, Service: true}, packettest.VLAN{ID: 8}, f.ip(vipForward),
		tcp{Src: portClient, Dst: portWeb, Flags: ack})
	toUs := f.toPort(vipForward, portWeb, ack, 10)
	copy(toUs, ownMAC)
	twoLinks := f.toPort(vipForward, portTwoLinks, ack, 10)
	byOther := packettest.Hop{MAC: f.hop(portTwoLinks).MAC, Own: otherMAC}
	list := []fixture{
		dr("a SYN goes to the backend of its slot", f.toPort(vipForward, portWeb, packettest.SYN, 0), portWeb, "web"),
		dr("a segment goes to the backend of its SYN", f.toPort(vipForward, portWeb, ack, 100), portWeb, "web"),
		dr("a FIN goes to the backend of its SYN", f.toPort(vipForward, portWeb, ack|packettest.FIN, 0), portWeb, "web"),
		dr("a RST goes to the backend of its SYN", f.toPort(vipForward, portWeb, packettest.RST, 0), portWeb, "web"),
		dr("a segment of 1500 bytes fits, because nothing is added", f.toPort(vipForward, portWeb, ack, 1440), portWeb, "web"),
		dr("a padded segment keeps what pads it", packettest.Pad(f.toPort(vipForward, portWeb, ack, 0), 90), portWeb, "web"),
		dr("a segment with a tag keeps it", tagged, portWeb, "web"),
		dr("a segment with two tags keeps them", twice, portWeb, "web"),
		dr("a datagram goes to the backend of its slot", f.udp(vipForward, portDNS), portDNS, "dns"),
		{sentence: "a segment of another node's bucket is dropped, though it would go to the same backend",
			frame: f.toPort(vipForward, portSSH, ack, 0), want: dropped("not-owner", f.serviceScope("ssh", vipForward))},
		{sentence: "a segment of nobody's bucket is dropped",
			frame: f.toPort(vipForward, portGone, ack, 0), want: dropped("no-owner", f.serviceScope("gone", vipForward))},
		{sentence: "a SYN to a service without backends is dropped and says so",
			frame: f.toPort(vipForward, portEmpty, packettest.SYN, 0), want: dropped("no-backend", f.serviceScope("empty", vipForward))},
		{sentence: "a segment to a backend whose next hop is not known is dropped and says so",
			frame: f.toPort(vipForward, portWayless, ack, 0), want: dropped("no-way", f.serviceScope("wayless", vipForward))},
		{sentence: "a segment to a backend at another link leaves by that one, from its MAC",
			frame: twoLinks, want: ending{action: actionRedirect, out: byOther.Route(twoLinks), away: true, reason: "redirected",
				scope: f.serviceScope("two-links", vipForward)}},
		{sentence: "a segment to a service of the same VIP that is local goes to the stack",
			frame: f.toPort(vipForward, portLocal, ack, 0), want: accepted("accepted", f.serviceScope("local", vipForward))},
		{sentence: "what a peer sends to our own MAC is for us as a backend, and never sent on",
			frame: toUs, want: accepted("direct", scope)},
		{sentence: "a ping to a VIP that forwards is answered by its owner",
			frame: frameOf(f.eth(vipForward), f.ip(vipForward), f.echo()), want: accepted("echo-accepted", f.scope(vipForward))},
		{sentence: "what no service of a VIP that forwards names goes by its sender",
			frame: f.toPort(vipForward, portNone, packettest.SYN, 0), want: accepted("unnamed-accepted", f.scope(vipForward))},
	}
	if f == v4 {
		options := frameOf(f.eth(vipForward), packettest.IPv4{Src: f.client, Dst: f.vip(vipForward), Options: []byte{1, 1, 1, 1}},
			tcp{Src: portClient, Dst: portWeb, Flags: ack})
		odd := f.toPort(vipForward, portWeb, ack, 0)
		odd = resummed(odd, func(ip []byte) { ip[8], ip[9] = 3, 6 })
		list = append(list, dr("a segment with IP options is forwarded with them", options, portWeb, "web"),
			dr("a TTL of 3 becomes 2", odd, portWeb, "web"))
		for id := range uint16(3) { // checksums at the ends of their range
			frame := frameOf(f.eth(vipForward), packettest.IPv4{Src: f.client, Dst: f.vip(vipForward), ID: checksumID(f, 0xfeff+id)},
				tcp{Src: portClient, Dst: portWeb, Flags: ack})
			list = append(list, dr([]string{"a header checksum that becomes 0 does", "a header checksum that carries does",
				"a header checksum that carries by more does"}[id], frame, portWeb, "web"))
		}
		return list
	}
	extended := frameOf(f.eth(vipForward), f.ip(vipForward), packettest.Extension{Kind: packettest.ProtocolDestination},
		tcp{Src: portClient, Dst: portWeb, Flags: ack})
	return append(list, dr("a segment behind an extension header is forwarded with it", extended, portWeb, "web"))
}

// checksumID is the identification with which a bare segment to vipForward has a header checksum.
func checksumID(f family, want uint16) uint16 {
	for id := range 1 << 16 {
		frame := frameOf(f.eth(vipForward), packettest.IPv4{Src: f.client, Dst: f.vip(vipForward), ID: uint16(id)},
			tcp{Src: portClient, Dst: portWeb, Flags: packettest.ACK})
		if binary.BigEndian.Uint16(frame[14+10:]) == want {
			return uint16(id)
		}
	}
	return 0 // a checksum that no header has
}

// resummed changes the IPv4 header of an untagged frame and its checksum with it.
func resummed(frame []byte, change func(ip []byte)) []byte {
	out := slices.Clone(frame)
	ip := out[14:34]
	change(ip)
	ip[10], ip[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum&0xffff+sum>>16))
	return out
}

var tunnelPorts = map[uint16]string{portOuter4: "outer4", portOuter6: "outer6", portGUE4: "gue4", portGUE6: "gue6"}

// tunnelHeaders is what is added.
func tunnelHeaders(port uint16) int {
	return map[uint16]int{portOuter4: 20, portOuter6: 40, portGUE4: 32, portGUE6: 52}[port]
}

func tunnelFixtures(f family) []fixture {
	const ack = packettest.ACK
	var list []fixture
	for port, name := range tunnelPorts {
		into := func(sentence string, frame []byte) {
			list = append(list, fixture{sentence: name + ": " + sentence, frame: frame,
				want: forwarded(f.tunnel(port).Wrap(f.hop(port).Route(frame)), f.serviceScope(name, vipTunnel))})
		}
		headers := []packettest.Layer{f.eth(vipTunnel), f.ip(vipTunnel)}
		segment := tcp{Src: portClient, Dst: port, Flags: ack}
		into("a SYN is put into a packet to the backend of its slot", f.toPort(vipTunnel, port, packettest.SYN, 0))
		into("a segment is put into a packet to the same backend", f.toPort(vipTunnel, port, ack, 100))
		into("an odd number of bytes", f.toPort(vipTunnel, port, ack, 101))
		into("a segment of just the size that fits", f.toPort(vipTunnel, port, ack, tunnelMTU-tunnelHeaders(port)-ipHeader(f)-20))
		into("what pads a frame stays behind both packets", packettest.Pad(f.toPort(vipTunnel, port, ack, 0), 100))
		into("a tag stays in front", frameOf(f.eth(vipTunnel), packettest.VLAN{ID: 9}, headers[1], segment))
		into("two tags stay in front", frameOf(f.eth(vipTunnel), packettest.VLAN{ID: 9, Service: true}, packettest.VLAN{ID: 10}, headers[1], segment))
		if f == v4 {
			into("type of service is copied, with ECN", resummed(frameOf(append(headers, segment)...), func(ip []byte) { ip[1] = 0xb9 }))
			into("a packet with options", frameOf(headers[0],
				packettest.IPv4{Src: f.client, Dst: f.vip(vipTunnel), Options: make([]byte, 8)}, segment))
		} else {
			into("the traffic class is copied, with ECN, and no flow label", frameOf(headers[0],
				packettest.IPv6{Src: f.client, Dst: f.vip(vipTunnel), TrafficClass: 0xb9, FlowLabel: 0x12345}, segment))
			into("a packet with an extension header", frameOf(headers[0], headers[1],
				packettest.Extension{Kind: packettest.ProtocolHopByHop}, segment))
		}
	}
	return list
}

func ipHeader(f family) int {
	if f == v4 {
		return 20
	}
	return 40
}

// errorAbout is the ICMP error that is sent back about a frame, of which it quotes some bytes.
func (f family) errorAbout(n byte, frame []byte, link int, message icmp, quote int) []byte {
	tags := frame[12 : link-2]
	packet := frame[link:][:quote]
	if f == v4 {
		out := frameOf(eth{Dst: clientMAC, Src: ownMAC}, packettest.IPv4{Src: f.vip(n), Dst: f.client, Dont: true}, message, raw{Bytes: packet})
		out = resummed(out, func(ip []byte) { ip[1] = 0xc0 })
		return slices.Concat(out[:12], tags, out[12:])
	}
	out := frameOf(eth{Dst: clientMAC, Src: ownMAC}, packettest.IPv6{Src: f.vip(n), Dst: f.client}, message, raw{Bytes: packet})
	return slices.Concat(out[:12], tags, out[12:])
}

func expiredFixtures(f family) []fixture {
	exceeded, quote := icmp{Type: 11}, 28
	if f == v6 {
		exceeded, quote = icmp{Type: 3}, 48
	}
	dying := func(hops byte, tags ...packettest.Layer) []byte {
		segment := tcp{Src: portClient, Dst: portWeb, Flags: packettest.ACK}
		var ip packettest.Layer = packettest.IPv4{Src: f.client, Dst: f.vip(vipForward), TTL: hops}
		if f == v6 {
			ip = packettest.IPv6{Src: f.client, Dst: f.vip(vipForward), HopLimit: hops}
		}
		return frameOf(slices.Concat([]packettest.Layer{f.eth(vipForward)}, tags, []packettest.Layer{ip, segment})...)
	}
	scope := f.serviceScope("web", vipForward)
	last, first := dying(2), dying(1)
	tagged := dying(1, packettest.VLAN{ID: 5})
	zero := dying(1)
	if f == v4 {
		zero = resummed(zero, func(ip []byte) { ip[8] = 0 })
	} else {
		zero[14+7] = 0
	}
	list := []fixture{
		{sentence: "a packet with two hops left goes to its backend with one",
			frame: last, want: forwarded(f.hop(portWeb).Route(last), scope)},
		{sentence: "a packet with one hop left goes back as time exceeded",
			frame: first, want: answered(f.errorAbout(vipForward, first, 14, exceeded, quote), "expired-answered", scope)},
		{sentence: "a packet with no hop left goes back as time exceeded",
			frame: zero, want: answered(f.errorAbout(vipForward, zero, 14, exceeded, quote), "expired-answered", scope)},
		{sentence: "time exceeded has the tag of the packet",
			frame: tagged, want: answered(f.errorAbout(vipForward, tagged, 18, exceeded, quote), "expired-answered", scope)},
	}
	if f == v4 {
		ip := packettest.IPv4{Src: f.client, Dst: f.vip(vipForward), TTL: 1}
		tiny := frameOf(f.eth(vipForward), ip, raw{Number: packettest.ProtocolUDP, Bytes: []byte{0, 1, 0, portDNS}})
		list = append(list, fixture{sentence: "a packet with one hop left and too little to quote is dropped",
			frame: tiny, want: dropped("expired", f.serviceScope("dns", vipForward))})
	}
	return list
}

func tooBigFixtures(f family) []fixture {
	const quote = 504
	var list []fixture
	for port, name := range tunnelPorts {
		fits := tunnelMTU - tunnelHeaders(port)
		message := icmp{Type: 3, Code: 4, Rest: uint32(fits)}
		if f == v6 {
			message = icmp{Type: 2, Rest: uint32(fits)}
		}
		frame := f.toPort(vipTunnel, port, packettest.ACK, fits-ipHeader(f)-20+1)
		tagged := slices.Concat(frame[:12], []byte{0x81, 0, 0, 5}, frame[12:])
		scope := f.serviceScope(name, vipTunnel)
		list = append(list,
			fixture{sentence: name + ": one byte more than fits goes back, with what does",
				frame: frame, want: answered(f.errorAbout(vipTunnel, frame, 14, message, quote), "too-big-answered", scope)},
			fixture{sentence: name + ": the answer to what is too big has its tag",
				frame: tagged, want: answered(f.errorAbout(vipTunnel, tagged, 18, message, quote), "too-big-answered", scope)})
	}
	// a header that says more than there is
	lie := f.udp(vipTunnel, portHuge)
	if f == v4 {
		lie = resummed(lie, func(ip []byte) { binary.BigEndian.PutUint16(ip[2:], 9000) })
	} else {
		binary.BigEndian.PutUint16(lie[14+4:], 9000)
	}
	return append(list, fixture{sentence: "a packet that says it is too big and has too little to quote is dropped",
		frame: lie, want: dropped("too-big", f.serviceScope("huge", vipTunnel))})
}

func segmentSizeFixtures(f family) []fixture {
	const port = portClamped
	scope := f.serviceScope("clamped", vipTunnel)
	mss := func(size uint16) []byte { return []byte{2, 4, byte(size >> 8), byte(size)} }
	syn := func(flags uint8, options ...byte) []byte {
		return frameOf(f.eth(vipTunnel), f.ip(vipTunnel), packettest.TCP{Src: portClient, Dst: port, Flags: flags, Options: options})
	}
	cut := func(sentence string, frame []byte) fixture {
		clamped := packettest.ClampMSS(frame, portClampMSS)
		return fixture{sentence: sentence, frame: frame, want: forwarded(f.tunnel(port).Wrap(f.hop(port).Route(clamped)), scope)}
	}
	return []fixture{
		cut("a SYN that offers large segments offers smaller ones", syn(packettest.SYN, mss(1460)...)),
		cut("a SYN that offers one byte too much", syn(packettest.SYN, mss(portClampMSS+1)...)),
		cut("a SYN that offers just what fits stays", syn(packettest.SYN, mss(portClampMSS)...)),
		cut("a SYN that offers small segments stays", syn(packettest.SYN, mss(536)...)),
		cut("a SYN that offers nothing stays", syn(packettest.SYN)),
		cut("an offer behind a no-operation is at an odd place", syn(packettest.SYN, append([]byte{1}, append(mss(1460), 0, 0, 0)...)...)),
		cut("an offer behind other options", syn(packettest.SYN, append([]byte{4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0}, mss(9000)...)...)),
		cut("an offer behind the end of options is none", syn(packettest.SYN, append([]byte{0, 0, 0, 0}, mss(1460)...)...)),
		cut("an option of no length ends them", syn(packettest.SYN, append([]byte{5, 0, 0, 0}, mss(1460)...)...)),
		cut("an option that is longer than its header ends them", syn(packettest.SYN, 8, 40, 0, 0)),
		cut("an offer of a wrong length is none", syn(packettest.SYN, 2, 6, 5, 180, 0, 0, 0, 0)),
		cut("an offer that answers one is cut, too", syn(packettest.SYN|packettest.ACK, mss(1460)...)),
		cut("a segment that opens nothing keeps what it says", syn(packettest.ACK, mss(1460)...)),
	}
}

// forwardedPieceFixtures are about fragments, which follow the first one to its backend.
func forwardedPieceFixtures(f family) []fixture {
	id := uint16(7000)
	next := func(n byte) datagram {
		id++
		return datagram{f, n, id}
	}
	route := func(frame []byte) ending {
		return forwarded(f.hop(portDNS).Route(frame), f.serviceScope("dns", vipForward))
	}
	d, theirs, unseen := next(vipForward), next(vipForward), next(vipForward)
	toUs := d.later()
	copy(toUs, ownMAC)
	segment := theirs.fragment(0, true, tcp{Src: portClient, Dst: portSSH, Flags: packettest.ACK}, raw{Bytes: make([]byte, 44)})
	nowhere := next(vipForward)
	lost := nowhere.fragment(0, true, tcp{Src: portClient, Dst: portEmpty, Flags: packettest.ACK}, raw{Bytes: make([]byte, 44)})
	return []fixture{
		{sentence: "a first fragment goes to the backend of its ports", frame: d.first(portDNS), want: route(d.first(portDNS))},
		{sentence: "a fragment follows it there", frame: d.later(), want: route(d.later())},
		{sentence: "the last fragment follows it there", frame: d.last(), want: route(d.last())},
		{sentence: "a fragment that a peer sent to us does not", frame: toUs,
			want: accepted("direct", f.serviceScope("dns", vipForward))},
		{sentence: "a first fragment of another node's bucket is dropped", frame: segment,
			want: dropped("not-owner", f.serviceScope("ssh", vipForward))},
		{sentence: "a fragment follows what another node forwards", frame: theirs.fragment(64, false, raw{Number: packettest.ProtocolTCP, Bytes: make([]byte, 8)}),
			want: dropped("fragment-not-owner", f.serviceScope("ssh", vipForward))},
		{sentence: "a first fragment without a backend is dropped", frame: lost,
			want: dropped("no-backend", f.serviceScope("empty", vipForward))},
		{sentence: "a fragment follows what had no backend", frame: nowhere.fragment(64, false, raw{Number: packettest.ProtocolTCP, Bytes: make([]byte, 8)}),
			want: dropped("fragment-not-owner", f.serviceScope("empty", vipForward))},
		{sentence: "a fragment whose first was not seen goes to the stack, which forgets it", frame: unseen.later(),
			want: accepted("fragment-unknown", f.scope(vipForward))},
	}
}

// forwardedErrorFixtures are about ICMP errors, which go to the backend of the flow that they quote.
func forwardedErrorFixtures(f family) []fixture {
	about := func(n byte, port uint16) []byte {
		return f.quoting(n, frameOf(f.fromVIP(n), tcp{Src: port, Dst: portClient}))
	}
	web, gue := about(vipForward, portWeb), about(vipTunnel, portGUE4)
	return []fixture{
		{sentence: "an error about a segment goes to the backend of its flow, by the client that it quotes",
			frame: web, want: forwarded(f.hop(portWeb).Route(web), f.serviceScope("web", vipForward))},
		{sentence: "an error goes into the tunnel of its flow",
			frame: gue, want: forwarded(f.tunnel(portGUE4).Wrap(f.hop(portGUE4).Route(gue)), f.serviceScope("gue4", vipTunnel))},
		{sentence: "an error about another node's flow is dropped",
			frame: about(vipForward, portSSH), want: dropped("error-not-owner", f.serviceScope("ssh", vipForward))},
		{sentence: "an error about a flow without a backend is dropped",
			frame: about(vipForward, portEmpty), want: dropped("no-backend", f.serviceScope("empty", vipForward))},
		{sentence: "an error about a flow that is local goes to the stack",
			frame: about(vipForward, portLocal), want: accepted("error-accepted", f.serviceScope("local", vipForward))},
	}
}

// ownedFixtures are about VIPs whose frames come to a node's own MAC.
func ownedFixtures(f family) []fixture {
	const ack = packettest.ACK
	to := func(mac net.HardwareAddr, from net.HardwareAddr, n byte, port uint16) []byte {
		return frameOf(eth{Dst: mac, Src: from}, f.ip(n), tcp{Src: portClient, Dst: port, Flags: ack})
	}
	route := func(sentence string, frame []byte, n byte) fixture {
		return fixture{sentence: sentence, frame: frame, want: forwarded(f.hop(portWeb).Route(frame), f.serviceScope("web", n))}
	}
	return []fixture{
		route("failover: what comes to our own MAC is forwarded by the owner", to(ownMAC, clientMAC, vipOwned, portWeb), vipOwned),
		route("failover: what comes to the virtual MAC is forwarded by the owner", to(virtualMAC, clientMAC, vipVirtual, portWeb), vipVirtual),
		route("none: what somebody brings is forwarded", to(ownMAC, clientMAC, vipRouted, portWeb), vipRouted),
		{sentence: "failover: what comes to our own MAC is dropped by who is not the owner",
			frame: to(ownMAC, clientMAC, vipStandby, portWeb), want: dropped("not-owner", f.serviceScope("web", vipStandby))},
		{sentence: "failover: what comes to our own MAC is the owner's stack's, where that is local",
			frame: to(ownMAC, clientMAC, vipOwned, portLocal), want: accepted("accepted", f.serviceScope("local", vipOwned))},
		{sentence: "failover: what is local is dropped by who is not the owner",
			frame: to(ownMAC, clientMAC, vipStandby, portLocal), want: dropped("not-owner", f.serviceScope("local", vipStandby))},
		{sentence: "none: what is local goes to the stack",
			frame: to(ownMAC, clientMAC, vipRouted, portLocal), want: accepted("accepted", f.serviceScope("local", vipRouted))},
		{sentence: "failover: what a peer sends is for us as a backend, owner or not",
			frame: to(ownMAC, peerMAC, vipStandby, portWeb), want: accepted("direct", f.serviceScope("web", vipStandby))},
		{sentence: "failover: what a peer sends is for us as a backend of the owner, too",
			frame: to(ownMAC, peerMAC, vipOwned, portWeb), want: accepted("direct", f.serviceScope("web", vipOwned))},
		{sentence: "none: what a peer sends is for us as a backend",
			frame: to(ownMAC, peerMAC, vipRouted, portWeb), want: accepted("direct", f.serviceScope("web", vipRouted))},
		{sentence: "failover: what comes to another's MAC is not touched",
			frame: to(clientMAC, peerMAC, vipOwned, portWeb), want: untouched("other-host", f.scope(vipOwned))},
		{sentence: "failover: a ping is answered by the owner",
			frame: frameOf(eth{Dst: ownMAC, Src: clientMAC}, f.ip(vipOwned), f.echo()), want: accepted("echo-accepted", f.scope(vipOwned))},
		{sentence: "failover: a ping is dropped by who is not the owner",
			frame: frameOf(eth{Dst: ownMAC, Src: clientMAC}, f.ip(vipStandby), f.echo()), want: dropped("echo-not-owner", f.scope(vipStandby))},
	}
}

// ownedNeighborFixtures are about who answers for VIPs whose frames come to a node's own MAC.
func ownedNeighborFixtures() []fixture {
	ask := func(dst net.HardwareAddr, n byte) []byte {
		return frameOf(eth{Dst: dst, Src: clientMAC}, arp{
			Operation: packettest.ARPRequest, SenderMAC: clientMAC, Sender: v4.client, Target: v4.vip(n),
		})
	}
	answer := func(mac net.HardwareAddr, n byte) []byte {
		return frameOf(eth{Dst: clientMAC, Src: ownMAC}, arp{
			Operation: packettest.ARPReply, SenderMAC: mac, Sender: v4.vip(n), TargetMAC: clientMAC, Target: v4.client,
		})
	}
	claim := func(mac net.HardwareAddr, n byte) []byte {
		return frameOf(eth{Dst: broadcast, Src: mac}, arp{
			Operation: packettest.ARPRequest, SenderMAC: mac, Sender: v4.vip(n), Target: v4.vip(n),
		})
	}
	return []fixture{
		{sentence: "failover: the owner answers ARP with its own MAC",
			frame: ask(broadcast, vipOwned), want: answered(answer(ownMAC, vipOwned), "arp-answered", v4.scope(vipOwned))},
		{sentence: "failover: the owner answers ARP with the virtual MAC",
			frame: ask(broadcast, vipVirtual), want: answered(answer(virtualMAC, vipVirtual), "arp-answered", v4.scope(vipVirtual))},
		{sentence: "failover: who is not the owner answers no ARP",
			frame: ask(broadcast, vipStandby), want: dropped("arp-not-owner", v4.scope(vipStandby))},
		{sentence: "failover: who was the owner answers no ARP to its own MAC",
			frame: ask(ownMAC, vipStandby), want: dropped("arp-not-owner", v4.scope(vipStandby))},
		{sentence: "failover: a peer that says it has the VIP is no conflict",
			frame: claim(peerMAC, vipStandby), want: dropped("arp-not-owner", v4.scope(vipStandby))},
		{sentence: "failover: anybody else who says so is one",
			frame: claim(clientMAC, vipStandby), want: dropped("arp-conflict", v4.scope(vipStandby))},
		{sentence: "none: nobody answers ARP",
			frame: ask(broadcast, vipRouted), want: dropped("not-announced", v4.scope(vipRouted))},
		{sentence: "none: who brings the packets may have the VIP as its own",
			frame: claim(clientMAC, vipRouted), want: dropped("not-announced", v4.scope(vipRouted))},
	}
}
