package datapath_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
)

const actionTX = 3

// What a test run needs to know of the interface that frames come in by; 1 is loopback.
const ingress = 1

// A fixture is a packet and what must become of it, in one sentence.
type fixture struct {
	sentence string
	before   [][]byte // what came first, not looked at
	frame    []byte
	want     ending
}

// An ending is where the program ends: what it returns, leaves of the frame, and counts.
type ending struct {
	action uint32
	out    []byte // nil: the frame as it came
	own    bool   // but its destination MAC is now this node's
	reason string
	scope  string
}

// untouched is passed to the stack as it came.
func untouched(reason, scope string) ending {
	return ending{action: actionPass, reason: reason, scope: scope}
}

// accepted is passed to the stack as sent to this node.
func accepted(reason, scope string) ending {
	return ending{action: actionPass, own: true, reason: reason, scope: scope}
}

func dropped(reason, scope string) ending {
	return ending{action: actionDrop, reason: reason, scope: scope}
}

// answered goes back as another frame.
func answered(out []byte, reason, scope string) ending {
	return ending{action: actionTX, out: out, reason: reason, scope: scope}
}

// frameOut is what must leave the program when frame went in.
func (e ending) frameOut(frame []byte) []byte {
	switch {
	case e.out != nil:
		return e.out
	case e.own:
		return append(slices.Clone([]byte(ownMAC)), frame[6:]...)
	}
	return frame
}

// fixtures are all of them.
func fixtures() []fixture {
	var all []fixture
	all = append(all, otherTraffic()...)
	all = append(all, arpFixtures()...)
	for _, f := range families {
		all = append(all, flowFixtures(f)...)
		all = append(all, hashFixtures(f)...)
		all = append(all, linkFixtures(f)...)
		all = append(all, icmpFixtures(f)...)
		all = append(all, errorFixtures(f)...)
		all = append(all, fragmentFixtures(f)...)
	}
	all = append(all, optionFixtures()...)
	all = append(all, extensionFixtures()...)
	return append(all, neighborFixtures()...)
}

func TestEveryPacketEndsWhereItsSentenceSays(t *testing.T) {
	instance := instanceOf(t, world())
	for _, fix := range fixtures() {
		t.Run(fix.sentence, func(t *testing.T) { check(t, instance, fix) })
	}
}

// check gives the fixture to the program by both ways.
func check(t *testing.T, instance *datapath.Instance, fix fixture) {
	t.Helper()
	for _, frame := range fix.before {
		if _, err := instance.Run(frame, ingress); err != nil {
			t.Fatal(err)
		}
	}
	before := count(t, instance)
	short := run(t, instance.Run, fix)
	compareCounters(t, before, count(t, instance), fix)
	long := run(t, instance.RunLong, fix)
	compareCounters(t, before, count(t, instance), fix) // the long way alone counts nothing
	for _, way := range []struct {
		name string
		got  datapath.Outcome
	}{{"short", short}, {"long", long}} {
		if way.got.Action != fix.want.action {
			t.Errorf("%s way: action %d, want %d", way.name, way.got.Action, fix.want.action)
		}
		if want := fix.want.frameOut(fix.frame); !bytes.Equal(way.got.Frame, want) {
			t.Errorf("%s way: frame\n%x, want\n%x", way.name, way.got.Frame, want)
		}
	}
}

func run(t *testing.T, way func([]byte, int) (datapath.Outcome, error), fix fixture) datapath.Outcome {
	t.Helper()
	got, err := way(fix.frame, ingress)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A place is what a counter is of.
type place struct{ scope, reason string }

type counted struct{ Packets, Bytes uint64 }

func count(t testing.TB, instance *datapath.Instance) map[place]counted {
	t.Helper()
	counters, err := instance.Counters()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[place]counted)
	for _, c := range counters {
		all[place{c.Scope, c.Reason}] = counted{c.Packets, c.Bytes}
	}
	return all
}

// compareCounters checks that the one frame was counted where it ended, and nowhere else.
func compareCounters(t *testing.T, before, after map[place]counted, fix fixture) {
	t.Helper()
	want := maps.Clone(before)
	at := place{fix.want.scope, fix.want.reason}
	want[at] = counted{want[at].Packets + 1, want[at].Bytes + uint64(len(fix.frame))}
	if diff := cmp.Diff(want, after, cmp.AllowUnexported(place{})); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}
