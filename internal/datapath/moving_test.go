package datapath_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A moving is a kind of bucket: what all buckets of one table are.
type moving struct {
	name  string
	owner int16 // 0 is this node, 1 has a MAC, 2 has none
	mark  lb.Mark
}

// The kinds; kind i has TCP and UDP of port movingPort + i at vipMine.
const (
	kindMine = iota
	kindTheirs
	kindMaybe
	kindContested
	kindDelegate
	kindNoMAC
	kindWaiting
	kindNobody
	kindNoted
	kindKept
	kindAway
	kindBoth
)

var kinds = []moving{
	kindMine:      {"mine", 0, 0},
	kindTheirs:    {"theirs", 1, 0},
	kindMaybe:     {"maybe", 1, lb.MarkMaybeLocal},
	kindContested: {"contested", 0, lb.MarkContested},
	kindDelegate:  {"delegate", 1, lb.MarkDelegate},
	kindNoMAC:     {"nomac", 2, lb.MarkDelegate},
	kindWaiting:   {"waiting", 0, lb.MarkWaiting},
	kindNobody:    {"nobody", lb.NoNode, lb.MarkMaybeLocal},
	kindNoted:     {"noted", 1, lb.MarkMaybeLocal | lb.MarkUDPNoted},
	kindKept:      {"kept", 1, lb.MarkMaybeLocal | lb.MarkUDPKept},
	kindAway:      {"away", 0, lb.MarkContested | lb.MarkUDPAway},
	kindBoth:      {"both", 2, lb.MarkDelegate | lb.MarkContested},
}

const (
	movingPort   = 1000
	portListen   = 2000 // contested, with a listener here that gives SYN cookies
	portStranger = portClient + 1
)

// marked is a table of one kind.
func marked(owner int16, mark lb.Mark) *lb.Table {
	return &lb.Table{Owners: slices.Repeat([]int16{owner}, lb.Buckets), Marks: slices.Repeat([]lb.Mark{mark}, lb.Buckets)}
}

// movingWorld has a service of each kind at vipMine, and two VIPs of their own tables: vipTheirs is
// being handed on, vipNobody is waited for.
func movingWorld() *lb.State {
	state := world()
	state.Nodes = append(state.Nodes, lb.Node{Index: 2, Name: "n2", Weight: 100})
	state.VIPs, state.Services, state.Tables = nil, nil, nil
	for _, kind := range kinds {
		state.Tables = append(state.Tables, marked(kind.owner, kind.mark))
	}
	for _, f := range families {
		for n, table := range map[byte]int{vipMine: kindMine, vipTheirs: kindDelegate, vipNobody: kindWaiting} {
			vip := len(state.VIPs)
			state.VIPs = append(state.VIPs, lb.VIP{Addr: f.vip(n), Interface: "lo", MAC: f.mac(n), Table: table})
			if n != vipMine {
				continue
			}
			add := func(name string, port uint16, table int) {
				for _, p := range []lb.Protocol{lb.ProtocolTCP, lb.ProtocolUDP} {
					state.Services = append(state.Services, lb.Service{
						Name: name + "-" + p.String(), VIP: vip, Protocol: p, Hash: lb.HashSourcePort, Table: table,
						Ports: []lb.PortRange{{First: port, Last: port}},
					})
				}
			}
			for i, kind := range kinds {
				add(kind.name, uint16(movingPort+i), i)
			}
			add("listen", portListen, kindContested)
		}
	}
	return state
}

// A movingFamily makes the frames of the fixtures in one family.
type movingFamily struct{ family }

func (f movingFamily) tcpScope(kind int) string {
	return f.serviceScope(kinds[kind].name+"-tcp", vipMine)
}

func (f movingFamily) udpScope(kind int) string {
	return f.serviceScope(kinds[kind].name+"-udp", vipMine)
}

// segment is of a connection that a socket here has, if src is portClient and the kind is any.
func (f movingFamily) segment(src uint16, kind int, flags uint8) []byte {
	return frameOf(f.eth(vipMine), f.ip(vipMine), tcp{Src: src, Dst: uint16(movingPort + kind), Flags: flags})
}

func (f movingFamily) syn(kind int) []byte { return f.segment(portStranger, kind, packettest.SYN) }

func (f movingFamily) datagram(kind int) []byte { return f.udp(vipMine, uint16(movingPort+kind)) }

// errorAbout is an ICMP error that quotes a segment or datagram to the client's port.
func (f movingFamily) errorAbout(kind int, port uint16) []byte {
	return f.quoting(vipMine, frameOf(f.fromVIP(vipMine), tcp{Src: uint16(movingPort + kind), Dst: port}))
}

func (f movingFamily) errorAboutUDP(kind int) []byte {
	return f.quoting(vipMine, frameOf(f.fromVIP(vipMine), udp{Src: uint16(movingPort + kind), Dst: portClient}, raw{Bytes: make([]byte, 8)}))
}

// direct sends a frame to this node's own MAC.
func direct(frame []byte) []byte { return slices.Concat(ownMAC, frame[6:]) }

func tagged(frame []byte) []byte { return slices.Concat(frame[:12], []byte{0x81, 0, 0, 5}, frame[12:]) }

// cookieFrame acknowledges what a listener that gives SYN cookies answered.
func (f movingFamily) cookieFrame(sequence, cookie uint32) []byte {
	return frameOf(f.eth(vipMine), f.ip(vipMine), tcp{
		Src: portStranger, Dst: portListen, Flags: packettest.ACK, Sequence: sequence + 1, Acknowledgment: cookie + 1,
	})
}

func (f movingFamily) cookieFixture(sequence, cookie uint32) fixture {
	return fixture{sentence: f.name + ": the answer to a SYN cookie of our listener is ours",
		frame: f.cookieFrame(sequence, cookie), want: accepted("cookie-accepted", f.serviceScope("listen-tcp", vipMine))}
}

// movingFixtures are all that need buckets in transition.
func movingFixtures() []fixture {
	var list []fixture
	for _, family := range families {
		f := movingFamily{family}
		list = append(list, settledFixtures(f)...)
		list = append(list, lapsedFixtures(f)...)
		list = append(list, f.cookieFixture(0, 0))
	}
	return list
}

// socketFixtures are about TCP of buckets that were or are to be ours.
func socketFixtures(f movingFamily) []fixture {
	const ack = packettest.ACK
	has := func(kind int) ending { return accepted("socket-accepted", f.tcpScope(kind)) }
	var list []fixture
	for name, flags := range map[string]uint8{"ACK": ack, "FIN": packettest.FIN | ack, "RST": packettest.RST, "SYN with ACK": packettest.SYN | ack} {
		list = append(list, fixture{sentence: "a " + name + " of a connection of ours is accepted, though its bucket moved away",
			frame: f.segment(portClient, kindMaybe, flags), want: has(kindMaybe)})
	}
	return inFamily(f.family, append(list, []fixture{
		{sentence: "a SYN is the new owner's, though we still have a connection of the same name",
			frame: f.segment(portClient, kindMaybe, packettest.SYN), want: dropped("not-owner", f.tcpScope(kindMaybe))},
		{sentence: "a segment of no connection of ours is the new owner's",
			frame: f.segment(portStranger, kindMaybe, ack), want: dropped("not-owner", f.tcpScope(kindMaybe))},
		{sentence: "a tagged segment finds its connection, too",
			frame: tagged(f.segment(portClient, kindMaybe, ack)), want: has(kindMaybe)},
		{sentence: "sockets are not asked about a bucket that was never ours",
			frame: f.segment(portClient, kindTheirs, ack), want: dropped("not-owner", f.tcpScope(kindTheirs))},
		{sentence: "a datagram of a bucket that moved away is the new owner's",
			frame: f.datagram(kindMaybe), want: dropped("not-owner", f.udpScope(kindMaybe))},
		{sentence: "a connection of ours lives on when its bucket is nobody's",
			frame: f.segment(portClient, kindNobody, ack), want: has(kindNobody)},
		{sentence: "a segment of no connection of ours is nobody's when its bucket is",
			frame: f.segment(portStranger, kindNobody, ack), want: dropped("no-owner", f.tcpScope(kindNobody))},
		{sentence: "an error about a connection of ours is ours, though its bucket moved away",
			frame: f.errorAbout(kindMaybe, portClient), want: accepted("error-accepted", f.tcpScope(kindMaybe))},
		{sentence: "an error about no connection of ours is the new owner's",
			frame: f.errorAbout(kindMaybe, portStranger), want: dropped("error-not-owner", f.tcpScope(kindMaybe))},
		{sentence: "a SYN of a contested bucket is ours",
			frame: f.syn(kindContested), want: accepted("accepted", f.tcpScope(kindContested))},
		{sentence: "a segment of a contested bucket is ours when a socket has it",
			frame: f.segment(portClient, kindContested, ack), want: has(kindContested)},
		{sentence: "a segment of a contested bucket may be another node's, and gets no reset from here",
			frame: f.segment(portStranger, kindContested, ack), want: dropped("unknown-flow", f.tcpScope(kindContested))},
		{sentence: "a reset of a contested bucket may be another node's, too",
			frame: f.segment(portStranger, kindContested, packettest.RST), want: dropped("unknown-flow", f.tcpScope(kindContested))},
		{sentence: "a listener alone has no connection",
			frame: f.cookieFrame(1, 2), want: dropped("unknown-flow", f.serviceScope("listen-tcp", vipMine))},
		{sentence: "an error about a segment of a contested bucket harms nobody",
			frame: f.errorAbout(kindContested, portStranger), want: accepted("error-accepted", f.tcpScope(kindContested))},
		{sentence: "a datagram of a contested bucket is ours",
			frame: f.datagram(kindContested), want: accepted("accepted", f.udpScope(kindContested))},
	}...))
}

// delegationFixtures are about buckets on their way from one node to another, seen by both.
func delegationFixtures(f movingFamily) []fixture {
	const ack = packettest.ACK
	scope := delegated(f.tcpScope(kindDelegate))
	piece := func(id uint16, port uint16) (first, later []byte) {
		d := datagram{f.family, vipMine, 900 + id}
		return d.first(port), d.later()
	}
	first, later := piece(1, movingPort+kindDelegate)
	firstIn, laterIn := piece(2, movingPort+kindWaiting)
	ping := func(n byte) []byte { return frameOf(f.eth(n), f.ip(n), f.echo(), raw{Bytes: make([]byte, 48)}) }
	list := []fixture{
		{sentence: "a SYN of a bucket that is handed on goes on to its new owner, from our own MAC",
			frame: f.syn(kindDelegate), want: scope},
		{sentence: "a tagged SYN goes on with its tag",
			frame: tagged(f.syn(kindDelegate)), want: scope},
		{sentence: "a segment of a connection of ours stays here while its bucket is handed on",
			frame: f.segment(portClient, kindDelegate, ack), want: accepted("socket-accepted", f.tcpScope(kindDelegate))},
		{sentence: "a segment of a connection that the new owner may have goes on to it",
			frame: f.segment(portStranger, kindDelegate, ack), want: scope},
		{sentence: "a datagram of a bucket that is handed on goes on, too",
			frame: f.datagram(kindDelegate), want: delegated(f.udpScope(kindDelegate))},
		{sentence: "a first fragment goes on",
			frame: first, want: delegated(f.udpScope(kindDelegate))},
		{sentence: "a fragment follows the first that went on",
			before: [][]byte{first}, frame: later, want: delegated(f.udpScope(kindDelegate))},
		{sentence: "what was sent on to us is never sent on again",
			frame: direct(f.syn(kindDelegate)), want: accepted("direct", f.tcpScope(kindDelegate))},
		{sentence: "an error about a connection of ours stays here while its bucket is handed on",
			frame: f.errorAbout(kindDelegate, portClient), want: accepted("error-accepted", f.tcpScope(kindDelegate))},
		{sentence: "an error about another connection came to its node as to us",
			frame: f.errorAbout(kindDelegate, portStranger), want: dropped("error-not-owner", f.tcpScope(kindDelegate))},
		{sentence: "a SYN stays here while the new owner's MAC is not known",
			frame: f.syn(kindNoMAC), want: accepted("accepted", f.tcpScope(kindNoMAC))},
		{sentence: "a ping is answered here until its bucket is the new owner's",
			frame: ping(vipTheirs), want: accepted("echo-accepted", f.scope(vipTheirs))},
		{sentence: "a SYN that no service names goes on with its sender's bucket",
			frame: f.tcp(vipTheirs, portNone), want: delegated(f.scope(vipTheirs))},
		{sentence: "a protocol without ports stays here until its bucket is the new owner's",
			frame: frameOf(f.eth(vipTheirs), f.ip(vipTheirs), raw{Number: packettest.ProtocolESP, Bytes: make([]byte, 20)}),
			want:  accepted("unnamed-accepted", f.scope(vipTheirs))},
		{sentence: "a ping is not answered by who waits for its bucket",
			frame: ping(vipNobody), want: dropped("echo-not-owner", f.scope(vipNobody))},
		{sentence: "a SYN of a bucket that we wait for is still another node's",
			frame: f.syn(kindWaiting), want: dropped("not-owner", f.tcpScope(kindWaiting))},
		{sentence: "a SYN that was sent on to us is ours",
			frame: direct(f.syn(kindWaiting)), want: accepted("direct", f.tcpScope(kindWaiting))},
		{sentence: "a datagram that was sent on to us is ours",
			frame: direct(f.datagram(kindWaiting)), want: accepted("direct", f.udpScope(kindWaiting))},
		{sentence: "a connection that came to us that way goes on while we wait",
			frame: f.segment(portClient, kindWaiting, ack), want: accepted("socket-accepted", f.tcpScope(kindWaiting))},
		{sentence: "a segment that was sent on to us is ours when a socket has it",
			frame: direct(f.segment(portClient, kindWaiting, ack)), want: accepted("direct", f.tcpScope(kindWaiting))},
		{sentence: "a segment of no connection gets no reset, though it was sent to us",
			frame: direct(f.segment(portStranger, kindWaiting, ack)), want: dropped("unknown-flow", f.tcpScope(kindWaiting))},
		{sentence: "a segment to our own MAC in a bucket of ours goes to the stack, as ever",
			frame: direct(f.segment(portStranger, kindMine, ack)), want: accepted("direct", f.tcpScope(kindMine))},
		{sentence: "a fragment that was sent on to us is ours, though its first was dropped when it came to all",
			before: [][]byte{firstIn}, frame: direct(laterIn), want: accepted("direct", f.udpScope(kindWaiting))},
	}
	if f.family == v4 {
		request := frameOf(eth{Dst: broadcast, Src: clientMAC},
			arp{Operation: packettest.ARPRequest, SenderMAC: clientMAC, Sender: f.client, Target: f.vip(vipTheirs)})
		answer := frameOf(eth{Dst: clientMAC, Src: ownMAC}, arp{Operation: packettest.ARPReply, SenderMAC: f.mac(vipTheirs),
			Sender: f.vip(vipTheirs), TargetMAC: clientMAC, Target: f.client})
		list = append(list, fixture{sentence: "ARP is answered here until its bucket is the new owner's",
			frame: request, want: answered(answer, "arp-answered", f.scope(vipTheirs))})
	}
	return inFamily(f.family, list)
}

// udpFixtures are about UDP, which no socket knows.
func udpFixtures(f movingFamily) []fixture {
	return inFamily(f.family, []fixture{
		{sentence: "a datagram of a bucket whose flows are noted is ours",
			frame: f.datagram(kindNoted), want: accepted("udp-kept", f.udpScope(kindNoted))},
		{sentence: "an error about a noted flow is ours",
			frame: f.errorAboutUDP(kindNoted), want: accepted("error-accepted", f.udpScope(kindNoted))},
		{sentence: "a datagram of a flow that was not noted goes on to the new owner",
			frame: f.datagram(kindKept), want: delegated(f.udpScope(kindKept))},
		{sentence: "an error about a flow that was not noted is the new owner's",
			frame: f.errorAboutUDP(kindKept), want: dropped("error-not-owner", f.udpScope(kindKept))},
		{sentence: "a SYN is not sent on by who keeps UDP alone",
			frame: f.syn(kindKept), want: dropped("not-owner", f.tcpScope(kindKept))},
		{sentence: "a datagram whose old owner keeps UDP waits to be sent on to us",
			frame: f.datagram(kindAway), want: dropped("udp-away", f.udpScope(kindAway))},
		{sentence: "a datagram that the old owner sent on to us is ours",
			frame: direct(f.datagram(kindAway)), want: accepted("direct", f.udpScope(kindAway))},
		{sentence: "a SYN is ours, though the old owner keeps UDP",
			frame: f.syn(kindAway), want: accepted("accepted", f.tcpScope(kindAway))},
	})
}

// lapsedFixtures are about a node whose lease has ended.
func lapsedFixtures(f movingFamily) []fixture {
	const ack = packettest.ACK
	lapsed := func(scope string) ending { return dropped("lapsed", scope) }
	list := []fixture{
		{sentence: "a SYN is not taken", frame: f.syn(kindMine), want: lapsed(f.tcpScope(kindMine))},
		{sentence: "a datagram is not taken", frame: f.datagram(kindMine), want: lapsed(f.udpScope(kindMine))},
		{sentence: "a connection goes on", frame: f.segment(portClient, kindMine, ack), want: accepted("socket-accepted", f.tcpScope(kindMine))},
		{sentence: "a segment of no connection gets no reset", frame: f.segment(portStranger, kindMine, ack), want: lapsed(f.tcpScope(kindMine))},
		{sentence: "a connection goes on, though its bucket moved away",
			frame: f.segment(portClient, kindMaybe, ack), want: accepted("socket-accepted", f.tcpScope(kindMaybe))},
		{sentence: "a connection goes on in a contested bucket",
			frame: f.segment(portClient, kindContested, ack), want: accepted("socket-accepted", f.tcpScope(kindContested))},
		{sentence: "a SYN is not sent on", frame: f.syn(kindDelegate), want: lapsed(f.tcpScope(kindDelegate))},
		{sentence: "a datagram is not sent on", frame: f.datagram(kindKept), want: lapsed(f.udpScope(kindKept))},
		{sentence: "a noted datagram is not taken", frame: f.datagram(kindNoted), want: lapsed(f.udpScope(kindNoted))},
		{sentence: "a connection goes on while its bucket is handed on",
			frame: f.segment(portClient, kindDelegate, ack), want: accepted("socket-accepted", f.tcpScope(kindDelegate))},
		{sentence: "a SYN that is sent on to us is not taken", frame: direct(f.syn(kindWaiting)), want: lapsed(f.tcpScope(kindWaiting))},
		{sentence: "a datagram to our own MAC is not taken", frame: direct(f.datagram(kindMine)), want: lapsed(f.udpScope(kindMine))},
		{sentence: "a connection goes on by our own MAC, too",
			frame: direct(f.segment(portClient, kindMine, ack)), want: accepted("direct", f.tcpScope(kindMine))},
		{sentence: "a segment of no connection to our own MAC gets no reset",
			frame: direct(f.segment(portStranger, kindMine, ack)), want: lapsed(f.tcpScope(kindMine))},
		{sentence: "another node's SYN is another node's", frame: f.syn(kindTheirs), want: dropped("not-owner", f.tcpScope(kindTheirs))},
		{sentence: "an error about a connection is taken", frame: f.errorAbout(kindMine, portClient), want: accepted("error-accepted", f.tcpScope(kindMine))},
		{sentence: "an error about a datagram is not taken", frame: f.errorAboutUDP(kindMine), want: dropped("error-not-owner", f.udpScope(kindMine))},
		{sentence: "a ping is not answered",
			frame: frameOf(f.eth(vipMine), f.ip(vipMine), f.echo(), raw{Bytes: make([]byte, 48)}), want: lapsed(f.scope(vipMine))},
		{sentence: "a first fragment is not taken",
			frame: datagram{f.family, vipMine, 990}.first(movingPort + kindMine), want: lapsed(f.udpScope(kindMine))},
		{sentence: "a fragment follows a first that was not taken",
			frame: datagram{f.family, vipMine, 990}.last(), want: dropped("fragment-not-owner", f.udpScope(kindMine))},
		{sentence: "a reset of no connection is not taken",
			frame: f.segment(portStranger, kindMine, packettest.RST), want: lapsed(f.tcpScope(kindMine))},
		{sentence: "a segment of no connection is not sent on",
			frame: f.segment(portStranger, kindDelegate, ack), want: lapsed(f.tcpScope(kindDelegate))},
		{sentence: "what no service names is not taken", frame: f.tcp(vipMine, portNone), want: lapsed(f.scope(vipMine))},
	}
	if f.family == v4 {
		request := func(to []byte) []byte {
			return frameOf(eth{Dst: to, Src: clientMAC},
				arp{Operation: packettest.ARPRequest, SenderMAC: clientMAC, Sender: f.client, Target: f.vip(vipMine)})
		}
		list = append(list,
			fixture{sentence: "ARP is not answered", frame: request(broadcast), want: lapsed(f.scope(vipMine))},
			fixture{sentence: "ARP to our own MAC is not answered", frame: request(ownMAC), want: lapsed(f.scope(vipMine))})
	} else {
		list = append(list,
			fixture{sentence: "a solicitation is not answered", frame: solicitation{vip: vipMine}.frame(), want: lapsed(f.scope(vipMine))},
			fixture{sentence: "a solicitation to our own MAC is not answered",
				frame: solicitation{vip: vipMine, dst: ownMAC}.frame(), want: lapsed(f.scope(vipMine))})
	}
	for i := range list {
		list[i].sentence = "after the lease, " + list[i].sentence
	}
	return inFamily(f.family, list)
}

// A socketHost is a network namespace with the connections of the fixtures.
type socketHost struct{ *netlab.Host }

func newSocketHost(t testing.TB) socketHost {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces and BPF need root")
	}
	host := socketHost{nettest.Host(t, nettest.New(t), "sockets")}
	host.addresses(t)
	return host
}

func (h socketHost) addresses(t testing.TB) {
	t.Helper()
	for _, f := range families {
		// the client's too: there is a way to it then, and it never answers what nobody asked
		for _, addr := range []netip.Addr{f.vip(vipMine), f.client} {
			if err := h.Addr("lo", netip.PrefixFrom(addr, addr.BitLen())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (h socketHost) must(t testing.TB, f func() error) {
	t.Helper()
	if err := h.Do(f); err != nil {
		t.Fatal(err)
	}
}

// connect makes the connections of the fixtures: one of each kind.
func (h socketHost) connect(t testing.TB) {
	t.Helper()
	h.must(t, func() error {
		for _, f := range families {
			for i := range kinds {
				packettest.Established(t, netip.AddrPortFrom(f.vip(vipMine), uint16(movingPort+i)), netip.AddrPortFrom(f.client, portClient))
			}
		}
		return nil
	})
}

// ways run inside, where the sockets are.
func (h socketHost) ways(instance *datapath.Instance) []way {
	list := ways(instance)
	for i, w := range list {
		list[i].run = func(frame []byte, ifindex int) (got datapath.Outcome, err error) {
			err = h.Do(func() error {
				got, err = w.run(frame, ifindex)
				return err
			})
			return got, err
		}
	}
	return list
}

func TestBucketsInTransitionGoByTheirSockets(t *testing.T) {
	host := newSocketHost(t)
	host.connect(t)
	instance := instanceOf(t, movingWorld())
	for _, family := range families {
		f := movingFamily{family}
		checkAll(t, instance, host.ways(instance), settledFixtures(f))
	}
}

// A lease that runs changes nothing.
func TestBucketsInTransitionAreTheSameUnderALease(t *testing.T) {
	host := newSocketHost(t)
	host.connect(t)
	instance := instanceOf(t, movingWorld())
	lease(t, instance, datapath.Monotonic()+time.Hour)
	for _, family := range families {
		f := movingFamily{family}
		checkAll(t, instance, host.ways(instance), settledFixtures(f))
	}
}

func TestNoNewFlowIsTakenAfterTheLease(t *testing.T) {
	host := newSocketHost(t)
	host.connect(t)
	instance := instanceOf(t, movingWorld())
	lapsesNow(t, instance)
	for _, f := range families {
		checkAll(t, instance, host.ways(instance), lapsedFixtures(movingFamily{f}))
	}
}

// The exact clock ends a lease where the timer would be late, for what opens a connection.
func TestASYNLooksAtTheClockItself(t *testing.T) {
	instance := instanceOf(t, movingWorld())
	lease(t, instance, datapath.Monotonic()+time.Hour)
	instance.SpoilLease(datapath.Monotonic()) // the timer still waits for the hour
	for _, f := range families {
		checkAll(t, instance, ways(instance), lapsedFixtures(movingFamily{f})[:1])
	}
}

func lease(t testing.TB, instance *datapath.Instance, until time.Duration) {
	t.Helper()
	if err := instance.Lease(until, true); err != nil {
		t.Fatal(err)
	}
}

// lapse waits until the timer has ended the lease.
func lapse(t testing.TB, instance *datapath.Instance) {
	t.Helper()
	nettest.Eventually(t, time.Minute, func() error {
		if word := instance.LeaseWord(); word != datapath.LeaseEnded {
			return fmt.Errorf("the lease is %d, not ended", word)
		}
		return nil
	})
}

// A listener that answers with cookies keeps nothing: the segment that has the cookie has no
// socket anywhere, and no other node knows it.
func TestTheAnswerToOurSYNCookieIsOurs(t *testing.T) {
	host := newSocketHost(t)
	instance := instanceOf(t, movingWorld())
	for name, value := range map[string]string{
		"tcp_syncookies":       "2", // always
		"conf/lo/accept_local": "1", // the client's frames come in by loopback
	} {
		host.must(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) })
	}
	for _, family := range families {
		f := movingFamily{family}
		listener, err := host.Listen(t.Context(), "tcp", netip.AddrPortFrom(f.vip(vipMine), portListen).String())
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		const sequence = 1000
		cookie := host.cookie(t, f, sequence)
		wrong := fixture{sentence: f.name + ": the answer to a cookie that our listener never gave may be another node's",
			frame: f.cookieFrame(sequence, cookie+1<<30), want: dropped("unknown-flow", f.serviceScope("listen-tcp", vipMine))}
		checkAll(t, instance, host.ways(instance), []fixture{f.cookieFixture(sequence, cookie), wrong})
	}
}

// cookie sends a SYN to the listener and returns the number of its answer.
func (h socketHost) cookie(t *testing.T, f movingFamily, sequence uint32) (cookie uint32) {
	t.Helper()
	h.must(t, func() error {
		lo, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		c, err := packet.Listen(lo, packet.Raw, unix.ETH_P_ALL, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		nowhere := make(net.HardwareAddr, 6) // loopback's own
		syn := frameOf(eth{Dst: nowhere, Src: nowhere}, f.ip(vipMine),
			tcp{Src: portStranger, Dst: portListen, Flags: packettest.SYN, Sequence: sequence})
		if _, err := c.WriteTo(syn, &packet.Addr{HardwareAddr: nowhere}); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		for frame := make([]byte, 1500); ; {
			n, _, err := c.ReadFrom(frame)
			if err != nil {
				return fmt.Errorf("wait for the answer to a SYN: %w", err)
			}
			segment := frame[len(syn)-20 : n]
			if len(segment) >= 20 && segment[13] == packettest.SYN|packettest.ACK {
				cookie = binary.BigEndian.Uint32(segment[4:])
				return nil
			}
		}
	})
	return cookie
}
