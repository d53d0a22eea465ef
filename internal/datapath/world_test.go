package datapath_test

import (
	"net"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// The world of the fixtures: in each family the same VIPs, named after who owns what no service
// names. This node is n0.
const (
	vipMine      = 10 // with one service for each way of naming ports
	vipTheirs    = 20
	vipNobody    = 30
	vipStrict    = 40 // drops what no service names
	vipAny       = 50 // a service of any protocol
	vipAllPorts  = 60 // services of all ports, and one of a range that goes before them
	vipStealth   = 70 // its shared MAC is a unicast one
	vipHash      = 80 // a service for each way of hashing; even buckets are this node's
	vipElsewhere = 90 // announced on another interface
	vipGroup     = 100
	noVIP        = 110
)

// Ports of services; what is called theirs is of the other node, gone is of nobody.
const (
	portWeb    = 80   // tcp, mine
	portSSH    = 22   // tcp, theirs
	portGone   = 23   // tcp, nobody's
	portDNS    = 53   // udp, mine
	portSIP    = 5060 // udp, theirs
	portHTTPS  = 443  // tcp, theirs, and 8443 too
	portRange  = 5100 // udp 5100-5227, mine
	portNone   = 9    // no service
	portClient = 40000
)

// Tables of the world.
const (
	tableMine = iota
	tableTheirs
	tableNobody
	tableEven
)

var (
	ownMAC    = loopback.HardwareAddr
	clientMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	peerMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	broadcast = net.HardwareAddr{255, 255, 255, 255, 255, 255}
)

// A family is IPv4 or IPv6.
type family struct {
	name   string
	client netip.Addr
	router netip.Addr // a sender of ICMP errors
	prefix netip.Addr // of the VIPs
}

var (
	v4 = family{
		"IPv4", netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("192.0.2.0"),
	}
	v6 = family{
		"IPv6", netip.MustParseAddr("2001:db8:c::7"), netip.MustParseAddr("2001:db8:f::1"), netip.MustParseAddr("2001:db8::"),
	}
	families = []family{v4, v6}
)

// vip is the address of a VIP.
func (f family) vip(n byte) netip.Addr {
	b := f.prefix.AsSlice()
	b[len(b)-1] = n
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// mac is the shared MAC of a VIP.
func (f family) mac(n byte) net.HardwareAddr {
	b := f.vip(n).AsSlice()
	b = b[len(b)-4:]
	switch {
	case n == vipStealth:
		return append(net.HardwareAddr{2, 0xbf}, b...)
	case n == vipGroup && f == v4:
		return net.HardwareAddr{1, 0, 0x5e, 0x7f, b[2], b[3]}
	case n == vipGroup:
		return append(net.HardwareAddr{0x33, 0x33}, b...)
	}
	return append(net.HardwareAddr{3, 0xbf}, b...)
}

// scope is what is counted for a VIP itself, serviceScope for a service.
func (f family) scope(n byte) string { return "vip " + f.vip(n).String() }

func (f family) serviceScope(name string, n byte) string {
	return "service " + name + " " + f.vip(n).String()
}

// ip is the header from a client to a VIP.
func (f family) ip(n byte) packettest.Layer { return f.between(f.client, f.vip(n)) }

func (f family) between(src, dst netip.Addr) packettest.Layer {
	if f == v4 {
		return packettest.IPv4{Src: src, Dst: dst}
	}
	return packettest.IPv6{Src: src, Dst: dst}
}

// eth is the header of a frame to everybody who has a VIP.
func (f family) eth(n byte) packettest.Layer {
	return packettest.Ethernet{Dst: f.mac(n), Src: clientMAC}
}

// tcp and udp are packets from a client to a VIP's port.
func (f family) tcp(n byte, port uint16) []byte {
	return packettest.Frame(f.eth(n), f.ip(n), packettest.TCP{Src: portClient, Dst: port, Flags: packettest.SYN})
}

func (f family) udp(n byte, port uint16) []byte {
	return packettest.Frame(f.eth(n), f.ip(n), packettest.UDP{Src: portClient, Dst: port}, packettest.Raw{Bytes: []byte("payload!")})
}

func (f family) echo() packettest.ICMP {
	if f == v4 {
		return packettest.ICMP{Type: 8, Rest: 1<<16 | 1}
	}
	return packettest.ICMP{Type: 128, Rest: 1<<16 | 1}
}

func (f family) echoReply() packettest.ICMP {
	if f == v4 {
		return packettest.ICMP{Type: 0, Rest: 1<<16 | 1}
	}
	return packettest.ICMP{Type: 129, Rest: 1<<16 | 1}
}

// hashModes are the ways of hashing: service i of vipHash, at port i + 1, has mode i.
func hashModes() []lb.HashFields {
	return []lb.HashFields{
		lb.HashSource,
		lb.HashSourcePort,
		lb.HashSourcePortDestPort,
		{SourceBits4: 24, SourceBits6: 56},
	}
}

// worldSeed makes the buckets of the world's flows what they are.
var worldSeed = [32]byte{0: 7, 31: 9}

// bucket is where a flow to vipHash is, as the Go side sees it.
func (f family) bucket(fields lb.HashFields, src netip.Addr, srcPort, dstPort uint16) int {
	keys := flowhash.NewKeys(worldSeed)
	return flowhash.Bucket(keys.Sum(flowhash.NewMask(fields, f == v4), src, srcPort, dstPort))
}

// clientIn finds a client's address whose flow is in an even or odd bucket.
func (f family) clientIn(fields lb.HashFields, parity int, srcPort, dstPort uint16) netip.Addr {
	b, network := f.client.AsSlice(), 2
	if f == v6 {
		network = 6
	}
	for ; ; b[network]++ { // within what source-net looks at
		addr, _ := netip.AddrFromSlice(b)
		if f.bucket(fields, addr, srcPort, dstPort)%2 == parity {
			return addr
		}
	}
}

func worldTables() []*lb.Table {
	even := make([]int16, lb.Buckets)
	for i := range even {
		even[i] = int16(i % 2)
	}
	return []*lb.Table{
		tableMine:   {Owners: slices.Repeat([]int16{0}, lb.Buckets)},
		tableTheirs: {Owners: slices.Repeat([]int16{1}, lb.Buckets)},
		tableNobody: {Owners: slices.Repeat([]int16{lb.NoNode}, lb.Buckets)},
		tableEven:   {Owners: even},
	}
}

// world is the state of the fixtures.
func world() *lb.State {
	state := &lb.State{
		Cluster: "fixtures",
		Seed:    worldSeed,
		Nodes: []lb.Node{
			{Index: 0, Name: "n0", Weight: 100, Local: true, MAC: ownMAC},
			{Index: 1, Name: "n1", Weight: 100, MAC: peerMAC},
		},
		Tables: worldTables(),
	}
	for _, f := range families {
		for _, v := range []struct {
			n     byte
			table int
		}{
			{vipMine, tableMine},
			{vipTheirs, tableTheirs},
			{vipNobody, tableNobody},
			{vipStrict, tableMine},
			{vipAny, tableMine},
			{vipAllPorts, tableMine},
			{vipStealth, tableMine},
			{vipHash, tableEven},
			{vipElsewhere, tableMine},
			{vipGroup, tableMine},
		} {
			vip := lb.VIP{Addr: f.vip(v.n), Interface: "lo", MAC: f.mac(v.n), Table: v.table}
			if v.n == vipStrict {
				vip.Other = lb.OtherDrop
			}
			if v.n == vipElsewhere {
				vip.Interface = "elsewhere"
			}
			state.VIPs = append(state.VIPs, vip)
			addServices(state, v.n)
		}
	}
	return state
}

// addServices adds the services of the VIP that was added last.
func addServices(state *lb.State, n byte) {
	vip := len(state.VIPs) - 1
	add := func(name string, p lb.Protocol, table int, hash lb.HashFields, ports ...lb.PortRange) {
		state.Services = append(state.Services, lb.Service{
			Name: name, VIP: vip, Protocol: p, Ports: ports, Hash: hash, Table: table,
		})
	}
	one := func(port uint16) lb.PortRange { return lb.PortRange{First: port, Last: port} }
	tcp, udp, hash := lb.ProtocolTCP, lb.ProtocolUDP, lb.HashSourcePort
	switch n {
	case vipMine:
		add("web", tcp, tableMine, hash, one(portWeb))
		add("ssh", tcp, tableTheirs, hash, one(portSSH))
		add("gone", tcp, tableNobody, hash, one(portGone))
		add("https", tcp, tableTheirs, hash, one(portHTTPS), one(8443))
		add("dns", udp, tableMine, hash, one(portDNS))
		add("sip", udp, tableTheirs, hash, one(portSIP))
		add("range", udp, tableMine, hash, lb.PortRange{First: portRange, Last: portRange + 127})
	case vipTheirs, vipStrict, vipElsewhere, vipGroup:
		add("web", tcp, tableMine, hash, one(portWeb))
	case vipAny:
		add("any", lb.ProtocolAny, tableTheirs, hash, lb.AllPorts)
		add("web", tcp, tableMine, hash, one(portWeb))
	case vipAllPorts:
		add("tcp", tcp, tableMine, hash, lb.AllPorts)
		add("udp", udp, tableTheirs, hash, lb.AllPorts)
		add("some", udp, tableMine, hash, lb.PortRange{First: 8000, Last: 8999})
	case vipStealth:
		add("web", tcp, tableMine, hash, one(portWeb))
		add("ssh", tcp, tableTheirs, hash, one(portSSH))
	case vipHash:
		for i, mode := range hashModes() {
			add(mode.String(), tcp, tableEven, mode, one(uint16(i+1)))
		}
	}
}

func worldDevice(name string) (*net.Interface, error) {
	if name == "lo" {
		return loopback, nil
	}
	return &net.Interface{Index: 77, Name: name, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 77}}, nil
}
