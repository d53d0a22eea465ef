package datapath_test

import (
	"slices"

	"github.com/lbctl/lbctl/internal/packettest"
)

// settledFixtures are about buckets in transition, while the lease runs.
func settledFixtures(f movingFamily) []fixture {
	return slices.Concat(socketFixtures(f), delegationFixtures(f), udpFixtures(f), movingPieceFixtures(f),
		movingErrorFixtures(f), resetFixtures(f))
}

// A piecewise is a fragmented segment to a port of a kind.
type piecewise struct {
	datagram
	src, dst uint16
	flags    uint8
}

func (p piecewise) first() []byte {
	return p.fragment(0, true, tcp{Src: p.src, Dst: p.dst, Flags: p.flags}, raw{Bytes: make([]byte, 4)})
}

func (p piecewise) last() []byte {
	return p.fragment(24, false, raw{Number: packettest.ProtocolTCP, Bytes: make([]byte, 8)})
}

// movingPieceFixtures are about fragments: the first one asks the sockets or the noted flows, and those
// that follow ask nobody.
func movingPieceFixtures(f movingFamily) []fixture {
	const ack = packettest.ACK
	var list []fixture
	id := uint16(950)
	follows := func(what string, first, last []byte, want, then ending) {
		list = append(list,
			fixture{sentence: "the first piece of " + what, frame: first, want: want},
			fixture{sentence: "a piece that follows it, of " + what, frame: last, want: then})
	}
	segment := func(what string, kind int, src uint16, flags uint8, want, then ending) {
		id++
		p := piecewise{datagram{f.family, vipMine, id}, src, uint16(movingPort + kind), flags}
		follows(what, p.first(), p.last(), want, then)
	}
	message := func(what string, kind int, want, then ending) {
		id++
		d := datagram{f.family, vipMine, id}
		follows(what, d.first(uint16(movingPort+kind)), d.last(), want, then)
	}
	maybe, contested, delegating := f.tcpScope(kindMaybe), f.tcpScope(kindContested), f.tcpScope(kindDelegate)
	segment("a connection of ours, its bucket away", kindMaybe, portClient, ack,
		accepted("socket-accepted", maybe), accepted("fragment-accepted", maybe))
	segment("no connection of ours, its bucket away", kindMaybe, portStranger, ack,
		dropped("not-owner", maybe), dropped("fragment-not-owner", maybe))
	segment("a connection of ours, its bucket contested", kindContested, portClient, ack,
		accepted("socket-accepted", contested), accepted("fragment-accepted", contested))
	segment("no connection of ours, its bucket contested", kindContested, portStranger, ack,
		dropped("unknown-flow", contested), dropped("fragment-not-owner", contested))
	segment("a connection of ours, its bucket handed on", kindDelegate, portClient, ack,
		accepted("socket-accepted", delegating), accepted("fragment-accepted", delegating))
	segment("a SYN, its bucket handed on", kindDelegate, portStranger, packettest.SYN, delegated(delegating), delegated(delegating))
	message("a noted flow", kindNoted,
		accepted("udp-kept", f.udpScope(kindNoted)), accepted("fragment-accepted", f.udpScope(kindNoted)))
	message("a flow that was not noted", kindKept, delegated(f.udpScope(kindKept)), delegated(f.udpScope(kindKept)))
	message("a flow that its old owner decides about", kindAway,
		dropped("udp-away", f.udpScope(kindAway)), dropped("fragment-not-owner", f.udpScope(kindAway)))
	id++
	d := datagram{f.family, vipMine, id}
	follows("a flow that its old owner sent on to us",
		direct(d.first(movingPort+kindAway)), direct(d.last()),
		accepted("direct", f.udpScope(kindAway)), accepted("fragment-accepted", f.udpScope(kindAway)))
	return inFamily(f.family, list)
}

// movingErrorFixtures are about ICMP errors that the other fixtures leave out.
func movingErrorFixtures(f movingFamily) []fixture {
	return inFamily(f.family, []fixture{
		{sentence: "an error about a connection of ours is ours, though its bucket is nobody's",
			frame: f.errorAbout(kindNobody, portClient), want: accepted("error-accepted", f.tcpScope(kindNobody))},
		{sentence: "an error about no connection of ours is nobody's when its bucket is",
			frame: f.errorAbout(kindNobody, portStranger), want: dropped("no-owner", f.tcpScope(kindNobody))},
		{sentence: "an error about a connection that was sent on to us is ours while we wait",
			frame: f.errorAbout(kindWaiting, portClient), want: accepted("error-accepted", f.tcpScope(kindWaiting))},
		{sentence: "an error about another node's connection is its own while we wait",
			frame: f.errorAbout(kindWaiting, portStranger), want: dropped("error-not-owner", f.tcpScope(kindWaiting))},
		{sentence: "an error that was sent to us is ours",
			frame: direct(f.errorAbout(kindMaybe, portStranger)), want: accepted("direct", f.tcpScope(kindMaybe))},
		{sentence: "an error about a datagram is the new owner's when its bucket moved away",
			frame: f.errorAboutUDP(kindMaybe), want: dropped("error-not-owner", f.udpScope(kindMaybe))},
		{sentence: "an error about a datagram of a contested bucket is ours",
			frame: f.errorAboutUDP(kindContested), want: accepted("error-accepted", f.udpScope(kindContested))},
		{sentence: "an error about a datagram is both's while the old owner keeps UDP: only one has a socket's flow",
			frame: f.errorAboutUDP(kindAway), want: accepted("error-accepted", f.udpScope(kindAway))},
	})
}

// resetFixtures are about segments that make a reset, or are one.
func resetFixtures(f movingFamily) []fixture {
	const ack, rst, syn = packettest.ACK, packettest.RST, packettest.SYN
	mine, contested := f.tcpScope(kindMine), f.tcpScope(kindContested)
	cut := func(frame []byte) []byte { return frame[:len(frame)-20+8] } // ports, but no flags
	return inFamily(f.family, []fixture{
		{sentence: "a segment that nobody knows goes to the stack of a bucket of ours, whose reset tells the client",
			frame: f.segment(portStranger, kindMine, ack), want: accepted("accepted", mine)},
		{sentence: "a reset goes to the stack of a bucket of ours",
			frame: f.segment(portStranger, kindMine, rst), want: accepted("accepted", mine)},
		{sentence: "a SYN with ACK opens nothing and gets no reset from a contested bucket",
			frame: f.segment(portStranger, kindContested, syn|ack), want: dropped("unknown-flow", contested)},
		{sentence: "a SYN with RST opens nothing",
			frame: f.segment(portStranger, kindContested, syn|rst), want: dropped("unknown-flow", contested)},
		{sentence: "a segment cut short before its flags opens nothing",
			frame: cut(f.segment(portStranger, kindContested, syn)), want: dropped("unknown-flow", contested)},
		{sentence: "a segment cut short before its flags finds its connection",
			frame: cut(f.segment(portClient, kindContested, ack)), want: accepted("socket-accepted", contested)},
		{sentence: "a reset of a connection of ours stays here while its bucket is handed on",
			frame: f.segment(portClient, kindDelegate, rst), want: accepted("socket-accepted", f.tcpScope(kindDelegate))},
		{sentence: "a reset of a connection that the new owner may have goes on to it",
			frame: f.segment(portStranger, kindDelegate, rst), want: delegated(f.tcpScope(kindDelegate))},
		{sentence: "a reset of no connection of ours is the new owner's",
			frame: f.segment(portStranger, kindMaybe, rst), want: dropped("not-owner", f.tcpScope(kindMaybe))},
		{sentence: "a reset that was sent on to us goes nowhere when no socket has its connection",
			frame: direct(f.segment(portStranger, kindWaiting, rst)), want: dropped("unknown-flow", f.tcpScope(kindWaiting))},
		{sentence: "a segment goes to the stack here while the new owner's MAC is not known",
			frame: f.segment(portStranger, kindNoMAC, ack), want: accepted("accepted", f.tcpScope(kindNoMAC))},
		{sentence: "a segment of a contested bucket gets no reset while the new owner's MAC is not known",
			frame: f.segment(portStranger, kindBoth, ack), want: dropped("unknown-flow", f.tcpScope(kindBoth))},
		{sentence: "a SYN of a contested bucket stays here while the new owner's MAC is not known",
			frame: f.syn(kindBoth), want: accepted("accepted", f.tcpScope(kindBoth))},
	})
}
