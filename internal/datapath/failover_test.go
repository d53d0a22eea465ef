package datapath_test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A virtual MAC, as VRRP has them.
var vrrpMAC = net.HardwareAddr{0, 0, 0x5e, 0, 1, 80}

// failoverWorld is movingWorld, with VIPs that one node at a time has: at its own MAC, or at mac.
func failoverWorld(mac net.HardwareAddr, handOn bool) *lb.State {
	state := movingWorld()
	for i := range state.VIPs {
		v := &state.VIPs[i]
		v.Announce, v.MAC, v.HandOn = lb.AnnounceFailover, mac, handOn
	}
	return state
}

// othersReasons are of drops of what another node may take.
var othersReasons = []string{
	"not-owner", "echo-not-owner", "unnamed-not-owner", "error-not-owner", "fragment-not-owner", "unknown-flow",
	"udp-away", "lapsed",
}

// handedToAll goes to all nodes, and from the node's own MAC.
func handedToAll(frame []byte, scope string) ending {
	return ending{action: actionTX, on: true, out: slices.Concat(lb.NodesMAC(), ownMAC, frame[12:]), reason: "handed-on", scope: scope}
}

// A carrier brings the frames of VIPs that all nodes have to a node in another way, and says what must
// become of them then.
type carrier struct {
	name string
	to   net.HardwareAddr // instead of the shared MAC
	want func(frame []byte, want ending) ending
}

// carry is a fixture as the carrier brings it: what was sent to all goes there, and what was sent on by a
// node comes from one. ARP and neighbor discovery are not carried.
func (c carrier) carry(fix fixture) (carried fixture, ok bool) {
	if fix.want.out != nil || bytes.Equal(fix.frame[:6], broadcast) || fix.frame[12] == 8 && fix.frame[13] == 6 ||
		fix.frame[0] == 0x33 || len(fix.frame) > 54 && fix.frame[12] == 0x86 && fix.frame[54] == packettest.Solicitation {
		return fixture{}, false
	}
	carried = fixture{sentence: fix.sentence + ", " + c.name, frame: c.reach(fix.frame), want: fix.want}
	for _, frame := range fix.before {
		carried.before = append(carried.before, c.reach(frame))
	}
	if fix.frame[0]&1 != 0 {
		carried.want = c.want(carried.frame, fix.want)
	}
	return carried, true
}

func (c carrier) reach(frame []byte) []byte {
	if frame[0]&1 == 0 {
		return slices.Concat(frame[:6], peerMAC, frame[12:])
	}
	return slices.Concat(c.to, frame[6:])
}

func asBefore(_ []byte, want ending) ending { return want }

func othersAreHanded(frame []byte, want ending) ending {
	if want.action == actionDrop && slices.Contains(othersReasons, want.reason) {
		return handedToAll(frame, want.scope)
	}
	return want
}

// What is true of a VIP that all nodes have is true of one that one node has, but that this one hands to
// all what it cannot settle alone. So the fixtures of the former are those of the latter, carried there.
func TestWhatOneNodeGetsEndsAsIfAllNodesGotIt(t *testing.T) {
	host := newSocketHost(t)
	host.connect(t)
	for _, world := range []struct {
		name     string
		state    *lb.State
		carriers []carrier
	}{
		{"at its own MAC", failoverWorld(nil, true), []carrier{
			{"sent to our own MAC", ownMAC, othersAreHanded},
			{"handed on by a peer", lb.NodesMAC(), asBefore},
		}},
		{"at a virtual MAC", failoverWorld(vrrpMAC, true), []carrier{
			{"sent to the virtual MAC", vrrpMAC, othersAreHanded},
			{"sent to our own MAC", ownMAC, othersAreHanded},
			{"handed on by a peer", lb.NodesMAC(), asBefore},
		}},
		{"while a peer's MAC is not known", failoverWorld(nil, false), []carrier{
			{"sent to our own MAC", ownMAC, asBefore},
		}},
	} {
		t.Run(world.name, func(t *testing.T) {
			instance := instanceOf(t, world.state) // one for both: each takes the verifier's time
			for _, lapsed := range []bool{false, true} {
				if lapsed {
					lapsesNow(t, instance)
				}
				for _, carrier := range world.carriers {
					checkTogether(t, instance, host.ways(instance), carrier.all(lapsed))
				}
			}
		})
	}
}

// checkTogether is checkAll for so many fixtures that it looks at the counters once for all of them.
func checkTogether(t *testing.T, instance *datapath.Instance, ways []way, list []fixture) {
	t.Helper()
	want := count(t, instance)
	for _, fix := range list {
		for _, frame := range fix.before {
			before := count(t, instance)
			if _, err := ways[0].run(frame, ingress); err != nil {
				t.Fatal(err)
			}
			for at, n := range count(t, instance) {
				want[at] = counted{want[at].Packets + n.Packets - before[at].Packets, want[at].Bytes + n.Bytes - before[at].Bytes}
			}
		}
		t.Run(fix.sentence, func(t *testing.T) { check(t, ways, fix) })
		want = want.and(fix)
	}
	sameCounters(t, want, count(t, instance))
}

// failoverFixtures are of VIPs that one node has at its own MAC.
func failoverFixtures() []fixture {
	return carrier{"sent to our own MAC", ownMAC, othersAreHanded}.all(false)
}

func (c carrier) all(lapsed bool) []fixture {
	var list []fixture
	for _, family := range families {
		of := settledFixtures
		if lapsed {
			of = lapsedFixtures
		}
		for _, fix := range of(movingFamily{family}) {
			if carried, ok := c.carry(fix); ok {
				list = append(list, carried)
			}
		}
	}
	return list
}

// askFailover are requests for a VIP that one node has: vipMine is ours, vipTheirs on its way to another,
// vipNobody not here yet.
func askFailover(mac net.HardwareAddr) []fixture {
	if mac == nil {
		mac = ownMAC
	}
	ask := func(n byte, to net.HardwareAddr) []byte {
		return frameOf(eth{Dst: to, Src: clientMAC},
			arp{Operation: packettest.ARPRequest, SenderMAC: clientMAC, Sender: v4.client, Target: v4.vip(n)})
	}
	answer := func(n byte) ending {
		return answered(frameOf(eth{Dst: clientMAC, Src: ownMAC}, arp{Operation: packettest.ARPReply, SenderMAC: mac,
			Sender: v4.vip(n), TargetMAC: clientMAC, Target: v4.client}), "arp-answered", v4.scope(n))
	}
	advertise := func(n byte) ending {
		return answered(frameOf(eth{Dst: clientMAC, Src: ownMAC}, ipv6{Src: v6.vip(n), Dst: v6.client, HopLimit: 255},
			neighbor{Type: packettest.Advertisement, Flags: packettest.FlagSolicited | packettest.FlagOverride, Target: v6.vip(n)},
			option{Type: packettest.TargetLink, Data: mac}), "nd-answered", v6.scope(n))
	}
	claim := func(n byte, by net.HardwareAddr) []byte {
		return frameOf(eth{Dst: broadcast, Src: by},
			arp{Operation: packettest.ARPRequest, SenderMAC: by, Sender: v4.vip(n), Target: v4.vip(n)})
	}
	claim6 := func(n byte, by net.HardwareAddr) []byte {
		return frameOf(eth{Dst: allNodesMAC, Src: by}, ipv6{Src: v6.vip(n), Dst: allNodes, HopLimit: 255},
			neighbor{Type: packettest.Advertisement, Flags: packettest.FlagOverride, Target: v6.vip(n)},
			option{Type: packettest.TargetLink, Data: by})
	}
	list := []fixture{
		{sentence: "a peer that has a VIP may say so",
			frame: claim(vipNobody, peerMAC), want: dropped("arp-not-owner", v4.scope(vipNobody))},
		{sentence: "anybody else may not",
			frame: claim(vipNobody, clientMAC), want: dropped("arp-conflict", v4.scope(vipNobody))},
		{sentence: "a peer that has a VIP may advertise it",
			frame: claim6(vipNobody, peerMAC), want: dropped("nd-not-owner", v6.scope(vipNobody))},
		{sentence: "anybody else may not advertise it",
			frame: claim6(vipNobody, clientMAC), want: dropped("nd-conflict", v6.scope(vipNobody))},
	}
	for n, held := range map[byte]bool{vipMine: true, vipTheirs: true, vipNobody: false} {
		arpWant, ndWant := answer(n), advertise(n)
		if !held {
			arpWant, ndWant = dropped("arp-not-owner", v4.scope(n)), dropped("nd-not-owner", v6.scope(n))
		}
		for where, to := range map[string]net.HardwareAddr{"all": broadcast, "our own MAC": ownMAC} {
			list = append(list, fixture{sentence: fmt.Sprintf("ARP for VIP %d to %s is answered by who has it", n, where),
				frame: ask(n, to), want: arpWant})
		}
		list = append(list,
			fixture{sentence: fmt.Sprintf("a solicitation of VIP %d to all is answered by who has it", n),
				frame: solicitation{vip: n}.frame(), want: ndWant},
			fixture{sentence: fmt.Sprintf("a solicitation of VIP %d to our own MAC is answered by who has it", n),
				frame: solicitation{vip: n, dst: ownMAC}.frame(), want: ndWant})
	}
	return list
}

// tellFailover are the announcements of lbd, and what the stack says.
func tellFailover(mac net.HardwareAddr) []fixture {
	from := func(mac net.HardwareAddr, layers ...packettest.Layer) []byte {
		return frameOf(append([]packettest.Layer{eth{Dst: broadcast, Src: mac}}, layers...)...)
	}
	goOn := ending{action: guardNext}
	var list []fixture
	for n, held := range map[byte]bool{vipMine: true, vipTheirs: true, vipNobody: false} {
		arpWant, ndWant := goOn, goOn
		if !held {
			arpWant = ending{action: guardDrop, reason: "arp-suppressed", scope: v4.scope(n)}
			ndWant = ending{action: guardDrop, reason: "nd-suppressed", scope: v6.scope(n)}
		}
		tell := arp{Operation: packettest.ARPRequest, SenderMAC: mac, Sender: v4.vip(n), Target: v4.vip(n)}
		reply := arp{Operation: packettest.ARPReply, SenderMAC: mac, Sender: v4.vip(n), TargetMAC: broadcast, Target: v4.vip(n)}
		header := ipv6{Src: v6.vip(n), Dst: allNodes, HopLimit: 255}
		advertise := neighbor{Type: packettest.Advertisement, Flags: packettest.FlagOverride, Target: v6.vip(n)}
		link := option{Type: packettest.TargetLink, Data: mac}
		name := fmt.Sprintf("VIP %d", n)
		list = append(list,
			fixture{sentence: name + " is announced by who has it", frame: from(mac, tell), want: arpWant},
			fixture{sentence: name + " is announced in the reply form by who has it", frame: from(mac, reply), want: arpWant},
			fixture{sentence: name + " is advertised by who has it", frame: from(mac, header, advertise, link), want: ndWant},
			fixture{sentence: name + " is not advertised without a MAC", frame: from(mac, header, advertise),
				want: ending{action: guardDrop, reason: "nd-suppressed", scope: v6.scope(n)}},
			fixture{sentence: name + " is not advertised with another MAC",
				frame: from(mac, header, advertise, option{Type: packettest.TargetLink, Data: clientMAC}),
				want:  ending{action: guardDrop, reason: "nd-suppressed", scope: v6.scope(n)}},
			fixture{sentence: name + " solicits nobody", frame: from(mac, header,
				neighbor{Type: packettest.Solicitation, Target: v6.client}, option{Type: packettest.SourceLink, Data: mac}),
				want: ending{action: guardDrop, reason: "nd-suppressed", scope: v6.scope(n)}},
			fixture{sentence: name + " is not announced with another MAC",
				frame: from(mac, arp{Operation: packettest.ARPReply, SenderMAC: clientMAC, Sender: v4.vip(n), Target: v4.vip(n)}),
				want:  ending{action: guardDrop, reason: "arp-suppressed", scope: v4.scope(n)}})
	}
	return list
}

func TestWhoHasAVIPAnswersForItAndAnnouncesIt(t *testing.T) {
	for _, mac := range []net.HardwareAddr{nil, vrrpMAC} {
		instance := instanceOf(t, failoverWorld(mac, true))
		checkAll(t, instance, ways(instance), askFailover(mac))
		if mac == nil {
			mac = ownMAC
		}
		checkGuard(t, instance, tellFailover(mac))
		lapsesNow(t, instance)
		var over []fixture
		for _, fix := range tellFailover(mac) {
			if fix.want.reason == "" {
				fix.want = ending{action: guardDrop, reason: "nd-suppressed", scope: v6.scope(vipMine)}
				if fix.frame[12] == 8 {
					fix.want.reason, fix.want.scope = "arp-suppressed", v4.scope(vipMine)
				}
				if bytes.Contains(fix.frame, v4.vip(vipTheirs).AsSlice()) {
					fix.want.scope = v4.scope(vipTheirs)
				}
				if bytes.Contains(fix.frame, v6.vip(vipTheirs).AsSlice()) {
					fix.want.scope = v6.scope(vipTheirs)
				}
			}
			over = append(over, fix)
		}
		checkGuard(t, instance, over)
	}
}

// What others bring to a node, it does not announce, though it comes to its own MAC.
func TestAVIPThatOthersBringIsNotAnnounced(t *testing.T) {
	state := failoverWorld(nil, false)
	for i := range state.VIPs {
		state.VIPs[i].Announce = lb.AnnounceNone
	}
	var list []fixture
	for _, fix := range tellFailover(ownMAC) {
		if fix.want.reason == "" {
			of, n := v4, byte(vipMine)
			fix.want = ending{action: guardDrop, reason: "arp-suppressed"}
			if fix.frame[12] == 0x86 {
				of, fix.want.reason = v6, "nd-suppressed"
			}
			if bytes.Contains(fix.frame, of.vip(vipTheirs).AsSlice()) {
				n = vipTheirs
			}
			fix.want.scope = of.scope(n)
			list = append(list, fix)
		}
	}
	checkGuard(t, instanceOf(t, state), list)
}
