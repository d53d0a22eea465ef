package datapath_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// The NAT fixtures' world: a machine between two links, one VIP a family with a service for each way
// of naming ports, each with one backend, and one with all ports. What becomes of the connections of
// "web" is counted.
const (
	vipNAT    = 210
	vipNATAll = 211

	portFar    = 443  // tcp, to the same port of the backend on the other link
	portFirst  = 5000 // tcp 5000-5009, to the same ports
	portNoHop  = 81   // tcp, its backend cannot be reached
	portNobody = 82   // tcp, no backend
	portOthers = 83   // tcp, another node's

	webPort = 8080 // of backends for portWeb
	dnsPort = 5353 // and for portDNS

	backendNear = 11 // on the first link
	backendFar  = 12 // on the second
	backendAll  = 13 // on the first, for vipNATAll
)

// natWorld is a director with other services.
func natWorld(t *testing.T) *director {
	t.Helper()
	return newDirector(t, func(d *director) {
		d.state.Nodes = append(d.state.Nodes, lb.Node{Index: 1, Name: "n1", Weight: 100, MAC: peerMAC})
		d.state.Tables = append(d.state.Tables, &lb.Table{Owners: slices.Repeat([]int16{1}, lb.Buckets)})
		for _, f := range families {
			for _, n := range []byte{vipNAT, vipNATAll} {
				d.state.VIPs = append(d.state.VIPs, lb.VIP{Addr: f.vip(n), Interface: "eth0", MAC: f.mac(n)})
			}
			vip := len(d.state.VIPs) - 2
			add := func(s lb.Service, first, last uint16, backends ...lb.Backend) {
				s.VIP, s.Forward, s.Hash = vip, lb.ForwardNAT, lb.HashSourcePort
				s.Ports, s.Backends = []lb.PortRange{{First: first, Last: last}}, backends
				choice := &lb.Choice{Current: make([]int16, lb.Slots)}
				if len(backends) == 0 {
					choice.Current = slices.Repeat([]int16{lb.NoBackend}, lb.Slots)
				}
				s.Choice = choice
				d.state.Services = append(d.state.Services, s)
			}
			tcp, udp := lb.ProtocolTCP, lb.ProtocolUDP
			at := func(link int, n byte, port uint16) lb.Backend {
				b := d.backend(f, n, link)
				b.Port = port
				return b
			}
			watched := at(0, backendNear, webPort)
			watched.Watched = true
			add(lb.Service{Name: "web", Protocol: tcp}, portWeb, portWeb, watched)
			add(lb.Service{Name: "dns", Protocol: udp}, portDNS, portDNS, at(0, backendNear, dnsPort))
			add(lb.Service{Name: "far", Protocol: tcp}, portFar, portFar, at(1, backendFar, 0))
			add(lb.Service{Name: "range", Protocol: tcp}, portFirst, portFirst+9, at(0, backendNear, 0))
			add(lb.Service{Name: "no-hop", Protocol: tcp}, portNoHop, portNoHop, lb.Backend{Name: "b", Addr: f.onLink(0, 14)})
			add(lb.Service{Name: "nobody", Protocol: tcp}, portNobody, portNobody)
			add(lb.Service{Name: "others", Protocol: tcp, Table: 1}, portOthers, portOthers, at(0, 15, 0))
			vip++
			add(lb.Service{Name: "all", Protocol: udp}, 0, 65535, at(0, backendAll, 0))
		}
	})
}

// natFixturesBy lists them by the link that they come in by.
func natFixturesBy(d *director) (list [2][]fixture) {
	for _, f := range families {
		n := natFixtures{family: f, d: d}
		for link, some := range [][]fixture{
			slices.Concat(n.requests(), n.errorsToVIP(), n.replies(), n.held(), n.errorsToClient()), n.fromFar(),
		} {
			for i := range some {
				some[i].sentence = "NAT: " + some[i].sentence
			}
			list[link] = append(list[link], inFamily(f, some)...)
		}
	}
	return list
}

// allNATFixtures are theirs wherever the machine is.
func allNATFixtures() []fixture {
	list := natFixturesBy(&director{links: [2]*net.Interface{loopback, loopback}})
	return slices.Concat(list[0], list[1])
}

func TestEveryPacketOfNATEndsWhereItsSentenceSays(t *testing.T) {
	d := natWorld(t)
	for link, list := range natFixturesBy(d) {
		t.Run(d.links[link].Name, func(t *testing.T) {
			checkAll(t, d.instance, d.ways(link), list)
		})
	}
}

// ways are those of a packet that comes in by a link.
func (d *director) ways(link int) []way {
	var list []way
	for _, w := range ways(d.instance) {
		run := w.run
		w.run = func(frame []byte, _ int) (out datapath.Outcome, err error) {
			err = d.host.Do(func() error {
				out, err = run(frame, d.links[link].Index)
				return err
			})
			return out, err
		}
		list = append(list, w)
	}
	return list
}

// natFixtures builds frames of one family by hand: nothing is computed from what goes in.
type natFixtures struct {
	family
	d *director
}

const natTTL = 40

// packet is one with a TTL.
func (n natFixtures) packet(src, dst netip.Addr, ttl uint8) packettest.Layer {
	if n.family == v4 {
		return packettest.IPv4{Src: src, Dst: dst, TTL: ttl}
	}
	return packettest.IPv6{Src: src, Dst: dst, HopLimit: ttl}
}

// in is a frame from a client to all nodes, out the one from us to a backend.
func (n natFixtures) in(rest ...packettest.Layer) []byte {
	return frameOf(append([]packettest.Layer{n.eth(vipNAT), n.packet(n.client, n.vip(vipNAT), natTTL)}, rest...)...)
}

func (n natFixtures) out(link int, backend byte, rest ...packettest.Layer) []byte {
	return frameOf(append([]packettest.Layer{n.leave(link, backend), n.packet(n.client, n.onLink(link, backend), natTTL-1)}, rest...)...)
}

// leave is the header of a frame from us to a hop.
func (n natFixtures) leave(link int, hop byte) packettest.Layer {
	return packettest.Ethernet{Dst: hopMAC(link, hop), Src: n.d.links[link].HardwareAddr}
}

// toUs is the header of a frame from a hop to us.
func (n natFixtures) toUs(link int, hop byte) packettest.Layer {
	return packettest.Ethernet{Dst: n.d.links[link].HardwareAddr, Src: hopMAC(link, hop)}
}

// back is a frame from a backend to a client, home the one from us to the client's router.
func (n natFixtures) back(link int, backend byte, client netip.Addr, rest ...packettest.Layer) []byte {
	return frameOf(append([]packettest.Layer{n.toUs(link, backend), n.packet(n.onLink(link, backend), client, natTTL)}, rest...)...)
}

func (n natFixtures) home(link int, vip byte, client netip.Addr, rest ...packettest.Layer) []byte {
	return frameOf(append([]packettest.Layer{n.leave(link, 1), n.packet(n.vip(vip), client, natTTL-1)}, rest...)...)
}

// farClient is behind the router on the second link.
func (n natFixtures) farClient() netip.Addr { return n.clients(1).Addr().Next() }

func turned(out []byte, reason, scope string) ending {
	return ending{action: actionTX, out: out, away: true, reason: reason, scope: scope}
}

func redirected(out []byte, reason, scope string) ending {
	return ending{action: actionRedirect, out: out, away: true, reason: reason, scope: scope}
}

func (n natFixtures) requests() []fixture {
	web, dns, far := n.serviceScope("web", vipNAT), n.serviceScope("dns", vipNAT), n.serviceScope("far", vipNAT)
	payload := raw{Bytes: []byte("payload")}
	var list []fixture
	for name, flags := range map[string]uint8{"SYN": packettest.SYN, "ACK": packettest.ACK, "FIN": packettest.FIN | packettest.ACK, "RST": packettest.RST} {
		list = append(list, fixture{sentence: "a segment with " + name + " is sent to the backend's address and port",
			frame: n.in(tcp{Src: portClient, Dst: portWeb, Flags: flags}, payload),
			want:  turned(n.out(0, backendNear, tcp{Src: portClient, Dst: webPort, Flags: flags}, payload), "forwarded", web)})
	}
	tag := packettest.VLAN{ID: 7, Priority: 2}
	first, later := n.fragments(n.eth(vipNAT), n.client, n.vip(vipNAT), natTTL, portClient, portDNS)
	firstOut, laterOut := n.fragments(n.leave(0, backendNear), n.client, n.onLink(0, backendNear), natTTL-1, portClient, dnsPort)
	_, unknown := n.fragments(n.eth(vipNAT), n.farClient(), n.vip(vipNAT), natTTL, portClient, portDNS)
	short := n.firstFragment(16)
	list = append(list, []fixture{
		{sentence: "a datagram is sent to the backend's address and port",
			frame: n.in(udp{Src: portClient, Dst: portDNS}, payload),
			want:  turned(n.out(0, backendNear, udp{Src: portClient, Dst: dnsPort}, payload), "forwarded", dns)},
		{sentence: "a datagram whose checksum would become 0 has 0xffff, because 0 says that there is none",
			frame: n.in(udp{Src: portClient, Dst: portDNS}, n.zeroSum()),
			want:  turned(n.out(0, backendNear, udp{Src: portClient, Dst: dnsPort}, n.zeroSum()), "forwarded", dns)},
		{sentence: "a backend on another link gets its packets there, at the port that the client asked for",
			frame: n.in(tcp{Src: portClient, Dst: portFar}),
			want:  redirected(n.out(1, backendFar, tcp{Src: portClient, Dst: portFar}), "redirected", far)},
		{sentence: "the ports of a range stay: its last one",
			frame: n.in(tcp{Src: portClient, Dst: portFirst + 9}),
			want:  turned(n.out(0, backendNear, tcp{Src: portClient, Dst: portFirst + 9}), "forwarded", n.serviceScope("range", vipNAT))},
		{sentence: "the port of a service of all ports stays",
			frame: frameOf(n.eth(vipNATAll), n.packet(n.client, n.vip(vipNATAll), natTTL), udp{Src: portClient, Dst: 40001}),
			want:  turned(n.out(0, backendAll, udp{Src: portClient, Dst: 40001}), "forwarded", n.serviceScope("all", vipNATAll))},
		{sentence: "a tag stays",
			frame: frameOf(n.eth(vipNAT), tag, n.packet(n.client, n.vip(vipNAT), natTTL), tcp{Src: portClient, Dst: portWeb}),
			want: turned(frameOf(n.leave(0, backendNear), tag, n.packet(n.client, n.onLink(0, backendNear), natTTL-1),
				tcp{Src: portClient, Dst: webPort}), "forwarded", web)},
		{sentence: "what fills a frame up stays",
			frame: packettest.Pad(n.in(tcp{Src: portClient, Dst: portWeb}), 90),
			want:  turned(packettest.Pad(n.out(0, backendNear, tcp{Src: portClient, Dst: webPort}), 90), "forwarded", web)},
		{sentence: "headers before the transport's stay",
			frame: frameOf(append(append([]packettest.Layer{n.eth(vipNAT)}, n.options(n.client, n.vip(vipNAT), natTTL)...), tcp{Src: portClient, Dst: portWeb})...),
			want: turned(frameOf(append(append([]packettest.Layer{n.leave(0, backendNear)}, n.options(n.client, n.onLink(0, backendNear), natTTL-1)...),
				tcp{Src: portClient, Dst: webPort})...), "forwarded", web)},
		{sentence: "a backend is a client of the VIP: its own address stays, and the other backend answers by us",
			frame: frameOf(n.eth(vipNAT), n.packet(n.onLink(0, backendNear), n.vip(vipNAT), natTTL), tcp{Src: portClient, Dst: portFar}),
			want: redirected(frameOf(n.leave(1, backendFar), n.packet(n.onLink(0, backendNear), n.onLink(1, backendFar), natTTL-1),
				tcp{Src: portClient, Dst: portFar}), "redirected", far)},
		{sentence: "a first fragment is turned with its ports",
			frame: first, want: turned(firstOut, "forwarded", dns)},
		{sentence: "a later fragment goes after the first",
			before: [][]byte{first}, frame: later, want: turned(laterOut, "forwarded", dns)},
		{sentence: "a later fragment whose first was not seen is nobody's to turn",
			frame: unknown, want: n.unknownFragment(unknown)},
		{sentence: "a first fragment without the checksum cannot be turned",
			frame: short, want: dropped("not-translated", web)},
		{sentence: "without a way to the backend nothing is turned",
			frame: n.in(tcp{Src: portClient, Dst: portNoHop}), want: dropped("no-way", n.serviceScope("no-hop", vipNAT))},
		{sentence: "without a backend nothing is turned",
			frame: n.in(tcp{Src: portClient, Dst: portNobody}), want: dropped("no-backend", n.serviceScope("nobody", vipNAT))},
		{sentence: "another node's flow is left to it",
			frame: n.in(tcp{Src: portClient, Dst: portOthers}), want: dropped("not-owner", n.serviceScope("others", vipNAT))},
	}...)
	if n.family == v4 {
		list = append(list, fixture{sentence: "a datagram without a checksum gets none",
			frame: n.in(packettest.UDP{Src: portClient, Dst: portDNS, NoChecksum: true}, payload),
			want:  turned(n.out(0, backendNear, packettest.UDP{Src: portClient, Dst: dnsPort, NoChecksum: true}, payload), "forwarded", dns)})
	}
	return list
}

// zeroSum is a payload with which the datagram to the backend has a checksum of 0, written 0xffff.
func (n natFixtures) zeroSum() packettest.Layer {
	b := make([]byte, 2)
	for i := range 1 << 16 {
		binary.BigEndian.PutUint16(b, uint16(i))
		frame := n.out(0, backendNear, udp{Src: portClient, Dst: dnsPort}, raw{Bytes: b})
		if binary.BigEndian.Uint16(frame[len(frame)-4:]) == 0xffff {
			return raw{Bytes: b}
		}
	}
	panic("no such payload")
}

// options is an IP header with more than the usual behind it.
func (n natFixtures) options(src, dst netip.Addr, ttl uint8) []packettest.Layer {
	if n.family == v4 {
		return []packettest.Layer{packettest.IPv4{Src: src, Dst: dst, TTL: ttl, Options: []byte{1, 1, 1, 0}}}
	}
	return []packettest.Layer{packettest.IPv6{Src: src, Dst: dst, HopLimit: ttl}, packettest.Extension{Kind: packettest.ProtocolDestination}}
}

// fragments are the two of a datagram.
func (n natFixtures) fragments(eth packettest.Layer, src, dst netip.Addr, ttl uint8, srcPort, dstPort uint16) (first, later []byte) {
	whole := packettest.Frame(n.packet(src, dst, ttl), udp{Src: srcPort, Dst: dstPort}, raw{Bytes: make([]byte, 40)})
	whole = whole[packettest.HeadersOf(whole):]
	part := func(at, size int, more bool) []byte {
		body := raw{Number: packettest.ProtocolUDP, Bytes: whole[at:][:size]}
		if n.family == v4 {
			return frameOf(eth, packettest.IPv4{Src: src, Dst: dst, TTL: ttl, ID: 77, Offset: at, More: more}, body)
		}
		return frameOf(eth, n.packet(src, dst, ttl), packettest.Fragment{ID: 77, Offset: at, More: more}, body)
	}
	return part(0, 24, true), part(24, 24, false)
}

// firstFragment has only so much of a segment.
func (n natFixtures) firstFragment(size int) []byte {
	whole := packettest.Frame(n.packet(n.client, n.vip(vipNAT), natTTL), tcp{Src: portClient, Dst: portWeb})
	body := raw{Number: packettest.ProtocolTCP, Bytes: whole[packettest.HeadersOf(whole):][:size]}
	if n.family == v4 {
		return frameOf(n.eth(vipNAT), packettest.IPv4{Src: n.client, Dst: n.vip(vipNAT), TTL: natTTL, ID: 78, More: true}, body)
	}
	return frameOf(n.eth(vipNAT), n.packet(n.client, n.vip(vipNAT), natTTL), packettest.Fragment{ID: 78, More: true}, body)
}

func (n natFixtures) unknownFragment(frame []byte) ending {
	out := slices.Concat(n.d.links[0].HardwareAddr, frame[6:])
	return ending{action: actionPass, out: out, own: true, reason: "fragment-unknown", scope: n.scope(vipNAT)}
}

// errorsToVIP are a router's ICMP errors about what the VIP sent.
func (n natFixtures) errorsToVIP() []fixture {
	web, dns := n.serviceScope("web", vipNAT), n.serviceScope("dns", vipNAT)
	vip, near := n.vip(vipNAT), n.onLink(0, backendNear)
	about := func(quoted []byte) []byte {
		return frameOf(n.eth(vipNAT), n.packet(n.router, vip, natTTL), n.tooBig(), raw{Bytes: quoted})
	}
	turnedTo := func(quoted []byte) []byte {
		return frameOf(n.leave(0, backendNear), n.packet(n.router, near, natTTL-1), n.tooBig(), raw{Bytes: quoted})
	}
	segment := func(src netip.Addr, port uint16) []byte {
		return packettest.Frame(n.packet(src, n.client, 9), tcp{Src: port, Dst: portClient, Flags: packettest.ACK}, raw{Bytes: make([]byte, 64)})
	}
	datagram := func(src netip.Addr, port uint16) []byte {
		return packettest.Frame(n.packet(src, n.client, 9), udp{Src: port, Dst: portClient}, raw{Bytes: make([]byte, 64)})
	}
	before, after := segment(vip, portWeb), segment(near, webPort)
	list := []fixture{
		{sentence: "an error about a datagram of the VIP is turned to its backend, with what it quotes",
			frame: about(datagram(vip, portDNS)), want: turned(turnedTo(datagram(near, dnsPort)), "forwarded", dns)},
		{sentence: "an error about a flow of a port that stays is turned, too",
			frame: about(segment(vip, portFirst)), want: turned(turnedTo(segment(near, portFirst)), "forwarded", n.serviceScope("range", vipNAT))},
		{sentence: "an error about another node's flow is left to it",
			frame: about(segment(vip, portOthers)), want: dropped("error-not-owner", n.serviceScope("others", vipNAT))},
	}
	headers := packettest.HeadersOf(before)
	for _, length := range []int{8, 16, 18, 20, 21, 84} {
		list = append(list, fixture{sentence: fmt.Sprintf("an error that quotes %d bytes of a segment is turned to its backend", length),
			frame: about(before[:headers+length]), want: turned(turnedTo(after[:headers+length]), "forwarded", web)})
	}
	return list
}

// tooBig is the error that says what fits.
func (n natFixtures) tooBig() icmp {
	if n.family == v4 {
		return icmp{Type: 3, Code: 4, Rest: 1400}
	}
	return icmp{Type: 2, Rest: 1400}
}

// replies come in by the first link.
func (n natFixtures) replies() []fixture {
	web, dns := n.serviceScope("web", vipNAT), n.serviceScope("dns", vipNAT)
	payload := raw{Bytes: []byte("payload")}
	segment := func(port uint16) packettest.Layer { return tcp{Src: port, Dst: portClient, Flags: packettest.ACK} }
	first, later := n.fragments(n.toUs(0, backendNear), n.onLink(0, backendNear), n.client, natTTL, dnsPort, portClient)
	firstOut, laterOut := n.fragments(n.leave(0, 1), n.vip(vipNAT), n.client, natTTL-1, portDNS, portClient)
	list := []fixture{
		{sentence: "a reply leaves from the VIP and its port",
			frame: n.back(0, backendNear, n.client, segment(webPort), payload),
			want:  turned(n.home(0, vipNAT, n.client, segment(portWeb), payload), "replied", web)},
		{sentence: "a reply leaves by the link that the client is behind",
			frame: n.back(0, backendNear, n.farClient(), segment(webPort)),
			want:  redirected(n.home(1, vipNAT, n.farClient(), segment(portWeb)), "reply-redirected", web)},
		{sentence: "a datagram leaves from the VIP and its port",
			frame: n.back(0, backendNear, n.client, udp{Src: dnsPort, Dst: portClient}, payload),
			want:  turned(n.home(0, vipNAT, n.client, udp{Src: portDNS, Dst: portClient}, payload), "replied", dns)},
		{sentence: "a reply from a port that stays keeps it",
			frame: n.back(0, backendNear, n.client, segment(portFirst+3)),
			want:  turned(n.home(0, vipNAT, n.client, segment(portFirst+3)), "replied", n.serviceScope("range", vipNAT))},
		{sentence: "any port of a backend of all ports is the VIP's",
			frame: n.back(0, backendAll, n.client, udp{Src: 40001, Dst: portClient}),
			want:  turned(n.home(0, vipNATAll, n.client, udp{Src: 40001, Dst: portClient}), "replied", n.serviceScope("all", vipNATAll))},
		{sentence: "a reply with more headers before the transport's keeps them",
			frame: frameOf(append(append([]packettest.Layer{n.toUs(0, backendNear)}, n.options(n.onLink(0, backendNear), n.client, natTTL)...), segment(webPort))...),
			want: turned(frameOf(append(append([]packettest.Layer{n.leave(0, 1)}, n.options(n.vip(vipNAT), n.client, natTTL-1)...),
				segment(portWeb))...), "replied", web)},
		{sentence: "a reply's first fragment leaves from the VIP and its port",
			frame: first, want: turned(firstOut, "replied", dns)},
		{sentence: "a reply's later fragment leaves as the first did",
			before: [][]byte{first}, frame: later, want: turned(laterOut, "replied", dns)},
	}
	if n.family == v4 {
		list = append(list, fixture{sentence: "a reply without a checksum gets none",
			frame: n.back(0, backendNear, n.client, packettest.UDP{Src: dnsPort, Dst: portClient, NoChecksum: true}),
			want:  turned(n.home(0, vipNAT, n.client, packettest.UDP{Src: portDNS, Dst: portClient, NoChecksum: true}), "replied", dns)})
	}
	return list
}

// held are what is no reply, or one that XDP cannot send.
func (n natFixtures) held() []fixture {
	web := n.serviceScope("web", vipNAT)
	segment := func(port uint16) packettest.Layer { return tcp{Src: port, Dst: portClient, Flags: packettest.ACK} }
	reply := func(client netip.Addr) []byte { return n.back(0, backendNear, client, segment(webPort)) }
	otherMAC := reply(n.client)
	copy(otherMAC, peerMAC)
	toAll := reply(n.client)
	copy(toAll, broadcast)
	lastHop := frameOf(n.toUs(0, backendNear), n.packet(n.onLink(0, backendNear), n.client, 1), segment(webPort))
	cut := n.back(0, backendNear, n.client, segment(webPort))
	cut = cut[:len(cut)-4]
	_, later := n.fragments(n.toUs(0, backendNear), n.onLink(0, backendNear), n.farClient(), natTTL, dnsPort, portClient)
	leftAlone := untouched("not-vip", "")
	list := []fixture{
		{sentence: "what a backend sends from another port is its own", frame: n.back(0, backendNear, n.client, segment(9999)), want: leftAlone},
		{sentence: "what a backend sends from the port of another protocol is its own", frame: n.back(0, backendNear, n.client, udp{Src: webPort, Dst: portClient}), want: leftAlone},
		{sentence: "what another machine sends from the port is its own", frame: n.back(0, 99, n.client, segment(webPort)), want: leftAlone},
		{sentence: "a reply to another machine's MAC is not for us to turn", frame: otherMAC, want: leftAlone},
		{sentence: "a reply to all machines is not for us to turn", frame: toAll, want: leftAlone},
		{sentence: "a reply that comes by a link where its backend is not is nobody's", frame: n.back(0, backendFar, n.client, segment(portFar)), want: leftAlone},
		{sentence: "a reply to the MAC of the backend's link that comes by another one is nobody's",
			frame: frameOf(packettest.Ethernet{Dst: n.d.links[1].HardwareAddr, Src: hopMAC(1, backendFar)},
				n.packet(n.onLink(1, backendFar), n.client, natTTL), segment(portFar)), want: leftAlone},
		{sentence: "a tagged reply is of another link",
			frame: frameOf(n.toUs(0, backendNear), packettest.VLAN{ID: 7}, n.packet(n.onLink(0, backendNear), n.client, natTTL), segment(webPort)), want: leftAlone},
		{sentence: "a backend's ping is its own", frame: n.back(0, backendNear, n.client, n.echo()), want: leftAlone},
		{sentence: "a backend's answer to a ping is its own", frame: n.back(0, backendNear, n.client, n.echoReply()), want: leftAlone},
		{sentence: "a later fragment whose first was not seen is left to the stack", frame: later, want: leftAlone},
		{sentence: "a reply at its last hop is the stack's, which tells the backend", frame: lastHop, want: untouched("reply-held", web)},
		{sentence: "a reply that is cut off before its checksum is the stack's", frame: cut, want: untouched("reply-held", web)},
		{sentence: "a reply to a neighbour that is not known yet waits in the stack", frame: reply(n.onLink(0, 50)), want: untouched("reply-held", web)},
		{sentence: "a reply that no route leads on is the stack's", frame: reply(n.nowhere()), want: untouched("reply-held", web)},
		{sentence: "a reply too big for the next link is the stack's, which tells the backend",
			frame: n.back(0, backendNear, n.client, segment(webPort), raw{Bytes: make([]byte, 1500)}), want: untouched("reply-held", web)},
	}
	return list
}

// nowhere is an address that there is no route to.
func (n natFixtures) nowhere() netip.Addr {
	if n.family == v4 {
		return netip.MustParseAddr("233.252.0.1").Prev().Prev().Prev()
	}
	return netip.MustParseAddr("2001:db8:ffff::1")
}

// errorsToClient are ICMP errors about what a client sent.
func (n natFixtures) errorsToClient() []fixture {
	web, dns := n.serviceScope("web", vipNAT), n.serviceScope("dns", vipNAT)
	near, vip := n.onLink(0, backendNear), n.vip(vipNAT)
	from := func(src netip.Addr, client netip.Addr, quoted []byte) []byte {
		return frameOf(n.toUs(0, backendNear), n.packet(src, client, natTTL), n.tooBig(), raw{Bytes: quoted})
	}
	home := func(quoted []byte) []byte {
		return frameOf(n.leave(0, 1), n.packet(vip, n.client, natTTL-1), n.tooBig(), raw{Bytes: quoted})
	}
	segment := func(dst netip.Addr, port uint16) []byte {
		return packettest.Frame(n.packet(n.client, dst, 9), tcp{Src: portClient, Dst: port, Flags: packettest.ACK}, raw{Bytes: make([]byte, 64)})
	}
	datagram := func(dst netip.Addr, port uint16) []byte {
		return packettest.Frame(n.packet(n.client, dst, 9), udp{Src: portClient, Dst: port}, raw{Bytes: make([]byte, 64)})
	}
	headers := packettest.HeadersOf(segment(near, webPort))
	return []fixture{
		{sentence: "a backend's error about a segment leaves from the VIP, with what it quotes",
			frame: from(near, n.client, segment(near, webPort)), want: turned(home(segment(vip, portWeb)), "replied", web)},
		{sentence: "a backend's error about a datagram leaves from the VIP, too",
			frame: from(near, n.client, datagram(near, dnsPort)), want: turned(home(datagram(vip, portDNS)), "replied", dns)},
		{sentence: "a backend's error that quotes 8 bytes leaves from the VIP, too",
			frame: from(near, n.client, segment(near, webPort)[:headers+8]), want: turned(home(segment(vip, portWeb)[:headers+8]), "replied", web)},
		{sentence: "the error of a router before the backend leaves from the VIP: the client knows no other",
			frame: from(n.onLink(0, 120), n.client, segment(near, webPort)), want: turned(home(segment(vip, portWeb)), "replied", web)},
		{sentence: "an error about what is no service's is the backend's own",
			frame: from(near, n.client, segment(near, 9999)), want: untouched("not-vip", "")},
		{sentence: "an error to one who did not send what it quotes is left alone",
			frame: from(near, n.farClient(), segment(near, webPort)), want: untouched("not-vip", "")},
		{sentence: "an error that quotes too little is left alone",
			frame: from(near, n.client, segment(near, webPort)[:headers+3]), want: untouched("not-vip", "")},
	}
}

// fromFar comes in by the second link.
func (n natFixtures) fromFar() []fixture {
	far := n.serviceScope("far", vipNAT)
	segment := tcp{Src: portFar, Dst: portClient, Flags: packettest.ACK}
	near := n.onLink(0, backendNear)
	return []fixture{
		{sentence: "a reply from the other link leaves by the client's",
			frame: n.back(1, backendFar, n.client, segment), want: redirected(n.home(0, vipNAT, n.client, segment), "reply-redirected", far)},
		{sentence: "a reply from the other link leaves by it, where the client is behind it",
			frame: n.back(1, backendFar, n.farClient(), segment), want: turned(n.home(1, vipNAT, n.farClient(), segment), "replied", far)},
		{sentence: "the answer to a backend that is a client goes to it from the VIP",
			frame: n.back(1, backendFar, near, segment),
			want:  redirected(frameOf(n.leave(0, backendNear), n.packet(n.vip(vipNAT), near, natTTL-1), segment), "reply-redirected", far)},
	}
}
