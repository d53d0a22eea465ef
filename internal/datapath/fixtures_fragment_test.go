package datapath_test

import (
	"github.com/lbctl/lbctl/internal/packettest"
)

// A datagram is the part of a fragment's header that its siblings have in common.
type datagram struct {
	family family
	vip    byte
	id     uint16
}

// fragment is one piece, of which the layers are the content.
func (d datagram) fragment(offset int, more bool, layers ...packettest.Layer) []byte {
	src, dst := d.family.client, d.family.vip(d.vip)
	headers := []packettest.Layer{d.family.eth(d.vip)}
	if d.family == v4 {
		headers = append(headers, packettest.IPv4{Src: src, Dst: dst, ID: d.id, Offset: offset, More: more})
	} else {
		headers = append(headers, packettest.IPv6{Src: src, Dst: dst},
			packettest.Fragment{ID: uint32(d.id) << 16, Offset: offset, More: more})
	}
	return frameOf(append(headers, layers...)...)
}

func (d datagram) first(port uint16) []byte {
	return d.fragment(0, true, udp{Src: portClient, Dst: port}, raw{Bytes: make([]byte, 56)})
}

func (d datagram) later() []byte {
	return d.fragment(64, true, raw{Number: packettest.ProtocolUDP, Bytes: make([]byte, 64)})
}

func (d datagram) last() []byte {
	return d.fragment(128, false, raw{Number: packettest.ProtocolUDP, Bytes: make([]byte, 1)})
}

// fragmentFixtures are about what follows a first fragment. Each has datagrams of its own: what the
// program remembers of one must not reach the next.
func fragmentFixtures(f family) []fixture {
	service := f.serviceScope
	id := uint16(0)
	next := func(n byte) datagram {
		id++
		return datagram{f, n, id}
	}
	var list []fixture
	add := func(sentence string, want ending, frames ...[]byte) {
		last := len(frames) - 1
		list = append(list, fixture{sentence, frames[:last], frames[last], want})
	}

	d := next(vipMine)
	add("a first fragment goes by its ports: ours", accepted("accepted", service("dns", vipMine)), d.first(portDNS))
	add("a fragment follows the first that was accepted", accepted("fragment-accepted", service("dns", vipMine)), d.later())
	add("the last fragment follows the first that was accepted", accepted("fragment-accepted", service("dns", vipMine)), d.last())
	d = next(vipMine)
	add("a first fragment goes by its ports: another node's", dropped("not-owner", service("sip", vipMine)), d.first(portSIP))
	add("a fragment follows the first that was dropped", dropped("fragment-not-owner", service("sip", vipMine)), d.later())
	add("the last fragment follows the first that was dropped", dropped("fragment-not-owner", service("sip", vipMine)), d.last())
	d = next(vipMine)
	add("a fragment whose first was not seen is passed, for only the owner completes it",
		accepted("fragment-unknown", f.scope(vipMine)), d.later())
	d = next(vipTheirs)
	add("a fragment whose first was not seen is passed by whoever owns nothing, too",
		accepted("fragment-unknown", f.scope(vipTheirs)), d.last())
	d = next(vipMine)
	add("a first fragment that comes late decides as ever", dropped("not-owner", service("sip", vipMine)), d.last(), d.first(portSIP))
	add("what comes after a late first fragment follows it", dropped("fragment-not-owner", service("sip", vipMine)), d.later())
	d, other := next(vipMine), next(vipMine)
	add("a fragment of another datagram does not follow",
		accepted("fragment-unknown", f.scope(vipMine)), d.first(portSIP), other.later())
	d = next(vipMine)
	add("an identification that is used again is decided again",
		accepted("fragment-accepted", service("dns", vipMine)), d.first(portSIP), d.later(), d.first(portDNS), d.later())
	d = next(vipMine)
	stranger := d.later()
	stranger[14+12+3]++ // in IPv4 the source's end; in IPv6 the source's middle
	add("a fragment of another sender does not follow",
		accepted("fragment-unknown", f.scope(vipMine)), d.first(portSIP), stranger)
	d = next(vipNobody)
	add("a fragment follows a first that was nobody's", dropped("fragment-not-owner", f.scope(vipNobody)), d.first(portDNS), d.later())
	d = next(vipStrict)
	add("a first fragment that no service names is dropped where the VIP says so",
		dropped("unnamed-dropped", f.scope(vipStrict)), d.first(portDNS))
	add("a fragment follows a first that was dropped as unnamed", dropped("fragment-not-owner", f.scope(vipStrict)), d.later())
	d = next(vipMine)
	cut := d.fragment(0, true, raw{Number: packettest.ProtocolUDP, Bytes: nil})
	add("a first fragment too small for its ports goes by its sender", accepted("unnamed-accepted", f.scope(vipMine)), cut)
	add("a fragment follows a first that was too small", accepted("fragment-accepted", f.scope(vipMine)), d.later())
	d = next(vipTheirs)
	add("a fragmented ping goes by its sender", dropped("echo-not-owner", f.scope(vipTheirs)),
		d.fragment(0, true, f.echo(), raw{Bytes: make([]byte, 56)}))
	rest := d.fragment(64, false, raw{Number: packettest.ProtocolICMP, Bytes: make([]byte, 8)})
	if f == v6 {
		rest = d.fragment(64, false, raw{Number: packettest.ProtocolICMPv6, Bytes: make([]byte, 8)})
	}
	add("the rest of a fragmented ping follows", dropped("fragment-not-owner", f.scope(vipTheirs)), rest)
	d = next(vipMine)
	add("a first fragment of TCP goes by its ports", dropped("not-owner", service("ssh", vipMine)),
		d.fragment(0, true, tcp{Src: portClient, Dst: portSSH}, raw{Bytes: make([]byte, 4)}))
	add("a fragment of TCP follows", dropped("fragment-not-owner", service("ssh", vipMine)),
		d.fragment(24, false, raw{Number: packettest.ProtocolTCP, Bytes: make([]byte, 4)}))
	d = next(vipMine)
	direct := d.first(portSIP)
	copy(direct, ownMAC)
	add("a first fragment to our own MAC is ours", accepted("direct", service("sip", vipMine)), direct)
	add("a fragment follows a first that was sent to our own MAC", accepted("fragment-accepted", service("sip", vipMine)), d.later())
	d = next(noVIP)
	add("a first fragment for no VIP is left alone", untouched("not-vip", ""), d.first(portDNS))
	add("a later fragment for no VIP is left alone", untouched("not-vip", ""), d.later())
	d = next(vipMine)
	tagged := d.later()
	tagged = append(append(tagged[:12:12], 0x81, 0, 0, 5), tagged[12:]...)
	add("a fragment follows with a tag, too", dropped("fragment-not-owner", service("sip", vipMine)), d.first(portSIP), tagged)
	return inFamily(f, append(list, moreFragments(f, next)...))
}

// moreFragments are of one family alone.
func moreFragments(f family, next func(byte) datagram) []fixture {
	src, dst := f.client, f.vip(vipMine)
	d, other := next(vipMine), next(vipMine)
	if f == v4 {
		ip := packettest.IPv4{Src: src, Dst: dst, Dont: true}
		evil := f.udp(vipMine, portDNS)
		evil[14+6] |= 0x80
		return []fixture{
			{sentence: "a datagram that must not be fragmented is none", want: accepted("accepted", f.serviceScope("dns", vipMine)),
				frame: frameOf(f.eth(vipMine), ip, udp{Src: portClient, Dst: portDNS})},
			{sentence: "the reserved bit of RFC 791 makes no fragment", want: accepted("accepted", f.serviceScope("dns", vipMine)),
				frame: evil},
			{sentence: "a fragment of another protocol does not follow", want: accepted("fragment-unknown", f.scope(vipMine)),
				before: [][]byte{d.first(portSIP)}, frame: d.fragment(64, false, raw{Number: packettest.ProtocolTCP, Bytes: make([]byte, 8)})},
			{sentence: "a first fragment with options goes by its ports", want: dropped("not-owner", f.serviceScope("sip", vipMine)),
				frame: frameOf(f.eth(vipMine), packettest.IPv4{Src: src, Dst: dst, ID: 0xfffe, More: true, Options: make([]byte, 8)},
					udp{Src: portClient, Dst: portSIP})},
			{sentence: "a fragment follows a first with options", want: dropped("fragment-not-owner", f.serviceScope("sip", vipMine)),
				frame: datagram{f, vipMine, 0xfffe}.later()},
		}
	}
	ip := packettest.IPv6{Src: src, Dst: dst}
	options := packettest.Extension{Kind: packettest.ProtocolDestination}
	cut := frameOf(f.eth(vipMine), ip, packettest.Fragment{ID: 99, More: true})
	return []fixture{
		{sentence: "an atomic fragment is a whole packet: ours", want: accepted("accepted", f.serviceScope("dns", vipMine)),
			frame: frameOf(f.eth(vipMine), ip, packettest.Fragment{ID: 98}, udp{Src: portClient, Dst: portDNS})},
		{sentence: "an atomic fragment is a whole packet: another node's", want: dropped("not-owner", f.serviceScope("sip", vipMine)),
			frame: frameOf(f.eth(vipMine), ip, packettest.Fragment{ID: 98}, udp{Src: portClient, Dst: portSIP})},
		{sentence: "an atomic fragment is not remembered", want: accepted("fragment-unknown", f.scope(vipMine)),
			frame: frameOf(f.eth(vipMine), ip, packettest.Fragment{ID: 98, Offset: 8}, raw{Number: packettest.ProtocolUDP, Bytes: make([]byte, 8)})},
		{sentence: "a first fragment whose options are fragmented, too, goes by its ports", want: dropped("not-owner", f.serviceScope("sip", vipMine)),
			frame: d.fragment(0, true, options, udp{Src: portClient, Dst: portSIP}, raw{Bytes: make([]byte, 48)})},
		{sentence: "a fragment follows a first whose options were fragmented, too", want: dropped("fragment-not-owner", f.serviceScope("sip", vipMine)),
			frame: d.fragment(64, false, raw{Number: packettest.ProtocolDestination, Bytes: make([]byte, 8)})},
		{sentence: "the next header of a later fragment means nothing (RFC 8200 section 4.5)", want: dropped("fragment-not-owner", f.serviceScope("sip", vipMine)),
			before: [][]byte{other.first(portSIP)}, frame: other.fragment(64, false, raw{Number: packettest.ProtocolTCP, Bytes: make([]byte, 8)})},
		{sentence: "a fragment behind hop-by-hop options is one", want: accepted("fragment-unknown", f.scope(vipMine)),
			frame: frameOf(f.eth(vipMine), ip, packettest.Extension{Kind: packettest.ProtocolHopByHop},
				packettest.Fragment{ID: 97, Offset: 8}, raw{Number: packettest.ProtocolUDP, Bytes: make([]byte, 8)})},
		{sentence: "a fragment header that ends the packet names no service", want: accepted("unnamed-accepted", f.scope(vipMine)),
			frame: cut},
		{sentence: "half a fragment header is unnamed and remembered by nobody", want: accepted("unnamed-accepted", f.scope(vipMine)),
			frame: cut[:len(cut)-4]},
	}
}
