package datapath_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

const (
	randomForwarded = 1_000_000
	forwardWorkers  = 2
)

// Whatever a client or a backend sends: each frame leaves as the reference has it, byte for byte,
// and with every checksum right, by both ways through the program.
func TestForwardedFramesAreWhatTheReferenceMakesOfThem(t *testing.T) {
	d := newDirector(t, (*director).everyWay)
	kinds := make([]map[string]int, forwardWorkers)
	var workers sync.WaitGroup
	for worker := range kinds {
		kinds[worker] = make(map[string]int)
		x := &traffic{random: rand.New(rand.NewPCG(20, uint64(worker))), d: d, id: uint16(worker) << 15, kinds: kinds[worker]}
		for link := range d.links {
			x.short[link] = packettest.NewRunnerOn(t, d.instance.XDP(), d.links[link].Index)
			x.long[link] = packettest.NewRunnerOn(t, longWay(t, d.instance), d.links[link].Index)
		}
		workers.Go(func() {
			err := d.host.Do(func() error { return x.run(packettest.Scaled(t, randomForwarded) / forwardWorkers) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	for kind, n := range kinds[0] {
		t.Logf("%-40s %d", kind, n+kinds[1][kind])
	}
}

// A traffic is one worker's: what it sends and what must become of it.
type traffic struct {
	random      *rand.Rand
	d           *director
	short, long [2]*packettest.Runner // by the link that frames come in by
	id          uint16                // of the last datagram in fragments
	kinds       map[string]int
	sent        int

	// The packet in the making.
	f      family
	s      *forwarding
	client netip.AddrPort
	router int // the link of the client's router
	port   uint16
}

func (x *traffic) run(frames int) error {
	for x.sent < frames {
		x.s = x.d.services[x.random.IntN(len(x.d.services))]
		x.f = v4
		if x.s.vip.Addr.Is6() {
			x.f = v6
		}
		x.router = x.random.IntN(2)
		x.client = netip.AddrPortFrom(x.anyIn(x.f.clients(x.router)), uint16(1+x.random.IntN(65535)))
		r := x.s.Ports[0]
		x.port = r.First + uint16(x.random.IntN(int(r.Last)-int(r.First)+1))
		if x.port == packettest.GUEPort || x.client.Port() == packettest.GUEPort {
			continue // its payload would be taken for a packet
		}
		send := []func() error{x.request, x.request, x.request, x.requestInParts, x.errorAboutReply}
		if x.s.Forward == lb.ForwardNAT {
			send = append(send, x.reply, x.reply, x.reply, x.replyInParts, x.errorAboutRequest)
		}
		if err := send[x.random.IntN(len(send))](); err != nil {
			return fmt.Errorf("packet %d, service %s of %s: %w", x.sent, x.s.Name, x.s.vip.Addr, err)
		}
	}
	return nil
}

// check gives a frame to the program.
func (x *traffic) check(kind string, in int, frame []byte, want departure) error {
	x.sent++
	x.kinds[fmt.Sprintf("%s %s", x.s.Forward, kind)]++
	if err := packettest.Verify(frame); err != nil {
		return fmt.Errorf("%s: the frame is wrong itself: %w", kind, err)
	}
	runners := []*packettest.Runner{x.short[in]}
	if x.sent%longShare == 0 {
		runners = append(runners, x.long[in])
	}
	for way, runner := range runners {
		action, out, err := runner.Run(frame)
		if err != nil {
			return err
		}
		if action != want.action || !bytes.Equal(out, want.frame) {
			return fmt.Errorf("%s, way %d: frame\n%x: action %d, want %d, became\n%x, want\n%x", kind, way, frame, action, want.action, out, want.frame)
		}
		if err := packettest.Verify(out); err != nil {
			return fmt.Errorf("%s: frame\n%x became\n%x: %w", kind, frame, out, err)
		}
	}
	return nil
}

// request is a packet to the VIP.
func (x *traffic) request() error {
	frame := x.finish(x.toVIP(), x.ip(x.client.Addr(), x.s.vip.Addr), x.transport(x.client.Port(), x.port), x.payload(1400))
	hash := x.s.hashOf(x.client, x.port)
	return x.check("request", 0, frame, x.d.forward(x.s, frame, hash, hash))
}

// requestInParts is a datagram to the VIP in fragments.
func (x *traffic) requestInParts() error {
	hash := x.s.hashOf(x.client, x.port)
	frames, id := x.parts(x.toVIP(), x.client.Addr(), x.s.vip.Addr, x.transport(x.client.Port(), x.port))
	spread := hash
	for i, frame := range frames {
		if err := x.check(fmt.Sprint("request, fragment ", i), 0, frame, x.d.forward(x.s, frame, hash, spread)); err != nil {
			return err
		}
		// later ones have no ports: datagrams are told apart instead
		everything := flowhash.NewMask(lb.HashSourcePortDestPort, x.f == v4)
		spread = flowhash.NewKeys(worldSeed).Sum(everything, x.client.Addr(), uint16(id>>16), uint16(id))
	}
	return nil
}

// errorAboutReply is an ICMP error to the VIP about what it sent to the client.
func (x *traffic) errorAboutReply() error {
	quoted := packettest.Frame(append(x.ip(x.s.vip.Addr, x.client.Addr()), x.transport(x.port, x.client.Port()), x.payload(100))...)
	frame := x.finish(x.toVIP(), x.ip(x.anyIn(x.f.clients(x.router)), x.s.vip.Addr), x.icmpError(), x.cut(quoted))
	hash := x.s.hashOf(x.client, x.port)
	return x.check("error about a reply", 0, frame, x.d.forward(x.s, frame, hash, hash))
}

// reply is a packet from a backend to the client, by us.
func (x *traffic) reply() error {
	b, port := x.backend()
	link := x.d.linkOf(b)
	frame := x.finish(x.toUs(link), x.ip(b.Addr, x.client.Addr()), x.transport(port, x.client.Port()), x.payload(1300))
	return x.check("reply", link, frame, x.d.reply(x.s, b, frame, x.router))
}

func (x *traffic) replyInParts() error {
	b, port := x.backend()
	link := x.d.linkOf(b)
	frames, _ := x.parts(x.toUs(link), b.Addr, x.client.Addr(), x.transport(port, x.client.Port()))
	for i, frame := range frames {
		if err := x.check(fmt.Sprint("reply, fragment ", i), link, frame, x.d.reply(x.s, b, frame, x.router)); err != nil {
			return err
		}
	}
	return nil
}

// errorAboutRequest is a backend's ICMP error, or that of a router before it, about a request.
func (x *traffic) errorAboutRequest() error {
	b, port := x.backend()
	link := x.d.linkOf(b)
	from := b.Addr
	if x.random.IntN(3) == 0 {
		from = x.f.onLink(link, 120)
	}
	quoted := packettest.Frame(append(x.ip(x.client.Addr(), b.Addr), x.transport(x.client.Port(), port), x.payload(100))...)
	frame := x.finish(x.toUs(link), x.ip(from, x.client.Addr()), x.icmpError(), x.cut(quoted))
	return x.check("error about a request", link, frame, x.d.reply(x.s, b, frame, x.router))
}

// backend is one of the service, and its port for the VIP's.
func (x *traffic) backend() (*lb.Backend, uint16) {
	b := &x.s.Backends[x.random.IntN(len(x.s.Backends))]
	if b.Port != 0 {
		return b, b.Port
	}
	return b, x.port
}

// toVIP is the start of a frame to all nodes, with tags or without.
func (x *traffic) toVIP() []packettest.Layer {
	layers := []packettest.Layer{packettest.Ethernet{Dst: x.s.vip.MAC, Src: clientMAC}}
	for range max(0, x.random.IntN(8)-5) {
		layers = append(layers, packettest.VLAN{ID: uint16(1 + x.random.IntN(4094)), Priority: uint8(x.random.IntN(8))})
	}
	return layers
}

// toUs is the start of a frame to this machine.
func (x *traffic) toUs(link int) []packettest.Layer {
	return []packettest.Layer{packettest.Ethernet{Dst: x.d.links[link].HardwareAddr, Src: clientMAC}}
}

// finish builds a frame, filled up as senders do, or not.
func (x *traffic) finish(link, ip []packettest.Layer, rest ...packettest.Layer) []byte {
	frame := packettest.Frame(slices.Concat(link, ip, rest)...)
	if x.random.IntN(2) == 0 {
		frame = packettest.Pad(frame, 60)
	}
	return frame
}

// ip is an IP header with anything in it that a router may meet.
func (x *traffic) ip(src, dst netip.Addr) []packettest.Layer {
	r := x.random
	ttl, tos := uint8(2+r.IntN(254)), uint8(r.IntN(256))
	if x.f == v4 {
		ip := packettest.IPv4{Src: src, Dst: dst, TTL: ttl, TOS: tos, ID: uint16(r.Uint32()), Dont: r.IntN(2) == 0}
		if r.IntN(8) == 0 {
			ip.Options = bytes.Repeat([]byte{1}, 4*r.IntN(11))
		}
		return []packettest.Layer{ip}
	}
	layers := []packettest.Layer{packettest.IPv6{Src: src, Dst: dst, HopLimit: ttl, TrafficClass: tos, FlowLabel: r.Uint32N(1 << 20)}}
	if r.IntN(8) != 0 {
		return layers
	}
	for range 1 + r.IntN(3) {
		layers = append(layers, []packettest.Layer{
			packettest.Extension{Kind: packettest.ProtocolHopByHop, Size: 8 * (1 + r.IntN(3))},
			packettest.Extension{Kind: packettest.ProtocolDestination, Size: 8 * (1 + r.IntN(3))},
			packettest.Extension{Kind: packettest.ProtocolRouting, Size: 24},
			packettest.AH{Size: 16 + 8*r.IntN(2)},
		}[r.IntN(4)])
	}
	return layers
}

func (x *traffic) transport(src, dst uint16) packettest.Layer {
	r := x.random
	if x.s.Protocol == lb.ProtocolUDP {
		return packettest.UDP{Src: src, Dst: dst, NoChecksum: x.f == v4 && r.IntN(8) == 0}
	}
	segment := packettest.TCP{Src: src, Dst: dst, Sequence: r.Uint32(), Acknowledgment: r.Uint32()}
	segment.Flags = []uint8{packettest.SYN, packettest.ACK, packettest.SYN | packettest.ACK, packettest.FIN | packettest.ACK, packettest.RST}[r.IntN(5)]
	for range r.IntN(6) {
		segment.Options = append(segment.Options, [][]byte{
			{1}, {2, 4, byte(r.IntN(32)), byte(r.IntN(256))}, {3, 3, 7}, {4, 2}, {8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
		}[r.IntN(5)]...)
	}
	segment.Options = segment.Options[:min(40, len(segment.Options))]
	for len(segment.Options)%4 != 0 {
		segment.Options = append(segment.Options, byte(r.IntN(2)))
	}
	return segment
}

// payload is up to n bytes; most are few, or they would be all that the test computes.
func (x *traffic) payload(n int) packettest.Layer {
	if x.random.IntN(8) != 0 {
		n = 32
	}
	return packettest.Raw{Bytes: x.noise(x.random.IntN(n + 1))}
}

func (x *traffic) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(x.random.Uint32())
	}
	return b
}

// parts cuts a datagram into fragments, the first with the whole transport header. It returns their
// identification, too.
func (x *traffic) parts(link []packettest.Layer, src, dst netip.Addr, transport packettest.Layer) (frames [][]byte, id uint32) {
	header := x.ip(src, dst)[:1]
	whole := packettest.Frame(header[0], transport, packettest.Raw{Bytes: x.noise(64 + x.random.IntN(200))})
	x.id = x.id&0x8000 | (x.id+1)&0x7fff
	id = uint32(x.id)
	if x.f == v6 {
		id |= uint32(x.random.IntN(1<<16)) << 16
		whole = whole[40:]
	} else {
		whole = whole[int(whole[0]&15)*4:]
	}
	for at, size := 0, 64; at < len(whole); at, size = at+size, 8*(1+x.random.IntN(20)) {
		size = min(size, len(whole)-at)
		more := at+size < len(whole)
		layers := slices.Clone(header)
		if ip, ok := header[0].(packettest.IPv4); ok {
			ip.ID, ip.Offset, ip.More, ip.Dont = uint16(id), at, more, false
			layers[0] = ip
		} else {
			layers = append(layers, packettest.Fragment{ID: id, Offset: at, More: more})
		}
		raw := packettest.Raw{Number: uint16(x.s.Protocol), Bytes: whole[at:][:size]}
		frames = append(frames, x.finish(link, layers, raw))
	}
	return frames, id
}

func (x *traffic) icmpError() packettest.Layer {
	m := packettest.ICMP{Code: uint8(x.random.IntN(6)), Rest: x.random.Uint32()}
	m.Type = []uint8{3, 4, 11, 12}[x.random.IntN(4)]
	if x.f == v6 {
		m.Type = uint8(1 + x.random.IntN(4))
	}
	return m
}

// cut is as much of a packet as a router quotes: its headers and at least 8 bytes behind them.
func (x *traffic) cut(packet []byte) packettest.Layer {
	least := packettest.HeadersOf(packet) + 8
	return packettest.Raw{Bytes: packet[:least+x.random.IntN(len(packet)-least+1)]}
}

// anyIn is an address in a network, but for its first and last ones.
func (x *traffic) anyIn(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits() / 8; i < len(b); i++ {
		b[i] = byte(1 + x.random.IntN(254))
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}
