package datapath_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
)

const (
	actionTX       = 3
	actionRedirect = 4
)

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
	on     bool   // sent on: from this node's MAC to the peer's
	away   bool   // sent to a backend
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

// delegated goes on to the node that is to have its bucket.
func delegated(scope string) ending {
	return ending{action: actionTX, on: true, reason: "delegated", scope: scope}
}

// frameOut is what must leave the program when frame went in.
func (e ending) frameOut(frame []byte) []byte {
	switch {
	case e.out != nil:
		return e.out
	case e.on:
		return slices.Concat(peerMAC, ownMAC, frame[12:])
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
	checkAll(t, instance, ways(instance), fixtures())
}

// checkAll runs fixtures in their order and looks at all counters after each.
func checkAll(t *testing.T, instance *datapath.Instance, ways []way, list []fixture) {
	t.Helper()
	before := count(t, instance)
	for _, fix := range list {
		t.Run(fix.sentence, func(t *testing.T) {
			for _, frame := range fix.before {
				if _, err := ways[0].run(frame, ingress); err != nil {
					t.Fatal(err)
				}
				before = count(t, instance)
			}
			check(t, ways, fix)
			// once for both: the long way alone counts nothing
			after := count(t, instance)
			sameCounters(t, before.and(fix), after)
			before = after
		})
	}
}

// A way is one of the two that a packet can take through the program.
type way struct {
	name string
	run  func([]byte, int) (datapath.Outcome, error)
}

func ways(instance *datapath.Instance) []way {
	return []way{{"short", instance.Run}, {"long", instance.RunLong}}
}

// check gives the fixture to the program by both ways.
func check(t *testing.T, ways []way, fix fixture) {
	t.Helper()
	for _, way := range ways {
		got, err := way.run(fix.frame, ingress)
		if err != nil {
			t.Fatalf("%s way: %v", way.name, err)
		}
		if got.Action != fix.want.action {
			t.Errorf("%s way: action %d, want %d", way.name, got.Action, fix.want.action)
		}
		if want := fix.want.frameOut(fix.frame); !bytes.Equal(got.Frame, want) {
			t.Errorf("%s way: frame\n%x, want\n%x", way.name, got.Frame, want)
		}
	}
}

// A place is what a counter is of.
type place struct{ Scope, Reason string }

type counted struct{ Packets, Bytes uint64 }

type counters map[place]counted

func count(t testing.TB, instance *datapath.Instance) counters {
	t.Helper()
	list, err := instance.Counters()
	if err != nil {
		t.Fatal(err)
	}
	all := make(counters)
	for _, c := range list {
		all[place{c.Scope, c.Reason}] = counted{c.Packets, c.Bytes}
	}
	return all
}

// and adds the one frame of a fixture where it ends, and nowhere else.
func (c counters) and(fix fixture) counters {
	sum := maps.Clone(c)
	at := place{fix.want.scope, fix.want.reason}
	sum[at] = counted{sum[at].Packets + 1, sum[at].Bytes + uint64(len(fix.frame))}
	return sum
}

func sameCounters(t *testing.T, want, got counters) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}
