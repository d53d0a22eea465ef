package datapath_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/packettest"
)

// An attemptCase is a frame and what it says about connections to the watched backend.
type attemptCase struct {
	sentence string
	frame    []byte
	want     datapath.Attempt // what it adds
}

var (
	tellsNothing = datapath.Attempt{}
	opened       = datapath.Attempt{Opened: 1}
	answeredSYN  = datapath.Attempt{Answered: 1}
	refused      = datapath.Attempt{Refused: 1}
)

func TestWhatBecomesOfConnectionsIsCounted(t *testing.T) {
	d := natWorld(t)
	for _, f := range families {
		n := natFixtures{family: f, d: d}
		web := netip.AddrPortFrom(n.onLink(0, backendNear), webPort)
		before := attemptsTo(t, d, web)
		for _, c := range slices.Concat(n.attempts(), n.answers(), n.refusals()) {
			t.Run(f.name+" "+c.sentence, func(t *testing.T) {
				if _, err := d.ways(0)[0].run(c.frame, ingress); err != nil {
					t.Fatal(err)
				}
				want := before
				want.Opened += c.want.Opened
				want.Answered += c.want.Answered
				want.Refused += c.want.Refused
				before = attemptsTo(t, d, web)
				if diff := cmp.Diff(want, before, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
					t.Errorf("counted (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// attemptsTo looks at all that was counted: of the watched backends and no other.
func attemptsTo(t *testing.T, d *director, backend netip.AddrPort) datapath.Attempt {
	t.Helper()
	all, err := d.instance.Attempts()
	if err != nil || len(all) != len(families) {
		t.Fatalf("attempts: %v of %+v, want one of each family", err, all)
	}
	i := slices.IndexFunc(all, func(a datapath.Attempt) bool { return a.Backend == backend })
	if i < 0 {
		t.Fatalf("nothing of %s in %+v", backend, all)
	}
	return all[i]
}

func TestWhatBecomesOfConnectionsIsCountedByFullNAT(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		answered, refusing := d.converse(t, f, "web", 40000), d.converse(t, f, "web", 40001)
		at := netip.AddrPortFrom(answered.b.Addr, webPort)
		answered.establishes() // by two SYNs
		refusing.opens()
		refusing.give(refusing.reply(packettest.RST|packettest.ACK, 0, 101))
		answered.give(answered.reply(packettest.RST|packettest.ACK, 501, 101))
		want := datapath.Attempt{Service: "web", Backend: at, Opened: 4, Answered: 1, Refused: 1}
		if got := attemptsTo(t, d, at); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

func (n natFixtures) attempts() []attemptCase {
	segment := func(port uint16, flags uint8) []byte { return n.in(tcp{Src: portClient, Dst: port, Flags: flags}) }
	const ece, cwr = 0x40, 0x80
	withOptions := frameOf(append(append([]packettest.Layer{n.eth(vipNAT)}, n.options(n.client, n.vip(vipNAT), natTTL)...),
		tcp{Src: portClient, Dst: portWeb, Flags: packettest.SYN})...)
	lastHop := frameOf(n.eth(vipNAT), n.packet(n.client, n.vip(vipNAT), 1), tcp{Src: portClient, Dst: portWeb, Flags: packettest.SYN})
	return []attemptCase{
		{"a SYN opens a connection", segment(portWeb, packettest.SYN), opened},
		{"a SYN that asks for congestion marks does, too", segment(portWeb, packettest.SYN|ece|cwr), opened},
		{"a SYN behind more headers does, too", withOptions, opened},
		{"a SYN that ends here does not", lastHop, tellsNothing},
		{"a segment of a connection does not", segment(portWeb, packettest.ACK), tellsNothing},
		{"a SYN with FIN is none that a backend would answer", segment(portWeb, packettest.SYN|packettest.FIN), tellsNothing},
		{"a SYN with ACK is none of a client", segment(portWeb, packettest.SYN|packettest.ACK), tellsNothing},
		{"a SYN for another node's service is not counted here", segment(portOthers, packettest.SYN), tellsNothing},
		{"a SYN for a backend that is not watched is not counted", segment(portFar, packettest.SYN), tellsNothing},
	}
}

func (n natFixtures) answers() []attemptCase {
	reply := func(client netip.Addr, port uint16, flags uint8, sequence uint32) []byte {
		return n.back(0, backendNear, client, tcp{Src: port, Dst: portClient, Flags: flags, Sequence: sequence, Acknowledgment: 1})
	}
	synACK, reset := uint8(packettest.SYN|packettest.ACK), uint8(packettest.RST|packettest.ACK)
	withOptions := func(flags uint8) []byte {
		return frameOf(append(append([]packettest.Layer{n.toUs(0, backendNear)}, n.options(n.onLink(0, backendNear), n.client, natTTL)...),
			tcp{Src: webPort, Dst: portClient, Flags: flags})...)
	}
	return []attemptCase{
		{"a SYN-ACK answers", reply(n.client, webPort, synACK, 7), answeredSYN},
		{"a SYN-ACK behind more headers does, too", withOptions(synACK), answeredSYN},
		{"a SYN-ACK that waits for the next hop does, too", reply(n.onLink(0, 50), webPort, synACK, 7), answeredSYN},
		{"a SYN-ACK of a backend that is not watched is not counted", reply(n.client, portFirst, synACK, 7), tellsNothing},
		{"a segment of a connection tells nothing", reply(n.client, webPort, packettest.ACK, 0), tellsNothing},
		{"a reset of sequence 0 that acknowledges refuses", reply(n.client, webPort, reset, 0), refused},
		{"a reset behind more headers does, too", withOptions(reset), refused},
		{"a reset of a connection does not", reply(n.client, webPort, reset, 4711), tellsNothing},
		{"a reset for what was no SYN does not", reply(n.client, webPort, packettest.RST, 0), tellsNothing},
	}
}

func (n natFixtures) refusals() []attemptCase {
	near := n.onLink(0, backendNear)
	segment := func(flags uint8) []byte {
		return packettest.Frame(n.packet(n.client, near, 9), tcp{Src: portClient, Dst: webPort, Flags: flags})
	}
	about := func(src netip.Addr, about icmp, quoted []byte) []byte {
		return frameOf(n.toUs(0, backendNear), n.packet(src, n.client, natTTL), about, raw{Bytes: quoted})
	}
	port, host, expired := icmp{Type: 3, Code: 3}, icmp{Type: 3, Code: 1}, icmp{Type: 11}
	if n.family == v6 {
		port, host, expired = icmp{Type: 1, Code: 4}, icmp{Type: 1, Code: 3}, icmp{Type: 3}
	}
	syn := segment(packettest.SYN)
	return []attemptCase{
		{"an error about its port refuses a SYN", about(near, port, syn), refused},
		{"the error of a router that does not reach it refuses a SYN", about(n.onLink(0, 120), host, syn), refused},
		{"an error about a segment of a connection does not", about(near, port, segment(packettest.ACK)), tellsNothing},
		{"an error about the size of a SYN does not", about(near, n.tooBig(), syn), tellsNothing},
		{"an error about its hops does not", about(near, expired, syn), tellsNothing},
		{"an error that quotes no flags does not", about(near, port, syn[:packettest.HeadersOf(syn)+8]), tellsNothing},
	}
}
