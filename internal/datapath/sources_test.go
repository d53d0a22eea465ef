package datapath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

const vipFull = 230

// A conversation is a flow of full NAT, packet by packet.
type conversation struct {
	*sourced
	t *testing.T
	d *director
}

// fullWorld has for each family a service of TCP and one of UDP with two backends, the first of which has all
// slots, and one that is another node's. What becomes of connections to the first is counted.
func fullWorld(t *testing.T) *director {
	return newDirector(t, func(d *director) {
		d.state.Nodes = append(d.state.Nodes, lb.Node{Index: 1, Name: "n1", Weight: 100, MAC: peerMAC})
		d.state.Tables = append(d.state.Tables, &lb.Table{Owners: slices.Repeat([]int16{1}, lb.Buckets)})
		for i, f := range families {
			vip := lb.VIP{Addr: f.vip(vipFull), Interface: "eth0", MAC: fullMAC(i)}
			d.state.VIPs = append(d.state.VIPs, vip)
			for _, s := range []lb.Service{
				{Name: "web", Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: portWeb, Last: portWeb}}},
				{Name: "dns", Protocol: lb.ProtocolUDP, Ports: []lb.PortRange{{First: portDNS, Last: portDNS}}},
				{Name: "others", Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: portOthers, Last: portOthers}}, Table: 1},
			} {
				s.VIP, s.Hash, s.Forward, s.SourceNAT = i, lb.HashSourcePort, lb.ForwardNAT, true
				s.TCPIdle, s.UDPIdle = time.Minute, 30*time.Second
				s.Choice = &lb.Choice{Current: make([]int16, lb.Slots)}
				for n := range 2 {
					b := d.backend(f, 60+byte(n), n)
					b.Port, b.Watched = webPort, s.Name == "web" && n == 0
					s.Backends = append(s.Backends, b)
				}
				d.state.Services = append(d.state.Services, s)
			}
		}
		for i := range d.state.Services {
			s := &d.state.Services[i]
			mask := flowhash.NewMask(s.Hash, d.state.VIPs[s.VIP].Addr.Is4())
			d.services = append(d.services, &forwarding{s, d.state.VIPs[s.VIP], &mask})
		}
	})
}

// converse is a conversation of a client with a service, by its name.
func (d *director) converse(t *testing.T, f family, service string, port uint16) *conversation {
	t.Helper()
	i := slices.IndexFunc(d.services, func(s *forwarding) bool { return s.Name == service && s.vip.Addr.Is4() == (f == v4) })
	s := d.services[i]
	c := &sourced{s: s, f: f, client: netip.AddrPortFrom(f.clients(0).Addr().Next(), port), port: s.Ports[0].First, b: &s.Backends[0]}
	return &conversation{c, t, d}
}

func (c *conversation) packet(src, dst netip.Addr) packettest.Layer {
	return natFixtures{family: c.f}.packet(src, dst, natTTL)
}

// says is a frame of the client, answers one of the backend.
func (c *conversation) says(layers ...packettest.Layer) []byte {
	eth := packettest.Ethernet{Dst: c.s.vip.MAC, Src: clientMAC}
	return frameOf(append([]packettest.Layer{eth, c.packet(c.client.Addr(), c.s.vip.Addr)}, layers...)...)
}

func (c *conversation) answers(layers ...packettest.Layer) []byte {
	eth := packettest.Ethernet{Dst: c.s.vip.MAC, Src: c.b.Hop.MAC}
	return frameOf(append([]packettest.Layer{eth, c.packet(c.b.Addr, c.s.vip.Addr)}, layers...)...)
}

func (c *conversation) segment(flags uint8, sequence, acknowledgment uint32) []byte {
	return c.says(packettest.TCP{Src: c.client.Port(), Dst: c.port, Flags: flags, Sequence: sequence, Acknowledgment: acknowledgment})
}

func (c *conversation) reply(flags uint8, sequence, acknowledgment uint32) []byte {
	return c.answers(packettest.TCP{Src: c.at().Port(), Dst: c.source, Flags: flags, Sequence: sequence, Acknowledgment: acknowledgment})
}

// give runs a frame and returns what became of it, with what was counted.
func (c *conversation) give(frame []byte) (out datapath.Outcome, reason string) {
	c.t.Helper()
	before := count(c.t, c.d.instance)
	err := c.d.host.Do(func() (err error) {
		out, err = c.d.instance.Run(frame, c.d.links[0].Index)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for at, n := range count(c.t, c.d.instance) {
		if n != before[at] {
			reason += at.Reason
		}
	}
	return out, reason
}

func (c *conversation) leaves(reason string, frame []byte, want departure) {
	c.t.Helper()
	out, got := c.give(frame)
	if got != reason || out.Action != want.action || !bytes.Equal(out.Frame, want.frame) {
		c.t.Errorf("frame\n%x: %s, action %d, became\n%x, want %s, action %d\n%x", frame, got, out.Action, out.Frame, reason, want.action, want.frame)
	}
}

func (c *conversation) isDropped(reason string, frame []byte) {
	c.t.Helper()
	if out, got := c.give(frame); got != reason || out.Action != actionDrop {
		c.t.Errorf("frame %x: action %d, %s, want it dropped, %s", frame, out.Action, got, reason)
	}
}

// opens sends what opens the flow, and learns the port that it leaves from.
func (c *conversation) opens() {
	c.t.Helper()
	frame := c.says(packettest.UDP{Src: c.client.Port(), Dst: c.port})
	if c.s.Protocol == lb.ProtocolTCP {
		frame = c.segment(packettest.SYN, 100, 0)
	}
	out, reason := c.give(frame)
	at, err := packettest.Transport(out.Frame)
	if err != nil || reason != "forwarded" && reason != "redirected" {
		c.t.Fatalf("%s: %v", reason, err)
	}
	c.source = binary.BigEndian.Uint16(out.Frame[at:])
	c.leaves(reason, frame, c.d.out(c.sourced, frame))
}

// establishes has the backend answer, and the client hear it.
func (c *conversation) establishes() {
	c.t.Helper()
	c.opens()
	answer := c.reply(packettest.SYN|packettest.ACK, 500, 101)
	c.leaves("replied", answer, c.d.back(c.sourced, answer))
	c.acknowledges(501)
}

func (c *conversation) acknowledges(number uint32) {
	c.t.Helper()
	frame := c.segment(packettest.ACK, 101, number)
	c.leaves("forwarded", frame, c.d.out(c.sourced, frame))
}

// known are the flows that are established.
func (d *director) known(t *testing.T) []datapath.Exception {
	t.Helper()
	list, err := d.instance.Exceptions()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// eachFamily runs a test for both, each in a world of its own.
func eachFamily(t *testing.T, test func(t *testing.T, d *director, f family)) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { test(t, fullWorld(t), f) })
	}
}

func TestAFlowOfFullNATIsEstablishedByWhoHeardTheBackend(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.isDropped("unknown-flow", c.segment(packettest.ACK, 1, 1))
		c.opens()
		port := c.source
		c.opens() // again: it was lost
		if c.source != port {
			t.Errorf("sent again, it leaves from %d, not from %d", c.source, port)
		}
		c.acknowledges(501) // of nothing that the backend sent
		if known := d.known(t); len(known) > 0 {
			t.Errorf("established before the backend answered: %+v", known)
		}
		answer := c.reply(packettest.SYN|packettest.ACK, 500, 101)
		c.leaves("replied", answer, d.back(c.sourced, answer))
		c.acknowledges(502) // a guess
		if known := d.known(t); len(known) > 0 {
			t.Errorf("established by a guess: %+v", known)
		}
		c.acknowledges(501)
		want := []datapath.Exception{{
			Service: "web", Remote: c.client, Local: netip.AddrPortFrom(c.s.vip.Addr, portWeb), Protocol: lb.ProtocolTCP,
			Slot: int(c.s.hashOf(c.client, c.port) >> 32 * lb.Slots >> 32), Addr: c.b.Addr, Port: webPort, Current: true, Source: c.source,
		}}
		known := d.known(t)
		opts := []cmp.Option{cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}), cmpopts.IgnoreFields(datapath.Exception{}, "Silent")}
		if diff := cmp.Diff(want, known, opts...); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		dns := d.converse(t, f, "dns", 40000)
		dns.opens()
		datagram := dns.answers(packettest.UDP{Src: webPort, Dst: dns.source})
		dns.leaves("replied", datagram, d.back(dns.sourced, datagram))
		if known := d.known(t); len(known) != 1 {
			t.Errorf("UDP is established by the answer alone: %+v", known)
		}
		dns.opens()
		if known := d.known(t); len(known) != 1 {
			t.Errorf("UDP is established by two datagrams at once: %+v", known)
		}
		d.age(t, 3*time.Second)
		dns.opens()
		if known := d.known(t); len(known) != 2 {
			t.Errorf("UDP is not established: %+v", known)
		}
	})
}

// The backend may have in TIME-WAIT what has ended.
func TestThePortOfAFlowThatEndedIsNobodysForAWhile(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		fin := c.reply(packettest.FIN|packettest.ACK, 501, 101)
		c.leaves("replied", fin, d.back(c.sourced, fin))
		if known := d.known(t); len(known) != 1 || known[0].Over {
			t.Errorf("half closed: %+v", known)
		}
		fin = c.segment(packettest.FIN|packettest.ACK, 101, 502)
		c.leaves("forwarded", fin, d.out(c.sourced, fin))
		last := c.reply(packettest.ACK, 502, 102)
		c.leaves("replied", last, d.back(c.sourced, last))
		if known := d.known(t); len(known) != 1 || !known[0].Over {
			t.Errorf("closed by both: %+v", known)
		}
		port := c.source
		c.opens() // the client's port is new again, and the backend knows what to do
		if known := d.known(t); c.source != port || len(known) != 1 || known[0].Over {
			t.Errorf("opened again from port %d, not %d: %+v", c.source, port, known)
		}
		reset := c.reply(packettest.RST|packettest.ACK, 1, 101)
		c.leaves("replied", reset, d.back(c.sourced, reset))
		if known := d.known(t); len(known) != 1 || !known[0].Over {
			t.Errorf("reset: %+v", known)
		}
		d.age(t, 59*time.Second)
		if known := d.known(t); len(known) != 1 {
			t.Errorf("forgotten before its time: %+v", known)
		}
		d.age(t, 2*time.Second)
		if known := d.known(t); len(known) != 0 {
			t.Errorf("remembered for ever: %+v", known)
		}
		c.isDropped("unknown-flow", c.segment(packettest.ACK, 102, 503))
		c.isDropped("unknown-flow", c.reply(packettest.ACK, 503, 102))
	})
}

func (d *director) age(t *testing.T, by time.Duration) {
	t.Helper()
	if err := d.instance.AgeSources(by); err != nil {
		t.Fatal(err)
	}
}

func TestAFlowOfFullNATThatIsSilentForTooLongIsForgotten(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		for _, frame := range [][]byte{c.segment(packettest.ACK, 101, 501), c.reply(packettest.ACK, 501, 101)} {
			d.age(t, time.Minute+datapath.TellWithin-time.Second)
			c.give(frame)
			d.age(t, 2*time.Second)
			if known := d.known(t); len(known) != 1 {
				t.Errorf("forgotten, though one side spoke: %+v", known)
			}
		}
		d.age(t, time.Minute+datapath.TellWithin)
		if known := d.known(t); len(known) != 0 {
			t.Errorf("remembered: %+v", known)
		}
	})
}

// Where new flows go changes nothing for those that are known; a backend that is dead has none.
func TestAFlowOfFullNATStaysAtItsBackend(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		c.s.Choice = &lb.Choice{Current: slices.Repeat([]int16{1}, lb.Slots)}
		d.set(t)
		c.acknowledges(600)
		if known := d.known(t); len(known) != 1 || known[0].Current {
			t.Errorf("known as %+v", known)
		}
		other := d.converse(t, f, "web", 40001)
		other.b = &other.s.Backends[1]
		other.opens()
		// opened again by the same client it is a new one
		fin := c.segment(packettest.RST, 101, 0)
		c.leaves("forwarded", fin, d.out(c.sourced, fin))
		again := d.converse(t, f, "web", 40000)
		again.b = &again.s.Backends[1]
		again.opens()

		second := d.converse(t, f, "dns", 40000)
		second.opens()
		second.s.Backends[0].Hop = nil
		second.s.Choice = &lb.Choice{Current: slices.Repeat([]int16{1}, lb.Slots)}
		d.set(t)
		second.b = &second.s.Backends[1]
		second.opens() // a datagram opens what it needs
		c.s.Backends[0].Hop = nil
		d.set(t)
		if known := d.known(t); len(known) != 0 {
			t.Errorf("at a dead backend: %+v", known)
		}
	})
}

func (d *director) set(t *testing.T) {
	t.Helper()
	err := d.host.Do(func() error {
		_, err := d.instance.Set(d.state, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// While a bucket is on its way to another director both have it for a moment: two that open a flow would
// have the client hear of two.
func TestADirectorOpensNoFlowOfABucketThatLeaves(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		d.state.Tables[0].Owners = slices.Repeat([]int16{1}, lb.Buckets)
		d.state.Tables[0].Marks = slices.Repeat([]lb.Mark{lb.MarkDelegate}, lb.Buckets)
		d.set(t)
		c.acknowledges(600)
		reply := c.reply(packettest.ACK, 600, 101)
		c.leaves("replied", reply, d.back(c.sourced, reply))
		fresh := d.converse(t, f, "web", 40001)
		fresh.isDropped("unknown-flow", fresh.segment(packettest.SYN, 1, 0))
	})
}

// All directors get the replies; one sends them on.
func TestARepliesOwnerIsItsClients(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		c.s.Table = 1
		d.set(t)
		c.isDropped("not-owner", c.segment(packettest.ACK, 101, 501))
		c.isDropped("not-owner", c.reply(packettest.ACK, 501, 101))
		quoted := packettest.Frame(c.packet(c.s.vip.Addr, c.b.Addr), packettest.TCP{Src: c.source, Dst: webPort, Flags: packettest.ACK})
		c.isDropped("error-not-owner", c.answers(natFixtures{family: f}.tooBig(), raw{Bytes: quoted}))
	})
}

// Another processor may have the first fragment, and not have found its port yet. What it looks for is not what the
// last packet here was of.
func TestAFragmentOfFullNATWaitsForNoPort(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		n := natFixtures{family: f, d: d}
		c, other := d.converse(t, f, "dns", 40000), d.converse(t, f, "dns", 40001)
		to := packettest.Ethernet{Dst: c.s.vip.MAC, Src: clientMAC}
		first, later := n.fragments(to, c.client.Addr(), c.s.vip.Addr, natTTL, c.client.Port(), portDNS)
		if _, reason := c.give(first); reason != "forwarded" {
			t.Errorf("a first fragment: %s", reason)
		}
		if out, reason := c.give(later); reason != "forwarded" || out.Action != actionTX {
			t.Errorf("a later one: %s", reason)
		}
		if err := d.instance.UndecideFragments(); err != nil {
			t.Fatal(err)
		}
		other.opens()
		before := d.known(t)
		if out, reason := c.give(later); reason != "fragment-unknown" || out.Action != actionPass {
			t.Errorf("a later one, before the first one has its port: %s, action %d", reason, out.Action)
		}
		if diff := cmp.Diff(before, d.known(t), cmpopts.IgnoreFields(datapath.Exception{}, "Silent")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRepliesOfFullNATThatCannotGoOn(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		n := natFixtures{family: f, d: d}
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		dst := packettest.Ethernet{Dst: c.s.vip.MAC, Src: c.b.Hop.MAC}
		out, reason := c.give(frameOf(dst, n.packet(c.b.Addr, c.s.vip.Addr, 1), packettest.TCP{Src: webPort, Dst: c.source}))
		if reason != "expired-answered" || out.Action != actionTX {
			t.Errorf("at its last hop: %s", reason)
		}
		if err := packettest.Verify(out.Frame); err != nil {
			t.Error(err)
		}
		out, reason = c.give(c.answers(packettest.TCP{Src: webPort, Dst: c.source}, raw{Bytes: make([]byte, 1500)}))
		if reason != "too-big-answered" || out.Action != actionTX {
			t.Errorf("too big: %s", reason)
		}
		if err := packettest.Verify(out.Frame); err != nil {
			t.Error(err)
		}
		cut := c.answers(packettest.TCP{Src: webPort, Dst: c.source})
		c.isDropped("not-translated", cut[:len(cut)-4])
		for client, want := range map[netip.Addr]string{n.nowhere(): "no-way", f.onLink(0, 50): "reply-held"} {
			other := d.converse(t, f, "web", 40000)
			other.client = netip.AddrPortFrom(client, 40000)
			other.opens()
			answer := other.reply(packettest.SYN|packettest.ACK, 500, 101)
			out, reason := other.give(answer)
			if reason != want {
				t.Errorf("to %s: %s, want %s", client, reason, want)
			}
			if want == "reply-held" {
				// translated, and to our own MAC: lb_ingress has it wait
				frame := d.back(other.sourced, answer).frame
				copy(frame, d.links[0].HardwareAddr)
				copy(frame[6:], answer[6:12])
				if !bytes.Equal(out.Frame, frame) || out.Action != actionPass {
					t.Errorf("held as\n%x, want\n%x", out.Frame, frame)
				}
			}
		}
	})
}

// noPortFixtures are of a director that has no block of ports.
func noPortFixtures() []fixture {
	var list []fixture
	for i, f := range families {
		frame := frameOf(packettest.Ethernet{Dst: fullMAC(i), Src: clientMAC}, f.between(f.clients(0).Addr().Next(), f.vip(vipFull)),
			packettest.TCP{Src: portClient, Dst: portWeb, Flags: packettest.SYN})
		list = append(list, inFamily(f, []fixture{
			{sentence: "full NAT: a flow that there is no port for is dropped", frame: frame, want: dropped("no-port", f.serviceScope("web", vipFull))},
		})...)
	}
	return list
}

func fullMAC(i int) net.HardwareAddr { return net.HardwareAddr{3, 0xbf, 0, 0, 2, byte(i)} }

func TestWithoutAPortNoFlowOfFullNATBegins(t *testing.T) {
	d := fullWorld(t)
	d.state.Services = append(d.state.Services, lb.Service{
		Name: "all", VIP: 0, Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{lb.SourcePorts}, Hash: lb.HashSourcePort,
	})
	d.set(t)
	checkAll(t, d.instance, d.ways(0), noPortFixtures())
}

// A flood fills what is new, and takes no port of what is established.
func TestAFloodTakesNoPortOfAnEstablishedFlow(t *testing.T) {
	d := fullWorld(t)
	c := d.converse(t, v4, "web", 40000)
	c.establishes()
	random := rand.New(rand.NewPCG(1, 2))
	runner := packettest.NewRunnerOn(t, d.instance.XDP(), d.links[0].Index)
	flood := packettest.Scaled(t, 200_000)
	err := d.host.Do(func() error {
		for range flood {
			from := netip.AddrFrom4([4]byte{198, 51, byte(random.Uint32()), byte(random.Uint32())})
			frame := frameOf(packettest.Ethernet{Dst: c.s.vip.MAC, Src: clientMAC}, c.packet(from, c.s.vip.Addr),
				packettest.TCP{Src: uint16(random.Uint32()), Dst: portWeb, Flags: packettest.SYN})
			action, out, err := runner.Run(frame)
			if err != nil {
				return err
			}
			if action != actionTX {
				return fmt.Errorf("action %d", action)
			}
			if at, err := packettest.Transport(out); err != nil || binary.BigEndian.Uint16(out[at:]) == c.source {
				return fmt.Errorf("the port of the established flow: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if known := d.known(t); len(known) != 1 {
		t.Errorf("%d flows are established", len(known))
	}
	c.acknowledges(501)
	late := d.converse(t, v4, "web", 40001)
	late.establishes()
}

// exchanges opens a flow of datagrams from a source that may be made up, which is answered and goes on after
// a time; the port that it leaves from, 0 if it is dropped.
func (c *conversation) exchanges(t *testing.T, after time.Duration) uint16 {
	t.Helper()
	run := func(frame []byte) (out datapath.Outcome) {
		err := c.d.host.Do(func() (err error) {
			out, err = c.d.instance.Run(frame, c.d.links[0].Index)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	frame := c.says(packettest.UDP{Src: c.client.Port(), Dst: c.port})
	out := run(frame)
	at, err := packettest.Transport(out.Frame)
	if err != nil {
		t.Fatal(err)
	}
	if out.Action == actionDrop {
		return 0
	}
	c.source = binary.BigEndian.Uint16(out.Frame[at:])
	run(c.answers(packettest.UDP{Src: webPort, Dst: c.source}))
	if after > 0 {
		c.d.age(t, after)
	}
	run(frame)
	return c.source
}

// Two datagrams of a made-up source prove nothing; and if more are sent, seconds later, the flow of those
// that is silent for longest makes room. What is said all the while keeps its port.
func TestPairsOfDatagramsTakeNoPortOfAnEstablishedFlow(t *testing.T) {
	d := fullWorld(t)
	tcp := d.converse(t, v4, "web", 40000)
	tcp.establishes()
	dns := d.converse(t, v4, "dns", 700)
	port := dns.exchanges(t, 3*time.Second)
	if known := d.known(t); len(known) != 2 {
		t.Fatalf("%d flows are established, want 2", len(known))
	}
	for from := range uint16(packettest.Scaled(t, 20_000)) {
		if from%1000 == 0 {
			tcp.acknowledges(600)
			if dns.exchanges(t, 0) != port {
				t.Fatalf("after %d pairs a flow that goes on has lost its port", from)
			}
		}
		if d.converse(t, v4, "dns", 20_000+from).exchanges(t, 0) == 0 {
			t.Fatalf("pair %d: there is no port for a new flow", from)
		}
	}
	if known := d.known(t); len(known) > 10 { // a pair is spread over seconds when the machine is busy
		t.Errorf("%d flows are established, want 2", len(known))
	}
	if got := dns.exchanges(t, 0); got != port {
		t.Errorf("a flow that goes on leaves from %d, not from %d", got, port)
	}
	tcp.acknowledges(600)
}

// All ports are those of flows of datagrams that were established, and one of them goes on.
func TestWithoutAFreePortTheFlowOfDatagramsThatIsSilentForLongestEnds(t *testing.T) {
	d := fullWorld(t)
	lasting := d.converse(t, v4, "dns", 700)
	port := lasting.exchanges(t, 3*time.Second)
	var others []uint16
	for _, block := range datapath.OwnBlocks(d.state) {
		for n := range uint16(64) {
			if source := lb.SourcePorts.First + block*64 + n; source != port {
				others = append(others, source)
			}
		}
	}
	if err := d.instance.PutSources(port, others, time.Second); err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for from := range uint16(500) {
		if lasting.exchanges(t, 0) != port {
			t.Fatalf("after %d new flows one that goes on has lost its port", from)
		}
		if d.converse(t, v4, "dns", 20_000+from).exchanges(t, 0) != 0 {
			fresh++
		}
	}
	if fresh != 500 {
		t.Errorf("%d of 500 new flows got a port", fresh)
	}
}

// Who resets a connection says no more: if its backend does, the reset was made up.
func TestAConnectionOfFullNATThatGoesOnWasNotReset(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		reset := c.segment(packettest.RST, 77, 0)
		c.leaves("forwarded", reset, d.out(c.sourced, reset))
		late := c.reply(packettest.ACK, 600, 101) // was under way
		c.leaves("replied", late, d.back(c.sourced, late))
		if known := d.known(t); len(known) != 1 || !known[0].Over {
			t.Errorf("what was under way brings back what was reset: %+v", known)
		}
		d.age(t, 3*time.Second)
		c.acknowledges(600)
		if known := d.known(t); len(known) != 1 || !known[0].Over {
			t.Errorf("the client alone, whoever sends in its name: %+v", known)
		}
		c.leaves("replied", late, d.back(c.sourced, late))
		if known := d.known(t); len(known) != 1 || known[0].Over {
			t.Errorf("it lives, and is said to be over: %+v", known)
		}
		again := c.reply(packettest.RST, 601, 101)
		c.leaves("replied", again, d.back(c.sourced, again))
		if known := d.known(t); len(known) != 1 || !known[0].Over {
			t.Errorf("reset by the backend: %+v", known)
		}
	})
}

// Each block of ports is one director's, and a director that is added takes from all alike.
func TestDirectorsShareTheSourcePorts(t *testing.T) {
	owners := func(nodes int) []int {
		all := make([]int, 512)
		for i := range all {
			all[i] = -1
		}
		for local := range nodes {
			state := &lb.State{Services: []lb.Service{{SourceNAT: true}}}
			for i := range nodes {
				state.Nodes = append(state.Nodes, lb.Node{Name: fmt.Sprint("n", i), Local: i == local})
			}
			for _, block := range datapath.OwnBlocks(state) {
				if all[block] >= 0 {
					t.Fatalf("block %d is of %d and %d", block, all[block], local)
				}
				all[block] = local
			}
		}
		return all
	}
	for nodes := range 6 {
		before, after := owners(nodes+1), owners(nodes+2)
		shares := make([]int, nodes+1)
		for block := range before {
			if before[block] < 0 {
				t.Fatalf("%d nodes: block %d is nobody's", nodes+1, block)
			}
			shares[before[block]]++
			if after[block] != before[block] && after[block] != nodes+1 {
				t.Errorf("block %d went from %d to %d, which is not the new one", block, before[block], after[block])
			}
		}
		if fair := 512 / (nodes + 1); slices.Min(shares) < fair*2/3 {
			t.Errorf("%d nodes have %v blocks", nodes+1, shares)
		}
	}
}

// Another director goes on with what this one established, from the same port.
func TestDirectorsTellEachOtherOfFlowsOfFullNAT(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		seer := d.instance.Director()
		t.Cleanup(seer.CloseNews)
		c := d.converse(t, f, "web", 40000)
		c.opens()
		if notes, _, err := seer.News(9); err != nil || len(notes) > 0 {
			t.Errorf("told of what nobody answered: %v, %v", notes, err)
		}
		c.establishes()
		notes, _, err := seer.News(9)
		if err != nil || len(notes) != 1 {
			t.Fatalf("told %v, %v", notes, err)
		}
		other := fullWorld(t)
		o := other.converse(t, f, "web", 40000)
		o.source = c.source
		o.isDropped("unknown-flow", o.segment(packettest.ACK, 101, 501))
		for range 2 { // again changes nothing
			if err := other.instance.Director().Take(notes); err != nil {
				t.Fatal(err)
			}
		}
		o.acknowledges(501)
		reply := o.reply(packettest.ACK, 501, 101)
		o.leaves("replied", reply, other.back(o.sourced, reply))
		if diff := cmp.Diff(d.known(t), other.known(t), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}),
			cmpopts.IgnoreFields(datapath.Exception{}, "Silent")); diff != "" {
			t.Errorf("(-seer +told):\n%s", diff)
		}
		fin := c.segment(packettest.RST, 101, 501)
		c.leaves("forwarded", fin, d.out(c.sourced, fin))
		all, err := seer.AllNotes(time.Minute)
		if err != nil || len(all) != 1 {
			t.Fatalf("tells all of %v, %v", all, err)
		}
		other.age(t, 3*time.Second) // or what was seen there counts for more
		if err := other.instance.Director().Take(all); err != nil {
			t.Fatal(err)
		}
		if known := other.known(t); len(known) != 1 || !known[0].Over {
			t.Errorf("does not know that it ended: %+v", known)
		}
		taken := other.converse(t, f, "web", 40001)
		for _, note := range []datapath.Note{{Kind: datapath.NoteSource, Key: all[0].Key[:9], Value: all[0].Value}, {Kind: datapath.NoteSource, Key: all[0].Key}} {
			if err := other.instance.Director().Take([]datapath.Note{note}); err == nil {
				t.Errorf("took %v", note)
			}
		}
		taken.opens()
	})
}
