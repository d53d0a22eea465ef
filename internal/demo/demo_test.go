package demo

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// synAck returns an IP packet that answers the client, from a port that nobody looks at.
func synAck(to netip.Addr, port uint16, ack, number uint32) []byte {
	tcp := []byte{
		0, 80, byte(port >> 8), byte(port),
		byte(number >> 24), byte(number >> 16), byte(number >> 8), byte(number),
		byte(ack >> 24), byte(ack >> 16), byte(ack >> 8), byte(ack),
		5 << 4, 0x12, 0, 0, 0, 0, 0, 0,
	}
	if to.Is4() {
		ip := make([]byte, 20)
		ip[0], ip[9] = 0x45, unix.IPPROTO_TCP
		return append(ip, tcp...)
	}
	ip := make([]byte, 40)
	ip[0], ip[6] = 0x60, unix.IPPROTO_TCP
	return append(ip, tcp...)
}

func TestTheObserverTellsASecondAnswerFromARepeatedOne(t *testing.T) {
	v4, v6 := clients[0], clients[1]
	n1, n2 := [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	type frame struct {
		packet []byte
		mac    [6]byte
	}
	for _, test := range []struct {
		name             string
		frames           []frame
		doubled, surplus int
	}{
		{"one answer", []frame{{synAck(v4, 1, 5, 9), n1}}, 0, 0},
		{"repeated", []frame{{synAck(v4, 1, 5, 9), n1}, {synAck(v4, 1, 5, 9), n1}}, 0, 0},
		{"another number", []frame{{synAck(v4, 1, 5, 9), n1}, {synAck(v4, 1, 5, 8), n1}}, 1, 1},
		{"another node with the same number", []frame{{synAck(v4, 1, 5, 9), n1}, {synAck(v4, 1, 5, 9), n2}}, 1, 1},
		{"two nodes that repeat theirs", []frame{
			{synAck(v6, 1, 5, 9), n1}, {synAck(v6, 1, 5, 8), n2}, {synAck(v6, 1, 5, 9), n1}, {synAck(v6, 1, 5, 8), n2},
		}, 1, 2},
		{"another SYN from the port", []frame{{synAck(v4, 1, 5, 9), n1}, {synAck(v4, 1, 6, 8), n2}}, 0, 0},
		{"the other family", []frame{{synAck(v4, 1, 5, 9), n1}, {synAck(v6, 1, 5, 8), n2}}, 0, 0},
		{"cut short", []frame{{synAck(v4, 1, 5, 9)[:39], n1}, {synAck(v6, 1, 5, 8)[:59], n2}, {nil, n1}, {[]byte{0x4f}, n1}}, 0, 0},
	} {
		o := &observer{
			macs: map[[6]byte]string{n1: "n1", n2: "n2"}, answers: make(map[answerKey]answer),
			rotated: time.Now(), nodes: make(map[flow]string),
		}
		for _, f := range test.frames {
			o.note(f.packet, f.mac)
		}
		if o.doubled != test.doubled || o.surplus != test.surplus {
			t.Errorf("%s: %d doubled, %d surplus; want %d, %d", test.name, o.doubled, o.surplus, test.doubled, test.surplus)
		}
	}
}

func TestTheObserverKnowsWhoAnsweredLast(t *testing.T) {
	n1, n2 := [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	o := &observer{
		macs: map[[6]byte]string{n1: "n1", n2: "n2"}, answers: make(map[answerKey]answer),
		rotated: time.Now(), nodes: make(map[flow]string),
	}
	o.note(synAck(clients[0], 7, 1, 1), n1)
	o.note(synAck(clients[0], 7, 2, 1), n2)
	o.note(synAck(clients[1], 7, 3, 1), n1)
	want := map[flow]string{{0, 7}: "n2", {1, 7}: "n1"}
	if diff := cmp.Diff(want, o.nodes, cmp.AllowUnexported(flow{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestAnOutageEndsWithTheFirstAnswerAfterTheLastFailure(t *testing.T) {
	lost := errors.New("lost")
	ms := time.Millisecond
	for _, test := range []struct {
		name   string
		probes []probe
		want   time.Duration
		err    error
	}{
		{"all answered", []probe{{0, 1 * ms, nil}, {5 * ms, 6 * ms, nil}}, 1 * ms, nil},
		{"lost for a time", []probe{{0, 900 * ms, lost}, {5 * ms, 905 * ms, lost}, {10 * ms, 12 * ms, nil}, {15 * ms, 16 * ms, nil}}, 12 * ms, nil},
		{"answered before one that is lost", []probe{{0, 1 * ms, nil}, {5 * ms, 905 * ms, lost}, {10 * ms, 11 * ms, nil}}, 11 * ms, nil},
		{"out of order", []probe{{10 * ms, 30 * ms, nil}, {12 * ms, 14 * ms, nil}, {5 * ms, 905 * ms, lost}}, 14 * ms, nil},
		{"never answered again", []probe{{0, 1 * ms, nil}, {5 * ms, 905 * ms, lost}}, 0, lost},
	} {
		got, err := outage(test.probes)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %s, %v; want %s, %v", test.name, got, err, test.want, test.err)
		}
	}
}

func TestEveryScenarioHasItsPromise(t *testing.T) {
	well := func(s Scenario) *Result {
		r := &Result{Scenario: s, Connections: 9, PerNode: map[string]int{"n1": 4, "n2": 5}}
		if s == Crash || s == Partition {
			r.TakeoverMS, r.DiedWithNode, r.StalledOver1s = 400, 3, 2
		}
		return r
	}
	for _, s := range Scenarios {
		if err := well(s).Failed(); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	everywhere := Scenarios
	planned := []Scenario{Drain, Join, RollingRestart}
	fault := []Scenario{Crash, Partition}
	for _, test := range []struct {
		scenarios []Scenario
		spoil     func(*Result)
		want      string
	}{
		{everywhere, func(r *Result) { r.Connections = 0 }, "no connection was made"},
		{everywhere, func(r *Result) { r.Broken = 2 }, "2 connections broke"},
		{everywhere, func(r *Result) { r.DuplicateAnswers, r.DuplicateSynAcks = 1, 2 }, "1 connections were answered twice"},
		{everywhere, func(r *Result) { r.PerNode["n2"] = 0 }, "n2 answered nobody"},
		{everywhere, func(r *Result) { r.wrong = []string{"n2 slept"} }, "n2 slept"},
		{planned, func(r *Result) { r.StalledOver1s = 1 }, "1 answers took over a second"},
		{fault, func(r *Result) { r.TakeoverMS = 0 }, "nobody took over"},
		{fault, func(r *Result) { r.TakeoverMS = 612.4 }, "the others took over after 612 ms, not within 600"},
	} {
		for _, s := range test.scenarios {
			r := well(s)
			test.spoil(r)
			if err := r.Failed(); err == nil || err.Error() != test.want {
				t.Errorf("%s: %v, want %s", s, err, test.want)
			}
		}
	}
}
