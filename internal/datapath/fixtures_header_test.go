package datapath_test

import (
	"fmt"
	"slices"

	"github.com/lbctl/lbctl/internal/packettest"
)

// optionFixtures are about IPv4 headers that are not 20 bytes long.
func optionFixtures() []fixture {
	f := v4
	with := func(n byte, port uint16, options []byte) []byte {
		return frameOf(f.eth(n), packettest.IPv4{Src: f.client, Dst: f.vip(n), Options: options},
			tcp{Src: portClient, Dst: port})
	}
	short := f.tcp(vipMine, portWeb)
	short[14] = 0x44
	long := f.tcp(vipMine, portWeb)
	long[14] = 0x4f
	routerAlert, nops := []byte{148, 4, 0, 0}, slices.Repeat([]byte{1}, 40)
	return inFamily(f, []fixture{
		{sentence: "options are stepped over: ours",
			frame: with(vipMine, portWeb, routerAlert), want: accepted("accepted", f.serviceScope("web", vipMine))},
		{sentence: "options are stepped over: another node's",
			frame: with(vipMine, portSSH, routerAlert), want: dropped("not-owner", f.serviceScope("ssh", vipMine))},
		{sentence: "forty bytes of options are stepped over",
			frame: with(vipMine, portSSH, nops), want: dropped("not-owner", f.serviceScope("ssh", vipMine))},
		{sentence: "options change nothing for no VIP",
			frame: with(noVIP, portWeb, nops), want: untouched("not-vip", "")},
		{sentence: "options change nothing for a VIP's unnamed",
			frame: with(vipStrict, portNone, nops), want: dropped("unnamed-dropped", f.scope(vipStrict))},
		{sentence: "options that are cut short are left to the stack",
			frame: with(vipMine, portWeb, nops)[:14+40], want: untouched("unparsed", "")},
		{sentence: "options that end the packet name no service",
			frame: with(vipMine, portWeb, nops)[:14+60], want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "a header length below 20 is left to the stack",
			frame: short, want: untouched("unparsed", "")},
		{sentence: "a header length past the end is left to the stack",
			frame: long[:14+40], want: untouched("unparsed", "")},
	})
}

// extensionFixtures are about IPv6 extension headers.
func extensionFixtures() []fixture {
	f := v6
	with := func(n byte, port uint16, chain ...packettest.Layer) []byte {
		layers := append([]packettest.Layer{f.eth(n), f.ip(n)}, chain...)
		return frameOf(append(layers, tcp{Src: portClient, Dst: port})...)
	}
	extension := func(kind uint8, size int) packettest.Layer { return packettest.Extension{Kind: kind, Size: size} }
	hop := extension(packettest.ProtocolHopByHop, 8)
	routing := extension(packettest.ProtocolRouting, 24)
	options := extension(packettest.ProtocolDestination, 16)
	atomic := packettest.Fragment{ID: 5}
	ah := packettest.AH{Size: 24}
	theirs := dropped("not-owner", f.serviceScope("ssh", vipMine))
	list := []fixture{
		{sentence: "every kind of header in its recommended order is stepped over: ours",
			frame: with(vipMine, portWeb, hop, options, routing, atomic, ah, options),
			want:  accepted("accepted", f.serviceScope("web", vipMine))},
		{sentence: "every kind of header in its recommended order is stepped over: another node's",
			frame: with(vipMine, portSSH, hop, options, routing, atomic, ah, options), want: theirs},
		{sentence: "headers in an order that nobody recommends are stepped over",
			frame: with(vipMine, portSSH, ah, options, hop, routing, options, ah), want: theirs},
		{sentence: "headers before a ping are stepped over",
			frame: frameOf(f.eth(vipTheirs), f.ip(vipTheirs), hop, options, f.echo()),
			want:  dropped("echo-not-owner", f.scope(vipTheirs))},
		{sentence: "headers before an ICMP error are stepped over",
			frame: frameOf(f.eth(vipMine), f.between(f.router, f.vip(vipMine)), hop, icmp{Type: 2},
				raw{Bytes: frameOf(f.fromVIP(vipMine), tcp{Src: portSSH, Dst: portClient})}),
			want: dropped("error-not-owner", f.serviceScope("ssh", vipMine))},
		{sentence: "headers before a datagram are stepped over",
			frame: frameOf(f.eth(vipMine), f.ip(vipMine), options, udp{Src: portClient, Dst: portSIP}),
			want:  dropped("not-owner", f.serviceScope("sip", vipMine))},
		{sentence: "headers for no VIP are not walked",
			frame: with(noVIP, portWeb, hop, options), want: untouched("not-vip", "")},
		{sentence: "headers behind a tag are stepped over",
			frame: frameOf(f.eth(vipMine), vlan{ID: 5}, f.ip(vipMine), hop, tcp{Src: portClient, Dst: portSSH}), want: theirs},
		{sentence: "headers that end in none are unnamed",
			frame: frameOf(f.eth(vipMine), f.ip(vipMine), hop, raw{Number: packettest.ProtocolNoNextHeader, Bytes: nil}),
			want:  accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "no next header is unnamed",
			frame: frameOf(f.eth(vipStrict), f.ip(vipStrict), raw{Number: packettest.ProtocolNoNextHeader, Bytes: nil}),
			want:  dropped("unnamed-dropped", f.scope(vipStrict))},
		{sentence: "a mobility header is a protocol as any",
			frame: frameOf(f.eth(vipMine), f.ip(vipMine), raw{Number: 135, Bytes: make([]byte, 8)}),
			want:  accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "a chain that cannot be followed goes by its sender: another node's",
			frame: frameOf(f.eth(vipTheirs), f.ip(vipTheirs), hop)[:14+40+8], want: dropped("unnamed-not-owner", f.scope(vipTheirs))},
		{sentence: "headers of nearly a kilobyte are stepped over",
			frame: with(vipMine, portSSH, extension(packettest.ProtocolDestination, 960)), want: theirs},
		{sentence: "headers of more than a kilobyte are not followed",
			frame: with(vipMine, portSSH, extension(packettest.ProtocolDestination, 1024)),
			want:  accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "the largest extension header of all is not followed",
			frame: with(vipMine, portSSH, extension(packettest.ProtocolRouting, 2048)),
			want:  accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "an authentication header's length counts in 4 bytes",
			frame: with(vipMine, portSSH, packettest.AH{Size: 1020}), want: accepted("unnamed-accepted", f.scope(vipMine))},
		{sentence: "an authentication header of 512 bytes is stepped over",
			frame: with(vipMine, portSSH, packettest.AH{Size: 512}), want: theirs},
	}
	for kind, name := range map[uint8]string{
		packettest.ProtocolHopByHop: "hop-by-hop options", packettest.ProtocolRouting: "a routing header",
		packettest.ProtocolDestination: "destination options",
	} {
		for _, size := range []int{8, 16, 64} {
			list = append(list, fixture{sentence: fmt.Sprintf("%s of %d bytes are stepped over", name, size),
				frame: with(vipMine, portSSH, extension(kind, size)), want: theirs})
		}
		cut := with(vipMine, portSSH, extension(kind, 16))
		for _, n := range []int{0, 1, 7, 8, 15, 16, 19} {
			list = append(list, fixture{sentence: fmt.Sprintf("%s cut to %d bytes are unnamed", name, n),
				frame: cut[:14+40+n], want: accepted("unnamed-accepted", f.scope(vipMine))})
		}
	}
	for n := 1; n <= 12; n++ {
		want := theirs
		if n > 8 {
			want = accepted("unnamed-accepted", f.scope(vipMine))
		}
		list = append(list, fixture{sentence: fmt.Sprintf("up to 8 extension headers are followed: %d", n),
			frame: with(vipMine, portSSH, slices.Repeat([]packettest.Layer{options}, n)...), want: want})
	}
	return inFamily(f, list)
}
