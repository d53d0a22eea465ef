package datapath_test

import (
	"fmt"
	"net"

	"github.com/lbctl/lbctl/internal/packettest"
)

type vlan = packettest.VLAN

// linkFixtures are about whom a frame was sent to, its tags, and its size.
func linkFixtures(f family) []fixture {
	service := f.serviceScope
	to := func(mac net.HardwareAddr, n byte, port uint16) []byte {
		return frameOf(eth{Dst: mac, Src: clientMAC}, f.ip(n), tcp{Src: portClient, Dst: port, Flags: packettest.SYN})
	}
	tagged := func(n byte, port uint16, tags ...packettest.Layer) []byte {
		layers := append([]packettest.Layer{f.eth(n)}, tags...)
		return frameOf(append(layers, f.ip(n), tcp{Src: portClient, Dst: port})...)
	}
	big := func(port uint16, payload int) []byte {
		return frameOf(f.eth(vipMine), f.ip(vipMine), tcp{Src: portClient, Dst: port}, raw{Bytes: make([]byte, payload)})
	}
	list := []fixture{
		{sentence: "a frame to our own MAC is ours, whoever owns its bucket",
			frame: to(ownMAC, vipMine, portSSH), want: accepted("direct", service("ssh", vipMine))},
		{sentence: "a frame to our own MAC is ours, though nobody owns its bucket",
			frame: to(ownMAC, vipNobody, portNone), want: accepted("direct", f.scope(vipNobody))},
		{sentence: "a frame to our own MAC counts as direct, though its bucket is ours",
			frame: to(ownMAC, vipMine, portWeb), want: accepted("direct", service("web", vipMine))},
		{sentence: "what no service names is dropped where the VIP says so, though sent to our own MAC",
			frame: to(ownMAC, vipStrict, portNone), want: dropped("unnamed-dropped", f.scope(vipStrict))},
		{sentence: "a frame to another machine's MAC is left alone",
			frame: to(peerMAC, vipMine, portWeb), want: untouched("other-host", f.scope(vipMine))},
		{sentence: "a broadcast frame is everybody's and goes by its bucket: ours",
			frame: to(broadcast, vipMine, portWeb), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a broadcast frame is everybody's and goes by its bucket: another node's",
			frame: to(broadcast, vipMine, portSSH), want: dropped("not-owner", service("ssh", vipMine))},
		{sentence: "a frame to another group's MAC is everybody's",
			frame: to(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, vipMine, portSSH), want: dropped("not-owner", service("ssh", vipMine))},
		{sentence: "a VIP on another interface is left alone here",
			frame: f.tcp(vipElsewhere, portWeb), want: untouched("other-interface", "")},
		{sentence: "a VIP on another interface is left alone, though sent to our own MAC",
			frame: to(ownMAC, vipElsewhere, portWeb), want: untouched("other-interface", "")},
		{sentence: "a VIP with an IGMP or MLD group's MAC works as any",
			frame: f.tcp(vipGroup, portWeb), want: accepted("accepted", service("web", vipGroup))},
		{sentence: "a shared unicast MAC is everybody's: our bucket",
			frame: f.tcp(vipStealth, portWeb), want: accepted("accepted", service("web", vipStealth))},
		{sentence: "a shared unicast MAC is everybody's: another node's bucket",
			frame: f.tcp(vipStealth, portSSH), want: dropped("not-owner", service("ssh", vipStealth))},
		{sentence: "another unicast MAC than the shared one is another machine's",
			frame: to(f.mac(vipStealth), vipMine, portWeb), want: untouched("other-host", f.scope(vipMine))},
		{sentence: "our own MAC beside a shared unicast one is direct",
			frame: to(ownMAC, vipStealth, portSSH), want: accepted("direct", service("ssh", vipStealth))},
		{sentence: "an 802.1Q tag stays on what is accepted",
			frame: tagged(vipMine, portWeb, vlan{ID: 5}), want: accepted("accepted", service("web", vipMine))},
		{sentence: "an 802.1Q tag hides no bucket of another node",
			frame: tagged(vipMine, portSSH, vlan{ID: 5}), want: dropped("not-owner", service("ssh", vipMine))},
		{sentence: "a priority tag, of VLAN 0, is a tag",
			frame: tagged(vipMine, portWeb, vlan{Priority: 7}), want: accepted("accepted", service("web", vipMine))},
		{sentence: "an 802.1ad tag alone is a tag",
			frame: tagged(vipMine, portWeb, vlan{ID: 5, Service: true}), want: accepted("accepted", service("web", vipMine))},
		{sentence: "QinQ is followed",
			frame: tagged(vipMine, portWeb, vlan{ID: 5, Service: true}, vlan{ID: 6}), want: accepted("accepted", service("web", vipMine))},
		{sentence: "two 802.1Q tags are followed",
			frame: tagged(vipMine, portSSH, vlan{ID: 5}, vlan{ID: 6}), want: dropped("not-owner", service("ssh", vipMine))},
		{sentence: "three tags are one too many, and left to the stack",
			frame: tagged(vipMine, portWeb, vlan{ID: 5}, vlan{ID: 6}, vlan{ID: 7}), want: untouched("not-ip", "")},
		{sentence: "a tagged packet for no VIP is left alone",
			frame: tagged(noVIP, portWeb, vlan{ID: 5}), want: untouched("not-vip", "")},
		{sentence: "a tag that is cut short is left to the stack",
			frame: tagged(vipMine, portWeb, vlan{ID: 5})[:17], want: untouched("unparsed", "")},
		{sentence: "a second tag that is cut short is left to the stack",
			frame: tagged(vipMine, portWeb, vlan{ID: 5}, vlan{ID: 6})[:21], want: untouched("unparsed", "")},
		{sentence: "a frame padded to 60 bytes keeps its padding",
			frame: packettest.Pad(f.tcp(vipMine, portWeb), 60), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a frame of 1514 bytes is accepted whole",
			frame: big(portWeb, 1514-len(f.tcp(vipMine, portWeb))), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a jumbo frame in several buffers is accepted whole and counted whole",
			frame: big(portWeb, 8960), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a jumbo frame of another node is dropped and counted whole",
			frame: big(portSSH, 8960), want: dropped("not-owner", service("ssh", vipMine))},
		{sentence: "a jumbo frame by the long way is accepted whole and counted whole",
			frame: packettest.Pad(tagged(vipMine, portWeb, vlan{ID: 5}), 9018), want: accepted("accepted", service("web", vipMine))},
		{sentence: "a jumbo frame for no VIP is left alone",
			frame: packettest.Pad(f.tcp(noVIP, portWeb), 9014), want: untouched("not-vip", "")},
	}
	return inFamily(f, append(list, runts(f)...))
}

// runts are a packet for a VIP cut to every length from an Ethernet header's to 64 bytes.
func runts(f family) []fixture {
	frame := packettest.Pad(f.tcp(vipMine, portWeb), 64)
	ip := 20
	if f == v6 {
		ip = 40
	}
	var list []fixture
	for n := 14; n <= 64; n++ {
		want := accepted("accepted", f.serviceScope("web", vipMine))
		switch {
		case n < 14+ip:
			want = untouched("unparsed", "")
		case n < 14+ip+4:
			want = accepted("unnamed-accepted", f.scope(vipMine))
		}
		list = append(list, fixture{sentence: fmt.Sprintf("a packet is judged by what is there of it: %d bytes", n),
			frame: frame[:n], want: want})
	}
	return list
}
