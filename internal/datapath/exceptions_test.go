package datapath_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// How long flows of the services of slotWorld may be silent.
const (
	slotTCPIdle = 15 * time.Minute
	slotUDPIdle = time.Minute
)

// slotWorld forwards TCP and UDP of vipMine to three backends, whose MACs end in their place. All
// slots are alike; a backend is dead without a next hop.
func slotWorld(current, previous int16, mark lb.SlotMark, dead ...int) *lb.State {
	state := world()
	state.Services = nil
	var backends []lb.Backend
	for i := range 3 {
		b := lb.Backend{Name: fmt.Sprint("b", i), Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)})}
		if !slices.Contains(dead, i) {
			b.Hop = &lb.NextHop{Interface: loopback.Name, MAC: net.HardwareAddr{2, 0, 0, 7, 0, byte(i)}, MTU: 1500}
		}
		backends = append(backends, b)
	}
	choice := &lb.Choice{
		Current: slices.Repeat([]int16{current}, lb.Slots), Previous: slices.Repeat([]int16{previous}, lb.Slots),
		Marks: slices.Repeat([]lb.SlotMark{mark}, lb.Slots),
	}
	for i := range state.VIPs {
		if addr := state.VIPs[i].Addr; addr != v4.vip(vipMine) && addr != v6.vip(vipMine) {
			continue
		}
		for _, protocol := range []lb.Protocol{lb.ProtocolTCP, lb.ProtocolUDP} {
			state.Services = append(state.Services, lb.Service{
				Name: protocol.String(), VIP: i, Protocol: protocol, Ports: []lb.PortRange{{First: portWeb, Last: portWeb}},
				Hash: lb.HashSourcePort, Table: tableMine, Forward: lb.ForwardDR, TCPIdle: slotTCPIdle, UDPIdle: slotUDPIdle,
				Backends: backends, Choice: choice,
			})
		}
	}
	return state
}

// A slotLab sends packets of one family to an instance of slotWorld.
type slotLab struct {
	*testing.T
	family
	instance *datapath.Instance
}

// One instance is enough for all of them: it takes long to load.
func TestSlotsInTransition(t *testing.T) {
	instance := instanceOf(t, slotWorld(0, lb.NoBackend, 0))
	for _, test := range []struct {
		name string
		do   func(*slotLab)
	}{
		{"connections stay while their slot changes", connectionsStay},
		{"what is silent for too long is forgotten", silentFlows},
		{"flows of the dead are forgotten", flowsOfTheDead},
		{"datagrams are noted before their slot changes", datagramsAreNoted},
		{"exceptions are read with their names", exceptionsAreRead},
		{"what opens at another director is glimpsed", watchedOpenings},
		{"nothing is forwarded after the lease", slotsAfterTheLease},
		{"a SYN moves no connection that lives", oldSYNs},
	} {
		for _, f := range families {
			t.Run(test.name+"/"+f.name, func(t *testing.T) {
				l := &slotLab{t, f, instance}
				l.age(time.Hour) // what the last one left
				l.hasNoted("at first", map[uint16]int{})
				l.set(0, lb.NoBackend, 0)
				test.do(l)
			})
		}
	}
}

func (l *slotLab) set(current, previous int16, mark lb.SlotMark, dead ...int) {
	l.Helper()
	if _, err := l.instance.Set(slotWorld(current, previous, mark, dead...), worldDevice); err != nil {
		l.Fatal(err)
	}
}

func (l *slotLab) age(by time.Duration) {
	l.Helper()
	if err := l.instance.AgeExceptions(by); err != nil {
		l.Fatal(err)
	}
}

func (l *slotLab) segment(port uint16, flags uint8) []byte {
	return frameOf(l.eth(vipMine), l.ip(vipMine), tcp{Src: port, Dst: portWeb, Flags: flags})
}

func (l *slotLab) datagram(port uint16) []byte {
	return frameOf(l.eth(vipMine), l.ip(vipMine), udp{Src: port, Dst: portWeb})
}

// errorAbout quotes what the VIP sent to a client's port.
func (l *slotLab) errorAbout(port uint16) []byte {
	return l.quoting(vipMine, frameOf(l.fromVIP(vipMine), tcp{Src: portWeb, Dst: port}))
}

// goes checks at which backend a frame ends, lb.NoBackend for none.
func (l *slotLab) goes(sentence string, frame []byte, want int) {
	l.Helper()
	out, err := l.instance.Run(frame, ingress)
	if err != nil {
		l.Fatal(err)
	}
	got := lb.NoBackend
	if out.Action == actionTX {
		if slices.Equal(out.Frame[:5], []byte{2, 0, 0, 7, 0}) {
			got = int(out.Frame[5])
		} else {
			got = 999
		}
	}
	if got != want {
		l.Errorf("%s: it goes to backend %d, want %d", sentence, got, want)
	}
}

// noted returns the ports of clients whose flows are noted, and where.
func (l *slotLab) noted() map[uint16]int {
	l.Helper()
	list, err := l.instance.Exceptions()
	if err != nil {
		l.Fatal(err)
	}
	ports := make(map[uint16]int)
	for _, e := range list {
		ports[e.Remote.Port()] = e.Backend
	}
	return ports
}

func (l *slotLab) hasNoted(when string, want map[uint16]int) {
	l.Helper()
	if diff := gocmp.Diff(want, l.noted()); diff != "" {
		l.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

const (
	portOld = 40001 + iota
	portSlow
	portNew
	portHalf
	portLate
	portIdle
)

func connectionsStay(l *slotLab) {
	const syn, ack = packettest.SYN, packettest.ACK
	l.goes("at rest, a connection opens", l.segment(portOld, syn), 0)
	l.goes("and goes on", l.segment(portOld, ack), 0)
	l.hasNoted("at rest", map[uint16]int{})

	l.set(1, 0, lb.SlotMoving)
	l.goes("moving, an old one stays", l.segment(portOld, ack), 0)
	l.goes("and a slow one", l.segment(portSlow, ack), 0)
	l.goes("a new one opens elsewhere", l.segment(portNew, syn), 1)
	l.goes("and another", l.segment(portHalf, syn), 1)
	l.hasNoted("what was seen once", map[uint16]int{})
	l.goes("the new one goes on", l.segment(portNew, ack), 1)
	l.goes("the old one, too", l.segment(portOld, ack), 0)
	l.hasNoted("what was seen twice", map[uint16]int{portNew: 1, portOld: 0})

	l.set(2, 0, lb.SlotMoving)
	l.goes("changed again, the new one stays", l.segment(portNew, ack), 1)
	l.goes("who was opened before the change goes where it was", l.segment(portHalf, ack), 1)
	l.goes("who opens now goes elsewhere", l.segment(portLate, syn), 2)
	l.goes("and goes on there", l.segment(portLate, ack), 2)

	l.set(2, lb.NoBackend, lb.SlotExceptions)
	l.goes("with exceptions, the old one stays", l.segment(portOld, ack), 0)
	l.goes("the new one", l.segment(portNew, ack), 1)
	l.goes("and the slow one, which was seen once", l.segment(portSlow, ack), 0)
	l.goes("what is unknown is at the current backend", l.segment(portIdle, ack), 2)
	l.goes("an error about the old one goes to its backend", l.errorAbout(portOld), 0)
	l.hasNoted("in the end", map[uint16]int{portOld: 0, portNew: 1, portSlow: 0, portHalf: 1, portLate: 2})

	l.age(reusedAfter)
	l.goes("its ports are used again", l.segment(portOld, syn), 2)
	l.goes("and what comes then is of the new connection", l.segment(portOld, ack), 2)
	l.set(2, lb.NoBackend, 0)
	l.goes("at rest again, nothing counts but the slot", l.segment(portNew, ack), 2)
}

// reusedAfter is long after the last packet of a connection whose ports are used again.
const reusedAfter = 30 * time.Second

// It is late, or made up. The backend says which.
func oldSYNs(l *slotLab) {
	const syn, ack = packettest.SYN, packettest.ACK
	l.set(1, 0, lb.SlotMoving)
	for _, port := range []uint16{portOld, portOld, portSlow, portSlow, portIdle, portIdle} {
		l.goes("an old connection", l.segment(port, ack), 0)
	}
	l.goes("a SYN with its ports", l.segment(portOld, syn), 0)
	l.goes("it stays", l.segment(portOld, ack), 0)
	l.setTheirs(lb.AnnounceMulticast)
	l.goes("a SYN with its ports, at another director", l.segment(portSlow, syn), lb.NoBackend)
	l.set(1, lb.NoBackend, lb.SlotExceptions)
	l.goes("it stays, too", l.segment(portSlow, ack), 0)
	l.goes("a SYN with its ports, when the slot has moved", l.segment(portOld, syn), 0)
	l.hasNoted("with all that", map[uint16]int{portOld: 0, portSlow: 0, portIdle: 0})
	l.age(reusedAfter)
	l.goes("who was silent for a while opens again", l.segment(portIdle, syn), 1)
	l.goes("and is there", l.segment(portIdle, ack), 1)
	l.goes("who was not", l.segment(portOld, ack), 0)
	l.set(1, lb.NoBackend, lb.SlotExceptions, 0)
	l.goes("nobody stays with the dead", l.segment(portOld, syn), 1)
}

func silentFlows(l *slotLab) {
	const syn, ack = packettest.SYN, packettest.ACK
	l.set(1, 0, lb.SlotMoving)
	for range 2 {
		l.goes("an old one", l.segment(portOld, ack), 0)
	}
	l.goes("a slow one", l.segment(portSlow, ack), 0)
	l.goes("a half-open one", l.segment(portHalf, syn), 1)
	l.goes("another", l.segment(portLate, syn), 1)
	l.age(30 * time.Second)
	l.goes("the half-open one goes on in time", l.segment(portHalf, ack), 1)
	l.age(40 * time.Second)
	l.goes("the other one too late: it could be an older one", l.segment(portLate, ack), 0)
	l.age(slotTCPIdle - 3*time.Minute)
	l.set(1, lb.NoBackend, lb.SlotExceptions)
	l.hasNoted("just in time", map[uint16]int{portOld: 0, portHalf: 1})
	l.goes("what was seen once, too", l.segment(portSlow, ack), 0)
	l.age(3 * time.Minute)
	l.hasNoted("too late for those of before", map[uint16]int{portSlow: 0})
	l.goes("which is unknown", l.segment(portOld, ack), 1)
}

func flowsOfTheDead(l *slotLab) {
	const syn, ack = packettest.SYN, packettest.ACK
	l.set(1, 0, lb.SlotMoving)
	for _, port := range []uint16{portOld, portOld, portSlow} {
		l.goes("at the old backend", l.segment(port, ack), 0)
	}
	l.goes("at the new one", l.segment(portNew, syn), 1)
	l.goes("and on", l.segment(portNew, ack), 1)
	l.set(1, lb.NoBackend, lb.SlotMoving, 0)
	l.goes("the old backend dies", l.segment(portOld, ack), 1)
	l.goes("who was seen once, too", l.segment(portSlow, ack), 1)
	l.goes("what is at the other stays", l.segment(portNew, ack), 1)
	l.hasNoted("after that", map[uint16]int{portNew: 1})
}

// Wherever they were: a successor may know of newer slots.
func slotsAfterTheLease(l *slotLab) {
	const syn, ack = packettest.SYN, packettest.ACK
	l.set(1, 0, lb.SlotMoving)
	for range 2 {
		l.goes("an old one", l.segment(portOld, ack), 0)
	}
	l.goes("a new one", l.segment(portNew, syn), 1)
	lapsesNow(l.T, l.instance)
	for _, port := range []uint16{portOld, portNew, portSlow} {
		l.goes("after the lease", l.segment(port, ack), lb.NoBackend)
	}
	lease(l.T, l.instance, datapath.NoLease)
	l.hasNoted("of what was forwarded", map[uint16]int{portOld: 0})
}

func datagramsAreNoted(l *slotLab) {
	l.goes("at rest", l.datagram(portOld), 0)
	l.set(0, lb.NoBackend, lb.SlotNoting)
	for range 2 {
		l.goes("it is noted", l.datagram(portOld), 0)
	}
	l.goes("a slow one is seen once", l.datagram(portSlow), 0)
	l.hasNoted("noting", map[uint16]int{portOld: 0})
	l.set(1, lb.NoBackend, lb.SlotExceptions)
	l.goes("it stays", l.datagram(portOld), 0)
	l.goes("the slow one, too", l.datagram(portSlow), 0)
	l.goes("a new one goes elsewhere", l.datagram(portNew), 1)
	l.goes("each time", l.datagram(portNew), 1)
	l.hasNoted("with exceptions", map[uint16]int{portOld: 0, portSlow: 0})
	l.age(slotUDPIdle + datapath.TellWithin + time.Second)
	l.hasNoted("after the time", map[uint16]int{})
	l.set(1, 0, lb.SlotMoving)
	l.goes("what is unknown of a moving slot is new", l.datagram(portLate), 1)
}

// What comes from made-up sources, each once, leaves nothing behind, and takes nothing with it.
func TestAFloodIsNotNoted(t *testing.T) {
	const syn, ack = packettest.SYN, packettest.ACK
	l := &slotLab{t, v4, instanceOf(t, slotWorld(1, 0, lb.SlotMoving|lb.SlotNoting))}
	var ports []uint16
	for port := uint16(20000); port < 20100; port++ {
		ports = append(ports, port)
		l.goes("legitimate", l.segment(port, syn), 1)
		l.goes("legitimate", l.segment(port, ack), 1)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		client := netip.AddrFrom4([4]byte{198, 18 + byte(random.IntN(2)), byte(random.IntN(256)), byte(random.IntN(256))})
		ip := l.between(client, l.vip(vipMine))
		port := uint16(1024 + random.IntN(60000))
		for _, frame := range [][]byte{
			frameOf(l.eth(vipMine), ip, tcp{Src: port, Dst: portWeb, Flags: []uint8{syn, ack}[random.IntN(2)]}),
			frameOf(l.eth(vipMine), ip, udp{Src: port, Dst: portWeb}),
		}[random.IntN(2):][:1] {
			if _, err := l.instance.Run(frame, ingress); err != nil {
				t.Fatal(err)
			}
		}
	}
	extra := len(l.noted()) - len(ports)
	if extra < 0 || extra > 10 {
		t.Errorf("%d flows of the flood are noted, want next to none", extra)
	}
	for _, port := range ports {
		l.goes("legitimate, after the flood", l.segment(port, ack), 1)
	}
}

// setTheirs makes another director's what set made this one's.
func (l *slotLab) setTheirs(announce lb.Announce) {
	l.Helper()
	state := slotWorld(1, 0, lb.SlotMoving)
	for i := range state.Services {
		state.Services[i].Table = tableTheirs
		state.VIPs[state.Services[i].VIP].Announce = announce
	}
	if _, err := l.instance.Set(state, worldDevice); err != nil {
		l.Fatal(err)
	}
}

func watchedOpenings(l *slotLab) {
	const syn, ack = packettest.SYN, packettest.ACK
	l.set(1, 0, lb.SlotMoving)
	for range 2 {
		l.goes("an old connection of before", l.segment(portLate, ack), 0)
	}
	l.setTheirs(lb.AnnounceMulticast)
	l.goes("one opens at another director", l.segment(portNew, syn), lb.NoBackend)
	l.goes("an old one goes on there", l.segment(portOld, ack), lb.NoBackend)
	l.age(reusedAfter)
	l.goes("a port is used again", l.segment(portLate, syn), lb.NoBackend)
	l.set(1, 0, lb.SlotMoving)
	l.goes("the director dies: the new one goes on", l.segment(portNew, ack), 1)
	l.goes("the old one", l.segment(portOld, ack), 0)
	l.goes("the one whose port was used again", l.segment(portLate, ack), 1)
	l.age(time.Hour)
	l.hasNoted("after that", map[uint16]int{})
	l.setTheirs(lb.AnnounceNone)
	l.goes("where one alone sees it, nothing is glimpsed", l.segment(portHalf, syn), lb.NoBackend)
	l.set(1, 0, lb.SlotMoving)
	l.goes("it is unknown", l.segment(portHalf, ack), 0)
}

// Between a SYN and the next segment there is a round trip, and a flood's packets: 100,000 in 0.1 s are a
// million a second. Their glimpses push out older ones first.
func TestAFloodHidesNoHandshake(t *testing.T) {
	const syn, ack, handshakes, between = packettest.SYN, packettest.ACK, 2000, 100_000
	for _, f := range families {
		l := &slotLab{t, f, instanceOf(t, slotWorld(1, 0, lb.SlotMoving))}
		for _, flags := range []uint8{syn, ack} {
			l.age(time.Hour)
			l.hasNoted("at first", map[uint16]int{})
			flood := packettest.NewLane(t, l.instance.XDP(), l.segment(9, flags), 1<<20, actionTX)
			flood.Time(t, 1<<20) // every place is taken
			for port := range uint16(handshakes) {
				l.goes("a connection opens", l.segment(40_000+port, syn), 1)
			}
			took := flood.Time(t, between)
			found := 0
			for port := range uint16(handshakes) {
				out, err := l.instance.Run(l.segment(40_000+port, ack), ingress)
				if err != nil {
					t.Fatal(err)
				}
				if out.Frame[5] == 1 {
					found++
				}
			}
			share := 100 * float64(found) / handshakes
			t.Logf("%s, flags %#02x: %d packets of a flood, %.0f ns each; %.2f %% of %d handshakes go on at their backend", f.name, flags, between, took, share, handshakes)
			if share < 99.5 {
				t.Errorf("%s, flags %#02x: %.2f %% of the handshakes go on at their backend, want 99.5", f.name, flags, share)
			}
		}
	}
}

func exceptionsAreRead(l *slotLab) {
	l.set(1, 0, lb.SlotMoving|lb.SlotNoting)
	for range 2 {
		l.goes("a connection", l.segment(portOld, packettest.ACK), 0)
		l.goes("a datagram", l.datagram(portOld), 1)
	}
	got, err := l.instance.Exceptions()
	if err != nil {
		l.Fatal(err)
	}
	slices.SortFunc(got, func(a, b datapath.Exception) int { return cmp.Compare(a.Protocol, b.Protocol) })
	for i := range got {
		if got[i].Slot < 0 || got[i].Slot >= lb.Slots || got[i].Silent > time.Minute {
			l.Errorf("slot %d, silent for %v", got[i].Slot, got[i].Silent)
		}
	}
	remote := netip.AddrPortFrom(l.client, portOld)
	local := netip.AddrPortFrom(l.vip(vipMine), portWeb)
	const mark = lb.SlotMoving | lb.SlotNoting
	want := []datapath.Exception{
		{Service: "tcp", Remote: remote, Local: local, Protocol: lb.ProtocolTCP, Mark: mark, Backend: 0, Addr: netip.MustParseAddr("203.0.113.10")},
		{Service: "udp", Remote: remote, Local: local, Protocol: lb.ProtocolUDP, Mark: mark, Backend: 1, Addr: netip.MustParseAddr("203.0.113.11"), Current: true},
	}
	opts := []gocmp.Option{cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}), cmpopts.IgnoreFields(datapath.Exception{}, "Slot", "Silent")}
	if diff := gocmp.Diff(want, got, opts...); diff != "" {
		l.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatServicesSendToIsRecalled(t *testing.T) {
	state := slotWorld(1, 0, lb.SlotMoving, 2)
	hole := &state.Services[0]
	hole.Backends[1] = lb.Backend{}
	hole.Choice.Current, hole.Choice.Previous = slices.Repeat([]int16{2}, lb.Slots), slices.Repeat([]int16{lb.NoBackend}, lb.Slots)
	hole.Choice.Current[7], hole.Choice.Previous[7], hole.Choice.Marks[7] = 0, 2, lb.SlotNoting|lb.SlotExceptions
	got, err := instanceOf(t, state).Recall()
	if err != nil {
		t.Fatal(err)
	}
	one := datapath.Recalled{
		Backends: []lb.Backend{{Addr: hole.Backends[0].Addr}, {}, {Addr: hole.Backends[2].Addr}},
		Choice:   hole.Choice, TCPIdle: slotTCPIdle, UDPIdle: slotUDPIdle,
	}
	want := map[string]datapath.Recalled{"tcp": one, "udp": one}
	if diff := gocmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
