package datapath_test

import (
	"fmt"
	"net/netip"

	"github.com/lbctl/lbctl/internal/packettest"
)

// icmpFixtures are about ICMP that is no error.
func icmpFixtures(f family) []fixture {
	message := func(n byte, m icmp) []byte {
		return frameOf(f.eth(n), f.ip(n), m, raw{Bytes: make([]byte, 48)})
	}
	even, odd := f.clientIn(hashModes()[0], 0, 0, 0), f.clientIn(hashModes()[0], 1, 0, 0)
	echoFrom := func(client netip.Addr) []byte {
		return frameOf(f.eth(vipHash), f.between(client, f.vip(vipHash)), f.echo())
	}
	foreign := frameOf(f.eth(vipMine), f.ip(vipMine), raw{Number: packettest.ProtocolICMPv6, Bytes: []byte{128, 0, 0, 0, 0, 0, 0, 0}})
	if f == v6 {
		foreign = frameOf(f.eth(vipMine), f.ip(vipMine), raw{Number: packettest.ProtocolICMP, Bytes: []byte{8, 0, 0, 0, 0, 0, 0, 0}})
	}
	toUs := message(vipTheirs, f.echo())
	copy(toUs, ownMAC)
	list := []fixture{
		{sentence: "a ping is answered by the stack of its sender's node",
			frame: message(vipMine, f.echo()), want: accepted("echo-accepted", f.scope(vipMine))},
		{sentence: "a ping is not answered by other nodes",
			frame: message(vipTheirs, f.echo()), want: dropped("echo-not-owner", f.scope(vipTheirs))},
		{sentence: "a ping is not answered where nobody is eligible",
			frame: message(vipNobody, f.echo()), want: dropped("no-owner", f.scope(vipNobody))},
		{sentence: "a ping to our own MAC is answered",
			frame: toUs, want: accepted("direct", f.scope(vipTheirs))},
		{sentence: "a ping goes by its sender: an even bucket",
			frame: echoFrom(even), want: accepted("echo-accepted", f.scope(vipHash))},
		{sentence: "a ping goes by its sender: an odd bucket",
			frame: echoFrom(odd), want: dropped("echo-not-owner", f.scope(vipHash))},
		{sentence: "a ping is answered though the VIP drops the unnamed",
			frame: message(vipStrict, f.echo()), want: accepted("echo-accepted", f.scope(vipStrict))},
		{sentence: "a ping is the VIP's, not of its service of any protocol",
			frame: message(vipAny, f.echo()), want: accepted("echo-accepted", f.scope(vipAny))},
		{sentence: "a ping to no VIP is left alone",
			frame: message(noVIP, f.echo()), want: untouched("not-vip", "")},
		{sentence: "a large ping is one",
			frame: packettest.Pad(message(vipMine, f.echo()), 9000), want: accepted("echo-accepted", f.scope(vipMine))},
		{sentence: "an echo reply is unnamed",
			frame: message(vipMine, f.echoReply()), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "an echo reply to another node is dropped",
			frame: message(vipTheirs, f.echoReply()), want: dropped("unnamed-not-owner", f.scope(vipTheirs))},
		{sentence: "an echo reply is of a service of any protocol",
			frame: message(vipAny, f.echoReply()), want: dropped("not-owner", f.serviceScope("any", vipAny))},
		{sentence: "an ICMP message that is cut short is unnamed",
			frame: message(vipMine, f.echo())[:len(message(vipMine, f.echo()))-49], want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "the other family's ICMP is a protocol as any",
			frame: foreign, want: accepted("unnamed-accepted", f.scope(vipMine))},
	}
	others := map[uint8]string{5: "redirect", 9: "router advertisement", 13: "timestamp request", 17: "mask request"}
	if f == v6 {
		others = map[uint8]string{0: "reserved", 127: "last error, which is reserved,", 130: "listener query", 133: "router solicitation", 137: "redirect"}
	}
	for kind, name := range others {
		list = append(list, fixture{sentence: "ICMP " + name + " is unnamed and dropped where the VIP says so",
			frame: message(vipStrict, icmp{Type: kind}), want: dropped("unnamed-dropped", f.scope(vipStrict))})
	}
	return inFamily(f, list)
}

// errorTypes are the types of ICMP messages that quote a packet.
func errorTypes(f family) map[uint8]string {
	if f == v4 {
		return map[uint8]string{3: "unreachable", 4: "source quench", 11: "time exceeded", 12: "parameter problem"}
	}
	return map[uint8]string{1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem"}
}

// fromVIP is the header of a packet that a VIP sent to the client, and that a router quotes.
func (f family) fromVIP(n byte) packettest.Layer { return f.between(f.vip(n), f.client) }

// quoting is an ICMP error from a router to a VIP about a packet.
func (f family) quoting(n byte, quoted []byte) []byte {
	kind := uint8(3)
	return frameOf(f.eth(n), f.between(f.router, f.vip(n)), icmp{Type: kind}, raw{Bytes: quoted})
}

// errorFixtures are about ICMP errors, which go the way of the flow that they quote.
func errorFixtures(f family) []fixture {
	service := f.serviceScope
	segment := func(n byte, port uint16) []byte {
		return frameOf(f.fromVIP(n), tcp{Src: port, Dst: portClient})
	}
	datagram := func(n byte, port uint16) []byte {
		return frameOf(f.fromVIP(n), udp{Src: port, Dst: portClient}, raw{Bytes: make([]byte, 8)})
	}
	toUs := func(frame []byte) []byte {
		copy(frame, ownMAC)
		return frame
	}
	hashed := func(parity int) []byte {
		const port = 2
		client := f.clientIn(hashModes()[port-1], parity, portClient, port)
		return f.quoting(vipHash, frameOf(f.between(f.vip(vipHash), client), tcp{Src: port, Dst: portClient}))
	}
	ping := func(parity int) []byte {
		client := f.clientIn(hashModes()[0], parity, 0, 0)
		return f.quoting(vipHash, frameOf(f.between(f.vip(vipHash), client), f.echoReply()))
	}
	wrongVersion := segment(vipMine, portWeb)
	wrongVersion[0] ^= 0x20
	unknown := func(n byte) ending { return accepted("error-unknown", f.scope(n)) }
	list := []fixture{
		{sentence: "an error about a segment of ours is accepted",
			frame: f.quoting(vipMine, segment(vipMine, portWeb)), want: accepted("error-accepted", service("web", vipMine))},
		{sentence: "an error about a segment of another node is dropped",
			frame: f.quoting(vipMine, segment(vipMine, portSSH)), want: dropped("error-not-owner", service("ssh", vipMine))},
		{sentence: "an error about a segment of nobody is dropped",
			frame: f.quoting(vipMine, segment(vipMine, portGone)), want: dropped("no-owner", service("gone", vipMine))},
		{sentence: "an error about a datagram of ours is accepted",
			frame: f.quoting(vipMine, datagram(vipMine, portDNS)), want: accepted("error-accepted", service("dns", vipMine))},
		{sentence: "an error about a datagram of another node is dropped",
			frame: f.quoting(vipMine, datagram(vipMine, portSIP)), want: dropped("error-not-owner", service("sip", vipMine))},
		{sentence: "an error goes by the quoted client, not by the router: an even bucket",
			frame: hashed(0), want: accepted("error-accepted", service("source+port", vipHash))},
		{sentence: "an error goes by the quoted client, not by the router: an odd bucket",
			frame: hashed(1), want: dropped("error-not-owner", service("source+port", vipHash))},
		{sentence: "an error about an answered ping is its client's: an even bucket",
			frame: ping(0), want: accepted("error-accepted", f.scope(vipHash))},
		{sentence: "an error about an answered ping is its client's: an odd bucket",
			frame: ping(1), want: dropped("error-not-owner", f.scope(vipHash))},
		{sentence: "an error about what no service names goes by the quoted client",
			frame: f.quoting(vipTheirs, segment(vipTheirs, portNone)), want: dropped("error-not-owner", f.scope(vipTheirs))},
		{sentence: "an error about what no service names is accepted by its owner, though the VIP drops the unnamed",
			frame: f.quoting(vipStrict, segment(vipStrict, portNone)), want: accepted("error-accepted", f.scope(vipStrict))},
		{sentence: "an error about a protocol without ports goes by the quoted client",
			frame: f.quoting(vipMine, frameOf(f.fromVIP(vipMine), raw{Number: packettest.ProtocolESP, Bytes: make([]byte, 8)})),
			want:  accepted("error-accepted", f.scope(vipMine))},
		{sentence: "an error about a protocol without ports is of a service of any protocol",
			frame: f.quoting(vipAny, frameOf(f.fromVIP(vipAny), raw{Number: packettest.ProtocolESP, Bytes: make([]byte, 8)})),
			want:  dropped("error-not-owner", service("any", vipAny))},
		{sentence: "an error that quotes a whole packet is as good as one that quotes its start",
			frame: f.quoting(vipMine, append(segment(vipMine, portSSH), make([]byte, 1000)...)),
			want:  dropped("error-not-owner", service("ssh", vipMine))},
		{sentence: "an error about a packet of another sender is about no flow of ours",
			frame: f.quoting(vipMine, frameOf(f.between(f.router, f.client), tcp{Src: portSSH, Dst: portClient})), want: unknown(vipMine)},
		{sentence: "an error about a packet of another VIP is about no flow of this one",
			frame: f.quoting(vipMine, segment(vipTheirs, portWeb)), want: unknown(vipMine)},
		{sentence: "an error about a packet towards the VIP is about no flow of ours",
			frame: f.quoting(vipMine, frameOf(f.ip(vipMine), tcp{Src: portClient, Dst: portSSH})), want: unknown(vipMine)},
		{sentence: "an error that quotes another IP version is about no flow of ours",
			frame: f.quoting(vipMine, wrongVersion), want: unknown(vipMine)},
		{sentence: "an error about no flow that can be named is everybody's, also where nobody owns anything",
			frame: f.quoting(vipNobody, nil), want: unknown(vipNobody)},
		{sentence: "an error about another node's flow is ours when it was sent to our own MAC",
			frame: toUs(f.quoting(vipMine, segment(vipMine, portSSH))), want: accepted("direct", service("ssh", vipMine))},
		{sentence: "an error about no flow that can be named stays unknown when it was sent to our own MAC",
			frame: toUs(f.quoting(vipMine, nil)), want: unknown(vipMine)},
		{sentence: "an error to no VIP is left alone",
			frame: f.quoting(noVIP, segment(noVIP, portWeb)), want: untouched("not-vip", "")},
	}
	for kind, name := range errorTypes(f) {
		list = append(list, fixture{
			sentence: fmt.Sprintf("%s (type %d) is an error", name, kind),
			frame: frameOf(f.eth(vipMine), f.between(f.router, f.vip(vipMine)), icmp{Type: kind},
				raw{Bytes: segment(vipMine, portSSH)}),
			want: dropped("error-not-owner", service("ssh", vipMine)),
		})
	}
	list = append(list, quotedFragments(f)...)
	return inFamily(f, append(list, cutQuotes(f, segment(vipMine, portSSH))...))
}

// cutQuotes quote every length of a packet that a router could cut it to.
func cutQuotes(f family, quoted []byte) []fixture {
	var list []fixture
	whole := len(quoted) - 20 + 4
	for n := 0; n <= whole+4; n++ {
		want := accepted("error-unknown", f.scope(vipMine))
		if n >= whole {
			want = dropped("error-not-owner", f.serviceScope("ssh", vipMine))
		}
		list = append(list, fixture{sentence: fmt.Sprintf("an error needs the quoted ports, %d bytes in: there are %d", whole, n),
			frame: f.quoting(vipMine, quoted[:n]), want: want})
	}
	return list
}

// quotedFragments quote what is more than a plain header and a transport.
func quotedFragments(f family) []fixture {
	quote := func(layers ...packettest.Layer) []byte {
		return f.quoting(vipMine, frameOf(append(layers, udp{Src: portSIP, Dst: portClient})...))
	}
	theirs := dropped("error-not-owner", f.serviceScope("sip", vipMine))
	unknown := accepted("error-unknown", f.scope(vipMine))
	src, dst := f.vip(vipMine), f.client
	if f == v4 {
		short := packettest.Frame(packettest.IPv4{Src: src, Dst: dst}, udp{Src: portSIP, Dst: portClient})
		short[0] = 0x44
		return []fixture{
			{sentence: "an error that quotes IPv4 options finds the ports behind them",
				frame: quote(packettest.IPv4{Src: src, Dst: dst, Options: make([]byte, 40)}), want: theirs},
			{sentence: "an error that quotes a first fragment finds its ports",
				frame: quote(packettest.IPv4{Src: src, Dst: dst, More: true}), want: theirs},
			{sentence: "an error that quotes a later fragment is about no flow that can be named",
				frame: quote(packettest.IPv4{Src: src, Dst: dst, Offset: 8}), want: unknown},
			{sentence: "an error that quotes an IPv4 header of 16 bytes is about no flow that can be named",
				frame: f.quoting(vipMine, short), want: unknown},
		}
	}
	ip := packettest.IPv6{Src: src, Dst: dst}
	cut := frameOf(ip, packettest.Extension{Kind: packettest.ProtocolDestination}, udp{Src: portSIP, Dst: portClient})
	return []fixture{
		{sentence: "an error that quotes extension headers finds the ports behind them",
			frame: quote(ip, packettest.Extension{Kind: packettest.ProtocolHopByHop}, packettest.AH{}), want: theirs},
		{sentence: "an error that quotes a first fragment finds its ports",
			frame: quote(ip, packettest.Fragment{ID: 1, More: true}), want: theirs},
		{sentence: "an error that quotes an atomic fragment finds its ports",
			frame: quote(ip, packettest.Fragment{ID: 1}), want: theirs},
		{sentence: "an error that quotes a later fragment is about no flow that can be named",
			frame: quote(ip, packettest.Fragment{ID: 1, Offset: 8}), want: unknown},
		{sentence: "an error that quotes half an extension header is about no flow that can be named",
			frame: f.quoting(vipMine, cut[:44]), want: unknown},
		{sentence: "an error that quotes an extension header and no ports is about no flow that can be named",
			frame: f.quoting(vipMine, cut[:48]), want: unknown},
	}
}
