package datapath_test

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/lbctl/lbctl/internal/packettest"
)

type arp = packettest.ARP

var nobody4, nobody6 = netip.IPv4Unspecified(), netip.IPv6Unspecified()

// arpFixtures are about who answers for a VIP, and who claims one.
func arpFixtures() []fixture {
	f := v4
	vip, shared := f.vip, f.mac
	ask := func(n byte, dst net.HardwareAddr, sender netip.Addr, tags ...packettest.Layer) []byte {
		layers := append([]packettest.Layer{eth{Dst: dst, Src: clientMAC}}, tags...)
		return frameOf(append(layers, arp{Operation: packettest.ARPRequest, SenderMAC: clientMAC, Sender: sender, Target: vip(n)})...)
	}
	// the answer comes from this node's MAC and names the shared one
	answer := func(n byte, to netip.Addr, tags ...packettest.Layer) []byte {
		layers := append([]packettest.Layer{eth{Dst: clientMAC, Src: ownMAC}}, tags...)
		return frameOf(append(layers, arp{
			Operation: packettest.ARPReply,
			SenderMAC: shared(n), Sender: vip(n), TargetMAC: clientMAC, Target: to,
		})...)
	}
	say := func(operation uint16, mac net.HardwareAddr, sender, target netip.Addr) []byte {
		return frameOf(eth{Dst: broadcast, Src: mac}, arp{Operation: operation, SenderMAC: mac, Sender: sender, Target: target})
	}
	even, odd := f.clientIn(hashModes()[0], 0, 0, 0), f.clientIn(hashModes()[0], 1, 0, 0)
	yes := func(out []byte, n byte) ending { return answered(out, "arp-answered", f.scope(n)) }
	no := func(n byte) ending { return dropped("arp-not-owner", f.scope(n)) }
	conflict := dropped("arp-conflict", f.scope(vipMine))
	tag, service := vlan{ID: 5}, vlan{ID: 6, Service: true}
	list := []fixture{
		{sentence: "a request for a VIP is answered with the shared MAC by the sender's node",
			frame: ask(vipMine, broadcast, f.client), want: yes(answer(vipMine, f.client), vipMine)},
		{sentence: "a request for a VIP is not answered by other nodes, and never seen by their stacks",
			frame: ask(vipTheirs, broadcast, f.client), want: no(vipTheirs)},
		{sentence: "a request for a VIP is not answered where nobody is eligible",
			frame: ask(vipNobody, broadcast, f.client), want: dropped("no-owner", f.scope(vipNobody))},
		{sentence: "a request goes by its sender: an even bucket",
			frame: ask(vipHash, broadcast, even), want: yes(answer(vipHash, even), vipHash)},
		{sentence: "a request goes by its sender: an odd bucket",
			frame: ask(vipHash, broadcast, odd), want: no(vipHash)},
		{sentence: "a request with padding is answered with padding",
			frame: packettest.Pad(ask(vipMine, broadcast, f.client), 60),
			want:  yes(packettest.Pad(answer(vipMine, f.client), 60), vipMine)},
		{sentence: "a request with a tag is answered with the tag",
			frame: ask(vipMine, broadcast, f.client, tag), want: yes(answer(vipMine, f.client, tag), vipMine)},
		{sentence: "a request with two tags is answered with both",
			frame: ask(vipMine, broadcast, f.client, service, tag), want: yes(answer(vipMine, f.client, service, tag), vipMine)},
		{sentence: "a probe, from no address, is answered by one node (RFC 5227)",
			frame: ask(vipMine, broadcast, nobody4), want: yes(answer(vipMine, nobody4), vipMine)},
		{sentence: "a probe is not answered by other nodes",
			frame: ask(vipTheirs, broadcast, nobody4), want: no(vipTheirs)},
		{sentence: "a request to the shared MAC, as a cache refreshes itself, is answered by one node",
			frame: ask(vipMine, shared(vipMine), f.client), want: yes(answer(vipMine, f.client), vipMine)},
		{sentence: "a request to the shared MAC is not answered by other nodes",
			frame: ask(vipTheirs, shared(vipTheirs), f.client), want: no(vipTheirs)},
		{sentence: "a request to our own MAC is answered, whoever owns its bucket",
			frame: ask(vipTheirs, ownMAC, f.client), want: yes(answer(vipTheirs, f.client), vipTheirs)},
		{sentence: "a request to our own MAC is answered, though nobody owns its bucket",
			frame: ask(vipNobody, ownMAC, f.client), want: yes(answer(vipNobody, f.client), vipNobody)},
		{sentence: "a request to another machine's MAC is left alone",
			frame: ask(vipMine, peerMAC, f.client), want: untouched("other-host", f.scope(vipMine))},
		{sentence: "a request to a shared unicast MAC is answered by one node",
			frame: ask(vipStealth, shared(vipStealth), f.client), want: yes(answer(vipStealth, f.client), vipStealth)},
		{sentence: "a request for an address that is no VIP is left alone",
			frame: ask(noVIP, broadcast, f.client), want: untouched("not-vip", "")},
		{sentence: "a request for a VIP of another interface is left alone here",
			frame: ask(vipElsewhere, broadcast, f.client), want: untouched("other-interface", "")},
		{sentence: "a reply about another address is left alone",
			frame: say(packettest.ARPReply, clientMAC, f.client, f.router), want: untouched("not-vip", "")},
		{sentence: "a reply to a VIP is left alone",
			frame: say(packettest.ARPReply, clientMAC, f.client, vip(vipMine)), want: untouched("not-vip", "")},
		{sentence: "an announcement of another address is left alone",
			frame: say(packettest.ARPRequest, clientMAC, f.client, f.client), want: untouched("not-vip", "")},
		{sentence: "a reply that claims a VIP is a conflict, and the stack does not see it",
			frame: say(packettest.ARPReply, clientMAC, vip(vipMine), f.client), want: conflict},
		{sentence: "an announcement that claims a VIP is a conflict",
			frame: say(packettest.ARPRequest, clientMAC, vip(vipMine), vip(vipMine)), want: conflict},
		{sentence: "a request that claims a VIP by the way is a conflict",
			frame: say(packettest.ARPRequest, clientMAC, vip(vipMine), vip(noVIP)), want: conflict},
		{sentence: "a request that claims one VIP and asks for another is a conflict",
			frame: say(packettest.ARPRequest, clientMAC, vip(vipMine), vip(vipTheirs)), want: conflict},
		{sentence: "another node that announces a VIP with its own MAC is a conflict",
			frame: say(packettest.ARPReply, peerMAC, vip(vipMine), vip(vipMine)), want: conflict},
		{sentence: "a claim of a VIP of another interface is left alone here",
			frame: say(packettest.ARPReply, clientMAC, vip(vipElsewhere), f.client), want: untouched("not-vip", "")},
		{sentence: "another node's answer, with the shared MAC, is no conflict",
			frame: frameOf(eth{Dst: clientMAC, Src: peerMAC}, arp{Operation: packettest.ARPReply, SenderMAC: shared(vipMine),
				Sender: vip(vipMine), TargetMAC: clientMAC, Target: f.client}), want: untouched("not-vip", "")},
		{sentence: "an operation that is neither request nor reply is left alone",
			frame: say(8, clientMAC, f.client, vip(vipMine)), want: untouched("not-vip", "")},
	}
	for i, field := range []string{
		0: "a hardware type of another kind", 2: "a protocol of another kind",
		4: "a hardware address of another length", 5: "a protocol address of another length", 6: "",
	} {
		if field == "" {
			continue
		}
		frame := ask(vipMine, broadcast, f.client)
		frame[14+i] ^= 0x10
		list = append(list, fixture{sentence: field + " is left to the stack", frame: frame, want: untouched("unparsed", "")})
	}
	whole := ask(vipMine, broadcast, f.client)
	for n := 14; n < len(whole); n++ {
		list = append(list, fixture{sentence: fmt.Sprintf("a request cut to %d bytes is left to the stack", n),
			frame: whole[:n], want: untouched("unparsed", "")})
	}
	for i := range list {
		list[i].sentence = "ARP: " + list[i].sentence
	}
	return list
}
