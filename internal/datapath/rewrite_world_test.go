package datapath_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A director is a machine between two links, with a VIP in each family for each way of forwarding.
// Some clients and backends are on one link, some on the other.
type director struct {
	host     *netlab.Host
	links    [2]*net.Interface // VIPs are announced on the first
	state    *lb.State
	services []*forwarding
	instance *datapath.Instance
}

// A forwarding is one service of a director.
type forwarding struct {
	*lb.Service
	vip  lb.VIP
	hash *flowhash.Mask
}

const directorMTU = 9000

// hopMAC is the next hop on a link: its router's, or a backend's.
func hopMAC(link int, n byte) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 1, byte(link), n}
}

// onLink is an address on a link.
func (f family) onLink(link int, n byte) netip.Addr {
	if f == v4 {
		return netip.AddrFrom4([4]byte{192, 0, 2, byte(link)<<7 | n})
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 6: byte(link) + 1, 15: n})
}

// clients is the network whose router is on a link.
func (f family) clients(link int) netip.Prefix {
	return map[family][2]netip.Prefix{
		v4: {netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")},
		v6: {netip.MustParsePrefix("2001:db8:c::/48"), netip.MustParsePrefix("2001:db8:d::/48")},
	}[f][link]
}

// newDirector makes the machine with its routes and neighbours, and loads the programs there with
// what describe adds to its state.
func newDirector(t testing.TB, describe func(*director)) *director {
	t.Helper()
	lab := nettest.New(t)
	d := &director{host: nettest.Host(t, lab, "node")}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const router = 1
	must(d.host.Forward())
	for link := range d.links {
		sw, err := lab.Switch(fmt.Sprintf("sw%d", link), netlab.SwitchOptions{})
		must(err)
		name := fmt.Sprintf("eth%d", link)
		must(lab.Connect(d.host, name, sw, netlab.LinkOptions{}))
		for _, f := range families {
			bits := map[family]int{v4: 25, v6: 64}[f]
			must(d.host.Addr(name, netip.PrefixFrom(f.onLink(link, 2), bits)))
			must(d.host.Neighbour(name, f.onLink(link, router), hopMAC(link, router)))
			must(d.host.Route(f.clients(link), f.onLink(link, router)))
			// known as those that answered once
			must(d.host.Neighbour(name, f.onLink(link, backendNear), hopMAC(link, backendNear)))
		}
		must(d.host.Do(func() (err error) {
			d.links[link], err = net.InterfaceByName(name)
			return err
		}))
	}
	d.state = &lb.State{
		Cluster: "directors",
		Seed:    worldSeed,
		Nodes:   []lb.Node{{Index: 0, Name: "n0", Weight: 100, Local: true, MAC: d.links[0].HardwareAddr}},
		Tables:  []*lb.Table{{Owners: slices.Repeat([]int16{0}, lb.Buckets)}},
	}
	describe(d)
	must(d.host.Do(func() (err error) {
		d.instance, err = lend(t, d.state, nil)
		return err
	}))
	return d
}

// everyWay adds a VIP for each way of forwarding, with a TCP and a UDP service.
func (d *director) everyWay() {
	n := byte(0)
	for _, f := range families {
		other := v6
		if f == v6 {
			other = v4
		}
		add := func(s lb.Service, backends family, ports ...lb.PortRange) {
			n++
			vip := f.vip(200 + n)
			d.state.VIPs = append(d.state.VIPs, lb.VIP{
				Addr: vip, Interface: "eth0", MAC: net.HardwareAddr{3, 0xbf, 0, 0, 0, n},
			})
			s.VIP, s.Ports, s.Hash = len(d.state.VIPs)-1, ports, lb.HashSourcePort
			for i := range byte(4) {
				d.addBackend(&s, backends, n*4+i, int(i%2))
			}
			s.Choice = randomChoice(uint64(n), len(s.Backends))
			for _, s.Protocol = range []lb.Protocol{lb.ProtocolTCP, lb.ProtocolUDP} {
				s.Name = fmt.Sprintf("%s-%s-%d", s.Forward, s.Protocol, n)
				d.state.Services = append(d.state.Services, s)
			}
		}
		web := lb.PortRange{First: 80, Last: 80}
		add(lb.Service{Forward: lb.ForwardDR, MSS: 1300}, f, web)
		for _, encap := range []lb.Encap{lb.EncapIP, lb.EncapGUE} {
			add(lb.Service{Forward: lb.ForwardTunnel, Encap: encap}, f, web)
			add(lb.Service{Forward: lb.ForwardTunnel, Encap: encap, MSS: 1240}, other, lb.AllPorts)
		}
		add(lb.Service{Forward: lb.ForwardNAT}, f, web)
		add(lb.Service{Forward: lb.ForwardNAT, MSS: 1400}, f, lb.PortRange{First: 5000, Last: 5099})
		add(lb.Service{Forward: lb.ForwardNAT}, f, lb.AllPorts)
	}
	for i := range d.state.Services {
		s := &d.state.Services[i]
		mask := flowhash.NewMask(s.Hash, d.state.VIPs[s.VIP].Addr.Is4())
		d.services = append(d.services, &forwarding{s, d.state.VIPs[s.VIP], &mask})
	}
}

func (d *director) addBackend(s *lb.Service, f family, n byte, link int) {
	b := d.backend(f, n, link)
	if s.Forward == lb.ForwardNAT && n%2 == 0 && s.Ports[0].First == s.Ports[0].Last {
		b.Port = 8000 + uint16(n)
	}
	s.Backends = append(s.Backends, b)
}

// backend is a machine on a link.
func (d *director) backend(f family, n byte, link int) lb.Backend {
	return lb.Backend{
		Name: fmt.Sprintf("b%d", n),
		Addr: f.onLink(link, n),
		Hop: &lb.NextHop{
			Interface: d.links[link].Name, MAC: hopMAC(link, n), Source: f.onLink(link, 2), MTU: directorMTU,
		},
	}
}

func randomChoice(seed uint64, backends int) *lb.Choice {
	random := rand.New(rand.NewPCG(seed, 4))
	choice := &lb.Choice{Current: make([]int16, lb.Slots)}
	for i := range choice.Current {
		choice.Current[i] = int16(random.IntN(backends))
	}
	return choice
}

// hashOf is the hash of a flow to a service, as every director computes it.
func (s *forwarding) hashOf(client netip.AddrPort, port uint16) uint64 {
	return flowhash.NewKeys(worldSeed).Sum(*s.hash, client.Addr(), client.Port(), port)
}

// backendOf is the backend of a hash's slot.
func (s *forwarding) backendOf(hash uint64) *lb.Backend {
	return &s.Backends[s.Choice.Current[hash>>32*lb.Slots>>32]]
}

// A departure is how a frame leaves a director.
type departure struct {
	action uint32
	frame  []byte
}

// leaving is a frame that goes to a hop on a link, having come in by another or the same.
func (d *director) leaving(frame []byte, in, out int, mac net.HardwareAddr) departure {
	hop := packettest.Hop{MAC: mac, Own: d.links[out].HardwareAddr}
	action := uint32(actionTX)
	if in != out {
		action = actionRedirect
	}
	return departure{action, hop.Route(frame)}
}

// linkOf is the link of a backend.
func (d *director) linkOf(b *lb.Backend) int {
	if b.Hop.Interface == d.links[1].Name {
		return 1
	}
	return 0
}

// forward is what becomes of a frame from a client: hash is its flow's.
func (d *director) forward(s *forwarding, frame []byte, hash, spread uint64) departure {
	b := s.backendOf(hash)
	if s.MSS != 0 {
		frame = packettest.ClampMSS(frame, s.MSS)
	}
	if s.Forward == lb.ForwardNAT {
		frame = packettest.Translate(frame, packettest.Destination, netip.AddrPortFrom(b.Addr, b.Port))
	}
	left := d.leaving(frame, 0, d.linkOf(b), b.Hop.MAC)
	if s.Forward == lb.ForwardTunnel {
		tunnel := packettest.Tunnel{Src: b.Hop.Source, Dst: b.Addr}
		if s.Encap == lb.EncapGUE {
			tunnel.GUE = 0xc000 | uint16(spread>>16&0x3fff)
		}
		left.frame = tunnel.Wrap(left.frame)
	}
	return left
}

// reply is what becomes of a frame from a backend to a client whose router is on a link.
func (d *director) reply(s *forwarding, b *lb.Backend, frame []byte, link int) departure {
	from := netip.AddrPortFrom(s.vip.Addr, 0)
	if b.Port != 0 {
		from = netip.AddrPortFrom(s.vip.Addr, s.Ports[0].First)
	}
	frame = packettest.Translate(frame, packettest.Source, from)
	return d.leaving(frame, d.linkOf(b), link, hopMAC(link, 1))
}
