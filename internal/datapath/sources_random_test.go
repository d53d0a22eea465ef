package datapath_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

const randomSourced = 300_000

// fullNAT adds two VIPs of full NAT in each family: backends with ports of their own, and such that listen
// where the client asked.
func (d *director) fullNAT() {
	n := byte(0)
	for _, f := range families {
		for _, ports := range []lb.PortRange{{First: 80, Last: 80}, {First: 5000, Last: 5099}} {
			n++
			vip := lb.VIP{Addr: f.vip(220 + n), Interface: "eth0", MAC: net.HardwareAddr{3, 0xbf, 0, 0, 1, n}}
			d.state.VIPs = append(d.state.VIPs, vip)
			s := lb.Service{
				VIP: len(d.state.VIPs) - 1, Ports: []lb.PortRange{ports}, Hash: lb.HashSourcePort, Forward: lb.ForwardNAT, SourceNAT: true,
				MSS: 1400 * uint16(n%2),
			}
			for i := range byte(4) {
				d.addBackend(&s, f, n*4+i+40, int(i%2))
			}
			s.Choice = randomChoice(uint64(n), len(s.Backends))
			for _, s.Protocol = range []lb.Protocol{lb.ProtocolTCP, lb.ProtocolUDP} {
				s.Name = fmt.Sprintf("full-%s-%d", s.Protocol, n)
				d.state.Services = append(d.state.Services, s)
				mask := flowhash.NewMask(s.Hash, f == v4)
				own := s
				d.services = append(d.services, &forwarding{&own, vip, &mask})
			}
		}
	}
}

// A sourced is a flow of full NAT.
type sourced struct {
	s      *forwarding
	f      family
	client netip.AddrPort
	router int
	port   uint16 // of the VIP
	b      *lb.Backend
	source uint16 // of the VIP, that it leaves from
}

// at is where the backend has it.
func (c *sourced) at() netip.AddrPort {
	if c.b.Port != 0 {
		return netip.AddrPortFrom(c.b.Addr, c.b.Port)
	}
	return netip.AddrPortFrom(c.b.Addr, c.port)
}

// out is what becomes of a client's frame, back of a backend's.
func (d *director) out(c *sourced, frame []byte) departure {
	if c.s.MSS != 0 {
		frame = packettest.ClampMSS(frame, c.s.MSS)
	}
	frame = packettest.Translate(frame, packettest.Destination, c.at())
	frame = packettest.Translate(frame, packettest.Source, netip.AddrPortFrom(c.s.vip.Addr, c.source))
	return d.leaving(frame, 0, d.linkOf(c.b), c.b.Hop.MAC)
}

func (d *director) back(c *sourced, frame []byte) departure {
	frame = packettest.Translate(frame, packettest.Destination, c.client)
	frame = packettest.Translate(frame, packettest.Source, netip.AddrPortFrom(c.s.vip.Addr, c.port))
	return d.leaving(frame, 0, c.router, hopMAC(c.router, 1))
}

// Whatever comes of an established flow of full NAT, from either side: each frame leaves as the reference has
// it, byte for byte, and no two flows of a backend leave from one port.
func TestFramesOfFullNATAreWhatTheReferenceMakesOfThem(t *testing.T) {
	d := newDirector(t, (*director).fullNAT)
	workers := make([]*sourcedTraffic, forwardWorkers)
	var running sync.WaitGroup
	for worker := range workers {
		x := &sourcedTraffic{traffic: traffic{
			random: rand.New(rand.NewPCG(21, uint64(worker))), d: d, id: uint16(worker) << 15, kinds: make(map[string]int),
		}}
		for link := range d.links {
			x.short[link] = packettest.NewRunnerOn(t, d.instance.XDP(), d.links[link].Index)
			x.long[link] = packettest.NewRunnerOn(t, longWay(t, d.instance), d.links[link].Index)
		}
		workers[worker] = x
		running.Go(func() {
			if err := d.host.Do(func() error { return x.run(packettest.Scaled(t, randomSourced) / forwardWorkers) }); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	taken := make(map[string]*sourced)
	for _, x := range workers {
		for _, c := range x.flows {
			key := fmt.Sprint(c.s.vip.Addr, c.s.Protocol, c.at(), c.source)
			if other := taken[key]; other != nil {
				t.Errorf("%s: both %s and %s", key, other.client, c.client)
			}
			taken[key] = c
		}
	}
	for kind, n := range workers[0].kinds {
		t.Logf("%-40s %d", kind, n+workers[1].kinds[kind])
	}
	t.Logf("%d flows", len(taken))
}

type sourcedTraffic struct {
	traffic
	flows []*sourced
}

func (x *sourcedTraffic) run(frames int) error {
	for x.sent < frames {
		if len(x.flows) < 2 || x.random.IntN(16) == 0 {
			if err := x.open(); err != nil {
				return err
			}
		}
		c := x.flows[x.random.IntN(len(x.flows))]
		x.f, x.s, x.client, x.router, x.port = c.f, c.s, c.client, c.router, c.port
		send := []func(*sourced) error{x.request, x.request, x.requestInParts, x.reply, x.reply, x.replyInParts, x.errorAboutReply, x.errorAboutRequest}
		if err := send[x.random.IntN(len(send))](c); err != nil {
			return fmt.Errorf("packet %d, service %s, %s by port %d: %w", x.sent, x.s.Name, c.client, c.source, err)
		}
	}
	return nil
}

// open establishes a flow: what opens it, the answer, and what proves that the client heard it.
func (x *sourcedTraffic) open() error {
	s := x.d.services[x.random.IntN(len(x.d.services))]
	c := &sourced{s: s, f: v4, router: x.random.IntN(2)}
	if s.vip.Addr.Is6() {
		c.f = v6
	}
	c.client = netip.AddrPortFrom(x.anyIn(c.f.clients(c.router)), uint16(1+x.random.IntN(65535)))
	r := s.Ports[0]
	c.port = r.First + uint16(x.random.IntN(int(r.Last)-int(r.First)+1))
	if c.client.Port() == packettest.GUEPort || slices.ContainsFunc(x.flows, func(o *sourced) bool { return o.client == c.client }) {
		return nil
	}
	x.f, x.s, x.client, x.router, x.port = c.f, s, c.client, c.router, c.port
	c.b = s.backendOf(s.hashOf(c.client, c.port))
	number, answer := x.random.Uint32(), x.random.Uint32()
	segment := func(src, dst uint16, flags uint8, sequence, acknowledgment uint32) packettest.Layer {
		if s.Protocol == lb.ProtocolUDP {
			return packettest.UDP{Src: src, Dst: dst}
		}
		return packettest.TCP{Src: src, Dst: dst, Flags: flags, Sequence: sequence, Acknowledgment: acknowledgment}
	}
	first := x.finish(x.toVIP(), x.ip(c.client.Addr(), s.vip.Addr), segment(c.client.Port(), c.port, packettest.SYN, number, 0))
	_, out, err := x.short[0].Run(first)
	if err != nil {
		return err
	}
	at, err := packettest.Transport(out)
	if err != nil {
		return err
	}
	c.source = binary.BigEndian.Uint16(out[at:])
	if c.source < lb.SourcePorts.First {
		return fmt.Errorf("from port %d", c.source)
	}
	x.flows = append(x.flows, c)
	if err := x.check("first packet", 0, first, x.d.out(c, first)); err != nil {
		return err
	}
	reply := x.finish(x.toVIPFrom(c), x.ip(c.b.Addr, s.vip.Addr), segment(c.at().Port(), c.source, packettest.SYN|packettest.ACK, answer, number+1))
	if err := x.check("first reply", 0, reply, x.d.back(c, reply)); err != nil {
		return err
	}
	third := x.finish(x.toVIP(), x.ip(c.client.Addr(), s.vip.Addr), segment(c.client.Port(), c.port, packettest.ACK, number+1, answer+1))
	return x.check("proof", 0, third, x.d.out(c, third))
}

// toVIPFrom is the start of a frame from the backend to all nodes.
func (x *sourcedTraffic) toVIPFrom(c *sourced) []packettest.Layer {
	return []packettest.Layer{packettest.Ethernet{Dst: x.s.vip.MAC, Src: c.b.Hop.MAC}}
}

func (x *sourcedTraffic) request(c *sourced) error {
	frame := x.finish(x.toVIP(), x.ip(c.client.Addr(), x.s.vip.Addr), x.flowing(c.client.Port(), c.port), x.payload(1400))
	return x.check("request", 0, frame, x.d.out(c, frame))
}

func (x *sourcedTraffic) requestInParts(c *sourced) error {
	frames, _ := x.parts(x.toVIP(), c.client.Addr(), x.s.vip.Addr, x.flowing(c.client.Port(), c.port))
	for i, frame := range frames {
		if err := x.check(fmt.Sprint("request, fragment ", min(i, 1)), 0, frame, x.d.out(c, frame)); err != nil {
			return err
		}
	}
	return nil
}

func (x *sourcedTraffic) reply(c *sourced) error {
	frame := x.finish(x.toVIPFrom(c), x.ip(c.b.Addr, x.s.vip.Addr), x.flowing(c.at().Port(), c.source), x.payload(1300))
	return x.check("reply", 0, frame, x.d.back(c, frame))
}

func (x *sourcedTraffic) replyInParts(c *sourced) error {
	frames, _ := x.parts(x.toVIPFrom(c), c.b.Addr, x.s.vip.Addr, x.flowing(c.at().Port(), c.source))
	for i, frame := range frames {
		if err := x.check(fmt.Sprint("reply, fragment ", min(i, 1)), 0, frame, x.d.back(c, frame)); err != nil {
			return err
		}
	}
	return nil
}

// errorAboutReply is an ICMP error of somebody about what the VIP sent to the client.
func (x *sourcedTraffic) errorAboutReply(c *sourced) error {
	quoted := packettest.Frame(append(x.ip(x.s.vip.Addr, c.client.Addr()), x.flowing(c.port, c.client.Port()), x.payload(100))...)
	frame := x.finish(x.toVIP(), x.ip(x.anyIn(x.f.clients(x.router)), x.s.vip.Addr), x.icmpError(), x.cut(quoted))
	return x.check("error about a reply", 0, frame, x.d.out(c, frame))
}

// errorAboutRequest is one of the backend, or of a router before it, about what the VIP sent to it.
func (x *sourcedTraffic) errorAboutRequest(c *sourced) error {
	from := c.b.Addr
	if x.random.IntN(3) == 0 {
		from = x.f.onLink(0, 120)
	}
	quoted := packettest.Frame(append(x.ip(x.s.vip.Addr, c.b.Addr), x.flowing(c.source, c.at().Port()), x.payload(100))...)
	frame := x.finish(x.toVIPFrom(c), x.ip(from, x.s.vip.Addr), x.icmpError(), x.cut(quoted))
	return x.check("error about a request", 0, frame, x.d.back(c, frame))
}

// flowing is a header of what opens and ends nothing.
func (x *sourcedTraffic) flowing(src, dst uint16) packettest.Layer {
	header := x.transport(src, dst)
	if segment, ok := header.(packettest.TCP); ok {
		segment.Flags = []uint8{packettest.ACK, packettest.ACK | 8}[x.random.IntN(2)]
		return segment
	}
	return header
}
