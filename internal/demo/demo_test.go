package demo

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// segment returns an IP packet of one TCP segment between two ports.
func segment(family int, from, to uint16, flags byte, number, acknowledged uint32) []byte {
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, unix.IPPROTO_TCP
	if family == 1 {
		ip = make([]byte, 40)
		ip[0], ip[6] = 0x60, unix.IPPROTO_TCP
	}
	ip = binary.BigEndian.AppendUint16(ip, from)
	ip = binary.BigEndian.AppendUint16(ip, to)
	ip = binary.BigEndian.AppendUint32(ip, number)
	ip = binary.BigEndian.AppendUint32(ip, acknowledged)
	return append(ip, 5<<4, flags, 0, 0, 0, 0, 0, 0)
}

// A frame is what an observer sees: a SYN of the client, or an answer to the SYN of a number.
type frame struct {
	family, port int
	syn          uint32
	answer       uint32  // 0: this is the SYN
	mac          [6]byte // of an answer
}

var n1, n2 = [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}

// watch returns an observer that has seen frames.
func watch(frames ...frame) *observer {
	o := &observer{
		macs: map[[6]byte]string{n1: "n1", n2: "n2"}, syns: make(map[synKey]*syn),
		rotated: time.Now(), nodes: make(map[flow]string),
	}
	for _, f := range frames {
		if f.answer == 0 {
			o.note(segment(f.family, uint16(f.port), webPort, 0x02, f.syn, 0), [6]byte{}, true)
			continue
		}
		o.note(segment(f.family, webPort, uint16(f.port), 0x12, f.answer, f.syn+1), f.mac, false)
	}
	return o
}

func TestTheObserverTellsASecondAnswerFromARepeatedOne(t *testing.T) {
	for _, test := range []struct {
		name   string
		frames []frame
		want   sight
	}{
		{"one answer", []frame{{0, 7, 5, 0, n1}, {0, 7, 5, 9, n1}}, sight{}},
		{"repeated", []frame{{0, 7, 5, 9, n1}, {0, 7, 5, 9, n1}}, sight{}},
		{"another number", []frame{{0, 7, 5, 9, n1}, {0, 7, 5, 8, n1}}, sight{doubled: 1, surplus: 1}},
		{"another node with the same number", []frame{{0, 7, 5, 9, n1}, {0, 7, 5, 9, n2}}, sight{doubled: 1, surplus: 1}},
		{"two nodes that repeat theirs", []frame{
			{1, 7, 5, 9, n1}, {1, 7, 5, 8, n2}, {1, 7, 5, 9, n1}, {1, 7, 5, 8, n2},
		}, sight{doubled: 1, surplus: 2}},
		{"another SYN from the port", []frame{{0, 7, 5, 9, n1}, {0, 7, 6, 8, n2}}, sight{}},
		{"the other family", []frame{{0, 7, 5, 9, n1}, {1, 7, 5, 8, n2}}, sight{}},
		{"a SYN that got lost twice", []frame{{0, 7, 5, 0, n1}, {0, 7, 5, 0, n1}, {0, 7, 5, 0, n1}, {0, 7, 5, 9, n2}}, sight{repeated: 2}},
		{"a SYN sent again when the answer had come", []frame{{1, 7, 5, 0, n1}, {1, 7, 5, 9, n1}, {1, 7, 5, 0, n1}}, sight{}},
		{"a SYN with the largest number", []frame{{0, 7, 1<<32 - 1, 0, n1}, {0, 7, 1<<32 - 1, 9, n1}, {0, 7, 1<<32 - 1, 8, n2}}, sight{doubled: 1, surplus: 1}},
	} {
		if diff := cmp.Diff(test.want, watch(test.frames...).sight, cmp.AllowUnexported(sight{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.name, diff)
		}
	}
}

func TestTheObserverRemembersASynForAMinute(t *testing.T) {
	for _, test := range []struct {
		after time.Duration
		want  int
	}{{30 * time.Second, 1}, {61 * time.Second, 1}, {3 * time.Minute, 0}} {
		o := watch(frame{0, 7, 5, 9, n1})
		// two SYNs in between, so that the halves change when it is time
		for range 2 {
			o.rotated = o.rotated.Add(-test.after / 2)
			o.note(segment(0, 8, webPort, 0x02, 1, 0), [6]byte{}, true)
		}
		o.note(segment(0, webPort, 7, 0x12, 8, 6), n2, false)
		if o.sight.doubled != test.want {
			t.Errorf("after %s: %d doubled, want %d", test.after, o.sight.doubled, test.want)
		}
	}
}

func TestTheObserverIgnoresWhatIsCutShort(t *testing.T) {
	o := watch(frame{0, 7, 5, 9, n1})
	answer, answer6 := segment(0, webPort, 7, 0x12, 8, 6), segment(1, webPort, 7, 0x12, 8, 6)
	for _, packet := range [][]byte{nil, {0x4f}, answer[:39], answer[:21], answer6[:59], answer6[:41], append([]byte{0x4f}, answer[1:]...)} {
		o.note(packet, n2, false)
	}
	if o.sight != (sight{}) {
		t.Errorf("%+v", o.sight)
	}
}

func TestTheObserverKnowsWhoAnsweredLast(t *testing.T) {
	o := watch(frame{0, 7, 1, 1, n1}, frame{0, 7, 2, 1, n2}, frame{1, 7, 3, 1, n1})
	got := []string{o.who(flow{0, 7}), o.who(flow{1, 7}), o.who(flow{0, 8})}
	if diff := cmp.Diff([]string{"n2", "n1", "nobody"}, got); diff != "" {
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
		if s.faulty() {
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
	planned := []Scenario{Drain, Join, RollingRestart, BackendDrain}
	fault := []Scenario{Crash, Partition, Failover}
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
