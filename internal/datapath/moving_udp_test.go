package datapath_test

import (
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

// handedOn is movingWorld with the noted buckets in the next state of their way.
func handedOn(mark lb.Mark) *lb.State {
	state := movingWorld()
	state.Tables[kindNoted] = marked(1, mark)
	return state
}

// A bucket moves: first all of its UDP is noted, then what was noted stays and the rest goes on.
func TestAUDPFlowKeepsItsNodeUntilItIsSilent(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			f := movingFamily{family}
			instance := instanceOf(t, movingWorld())
			run := ways(instance)
			scope := f.udpScope(kindNoted)
			old := f.datagram(kindNoted)
			fresh := frameOf(f.eth(vipMine), f.ip(vipMine), udp{Src: portStranger, Dst: movingPort + kindNoted})
			kept := accepted("udp-kept", scope)
			step := func(sentence string, frame []byte, want ending) {
				t.Helper()
				checkAll(t, instance, run, []fixture{{sentence: sentence, frame: frame, want: want}})
			}
			age := func(by time.Duration) {
				t.Helper()
				if _, err := instance.AgeFlows(by); err != nil {
					t.Fatal(err)
				}
			}
			step("it is noted", old, kept)
			if _, err := instance.Set(handedOn(lb.MarkMaybeLocal|lb.MarkUDPKept), worldDevice); err != nil {
				t.Fatal(err)
			}
			step("it stays", old, kept)
			step("a new one goes on", fresh, delegated(scope))
			step("a new one goes on each time", fresh, delegated(scope))
			step("it is never sent on when it came to us alone", direct(fresh), accepted("direct", scope))
			step("an error about it stays", f.errorAboutUDP(kindNoted), accepted("error-accepted", scope))
			piece := datagram{f.family, vipMine, 800}
			step("its first fragment stays", piece.first(movingPort+kindNoted), kept)
			step("its last fragment stays", piece.last(), accepted("fragment-accepted", scope))
			age(datapath.UDPIdle - 5*time.Second)
			step("it is silent for less than the time", old, kept)
			age(datapath.UDPIdle - 5*time.Second)
			step("each datagram begins the time anew", old, kept)
			age(datapath.UDPIdle + time.Second)
			step("after the time, an error about it is the new owner's", f.errorAboutUDP(kindNoted), dropped("error-not-owner", scope))
			step("after the time it is a new one", old, delegated(scope))
			if _, err := instance.Set(handedOn(lb.MarkMaybeLocal), worldDevice); err != nil {
				t.Fatal(err)
			}
			step("at the end it is the new owner's alone", old, dropped("not-owner", scope))
		})
	}
}

// Nothing is noted where nothing moves.
func TestUDPAtRestIsNotNoted(t *testing.T) {
	instance := instanceOf(t, movingWorld())
	for _, family := range families {
		f := movingFamily{family}
		for _, kind := range []int{kindMine, kindTheirs, kindMaybe, kindContested, kindDelegate, kindWaiting, kindKept, kindAway} {
			for _, frame := range [][]byte{f.datagram(kind), direct(f.datagram(kind))} {
				if _, err := instance.Run(frame, ingress); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if n, err := instance.AgeFlows(0); n != 0 || err != nil {
		t.Errorf("%d flows are noted: %v", n, err)
	}
}
