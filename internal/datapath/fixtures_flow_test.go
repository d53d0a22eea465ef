package datapath_test

import (
	"fmt"

	"github.com/lbctl/lbctl/internal/packettest"
)

// Short names for what most frames are made of.
type (
	eth  = packettest.Ethernet
	raw  = packettest.Raw
	icmp = packettest.ICMP
	tcp  = packettest.TCP
	udp  = packettest.UDP
)

var frameOf = packettest.Frame

// otherTraffic is not for any VIP.
func otherTraffic() []fixture {
	other := func(ethertype uint16) []byte {
		return frameOf(eth{Dst: broadcast, Src: clientMAC, Type: ethertype}, raw{Bytes: make([]byte, 46)})
	}
	return []fixture{
		{sentence: "LLDP is not our business", frame: other(0x88cc), want: untouched("not-ip", "")},
		{sentence: "a frame with an 802.3 length is not our business", frame: other(46), want: untouched("not-ip", "")},
		{sentence: "reverse ARP is not our business", frame: other(0x8035), want: untouched("not-ip", "")},
		{sentence: "PPPoE is not our business", frame: other(0x8864), want: untouched("not-ip", "")},
		{sentence: "an Ethernet header alone, of no protocol, is passed", frame: other(0)[:14], want: untouched("not-ip", "")},
	}
}

// flowFixtures are about TCP, UDP and other protocols in one frame each.
func flowFixtures(f family) []fixture {
	service := f.serviceScope
	protocol := func(n byte, number uint16) []byte {
		return frameOf(f.eth(n), f.ip(n), raw{Number: number, Bytes: make([]byte, 20)})
	}
	flags := func(flags uint8) []byte {
		return frameOf(f.eth(vipMine), f.ip(vipMine), tcp{Src: portClient, Dst: portWeb, Flags: flags}, raw{Bytes: []byte("data")})
	}
	backwards := frameOf(f.eth(vipMine), f.between(f.vip(vipMine), f.client), tcp{Src: portWeb, Dst: portClient})
	wrongVersion := f.tcp(vipMine, portWeb)
	wrongVersion[14] = 0x50 | wrongVersion[14]&0xf
	list := []fixture{
		{sentence: "a SYN to a service whose bucket is ours is accepted",
			frame: f.tcp(vipMine, portWeb), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a SYN to a service whose bucket is another node's is dropped, though the VIP's is ours",
			frame: f.tcp(vipMine, portSSH), want: dropped("not-owner", service("ssh", vipMine))},
		{sentence: "a SYN to a service whose bucket is nobody's is dropped and says so",
			frame: f.tcp(vipMine, portGone), want: dropped("no-owner", service("gone", vipMine))},
		{sentence: "a service's bucket counts, though the VIP's is another node's",
			frame: f.tcp(vipTheirs, portWeb), want: accepted("accepted", service("web", vipTheirs))},
		{sentence: "a datagram to a service whose bucket is ours is accepted",
			frame: f.udp(vipMine, portDNS), want: accepted("accepted", service("dns", vipMine))},
		{sentence: "a datagram to a service whose bucket is another node's is dropped",
			frame: f.udp(vipMine, portSIP), want: dropped("not-owner", service("sip", vipMine))},
		{sentence: "a segment in the middle of a connection goes the way of its SYN",
			frame: flags(packettest.ACK), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a FIN goes the way of its SYN",
			frame: flags(packettest.FIN | packettest.ACK), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a RST goes the way of its SYN",
			frame: flags(packettest.RST), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a service of two ports has the first",
			frame: f.tcp(vipMine, portHTTPS), want: dropped("not-owner", service("https", vipMine))},
		{sentence: "a service of two ports has the second",
			frame: f.tcp(vipMine, 8443), want: dropped("not-owner", service("https", vipMine))},
		{sentence: "a service of two ports has nothing between them",
			frame: f.tcp(vipMine, 444), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "a range has its first port",
			frame: f.udp(vipMine, portRange), want: accepted("accepted", service("range", vipMine))},
		{sentence: "a range has a port in the middle",
			frame: f.udp(vipMine, portRange+77), want: accepted("accepted", service("range", vipMine))},
		{sentence: "a range has its last port",
			frame: f.udp(vipMine, portRange+127), want: accepted("accepted", service("range", vipMine))},
		{sentence: "a range has nothing below it",
			frame: f.udp(vipMine, portRange-1), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "a range has nothing above it",
			frame: f.udp(vipMine, portRange+128), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "a range of datagrams has no segments",
			frame: f.tcp(vipMine, portRange), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "a TCP service has no datagrams",
			frame: f.udp(vipMine, portWeb), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "all ports of TCP are a service's",
			frame: f.tcp(vipAllPorts, 65535), want: accepted("accepted", service("tcp", vipAllPorts))},
		{sentence: "port 0 is one of all ports",
			frame: f.tcp(vipAllPorts, 0), want: accepted("accepted", service("tcp", vipAllPorts))},
		{sentence: "all ports of UDP are another service's",
			frame: f.udp(vipAllPorts, 7999), want: dropped("not-owner", service("udp", vipAllPorts))},
		{sentence: "a range goes before all ports",
			frame: f.udp(vipAllPorts, 8000), want: accepted("accepted", service("some", vipAllPorts))},
		{sentence: "a range goes before all ports, up to its last port",
			frame: f.udp(vipAllPorts, 8999), want: accepted("accepted", service("some", vipAllPorts))},
		{sentence: "all ports begin again above a range",
			frame: f.udp(vipAllPorts, 9000), want: dropped("not-owner", service("udp", vipAllPorts))},
		{sentence: "all ports are of TCP and UDP and of nothing else",
			frame: protocol(vipAllPorts, 132), want: accepted("unnamed-accepted", f.scope(vipAllPorts))},
		{sentence: "a service of any protocol has segments to any port",
			frame: f.tcp(vipAny, 81), want: dropped("not-owner", service("any", vipAny))},
		{sentence: "a service of any protocol has datagrams",
			frame: f.udp(vipAny, 80), want: dropped("not-owner", service("any", vipAny))},
		{sentence: "a service of any protocol has protocols without ports",
			frame: protocol(vipAny, 132), want: dropped("not-owner", service("any", vipAny))},
		{sentence: "a service of one port goes before one of any protocol",
			frame: f.tcp(vipAny, portWeb), want: accepted("accepted", service("web", vipAny))},
		{sentence: "what no service names goes by its sender, and is accepted when that bucket is ours",
			frame: f.tcp(vipMine, portNone), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "what no service names is dropped when its sender's bucket is another node's",
			frame: f.tcp(vipTheirs, portNone), want: dropped("unnamed-not-owner", f.scope(vipTheirs))},
		{sentence: "what no service names is dropped when its sender's bucket is nobody's",
			frame: f.tcp(vipNobody, portNone), want: dropped("no-owner", f.scope(vipNobody))},
		{sentence: "what no service names is dropped where the VIP says so, even by the owner",
			frame: f.tcp(vipStrict, portNone), want: dropped("unnamed-dropped", f.scope(vipStrict))},
		{sentence: "a VIP that drops the unnamed still has its services",
			frame: f.tcp(vipStrict, portWeb), want: accepted("accepted", service("web", vipStrict))},
		{sentence: "a protocol that is neither TCP nor UDP is unnamed",
			frame: protocol(vipMine, packettest.ProtocolESP), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "GRE to another node's VIP is dropped",
			frame: protocol(vipTheirs, 47), want: dropped("unnamed-not-owner", f.scope(vipTheirs))},
		{sentence: "SCTP is dropped by a VIP that drops the unnamed",
			frame: protocol(vipStrict, 132), want: dropped("unnamed-dropped", f.scope(vipStrict))},
		{sentence: "a segment to an address that is no VIP is left alone",
			frame: f.tcp(noVIP, portWeb), want: untouched("not-vip", "")},
		{sentence: "a datagram to an address that is no VIP is left alone",
			frame: f.udp(noVIP, portDNS), want: untouched("not-vip", "")},
		{sentence: "a packet from a VIP is no packet for it",
			frame: backwards, want: untouched("not-vip", "")},
		{sentence: "a header of another IP version is left to the stack",
			frame: wrongVersion, want: untouched("unparsed", "")},
	}
	for n, want := range map[int]ending{
		0: accepted("unnamed-accepted", f.scope(vipMine)),
		3: accepted("unnamed-accepted", f.scope(vipMine)),
		4: accepted("accepted", service("web", vipMine)),
	} {
		frame := f.tcp(vipMine, portWeb)
		list = append(list, fixture{
			sentence: fmt.Sprintf("%d bytes of a TCP header name a service only when both ports are there", n),
			frame:    frame[:len(frame)-20+n], want: want,
		})
	}
	return inFamily(f, list)
}

// inFamily names the family in each sentence.
func inFamily(f family, list []fixture) []fixture {
	for i := range list {
		list[i].sentence = f.name + ": " + list[i].sentence
	}
	return list
}

// hashFixtures are about what of a flow decides: a bucket that the Go side computes to be even is
// this node's.
func hashFixtures(f family) []fixture {
	var list []fixture
	for i, mode := range hashModes() {
		port := uint16(i + 1)
		scope := f.serviceScope(mode.String(), vipHash)
		for parity, want := range []ending{accepted("accepted", scope), dropped("not-owner", scope)} {
			client := f.clientIn(mode, parity, portClient, port)
			list = append(list, fixture{
				sentence: fmt.Sprintf("a flow hashed by %s into bucket %d ends there",
					mode, f.bucket(mode, client, portClient, port)),
				frame: frameOf(f.eth(vipHash), f.between(client, f.vip(vipHash)), tcp{Src: portClient, Dst: port}),
				want:  want,
			})
		}
	}
	return inFamily(f, list)
}
