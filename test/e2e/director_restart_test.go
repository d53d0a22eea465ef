package e2e

import (
	"syscall"
	"testing"
	"time"
)

// While slots are in transition, their flows are at two backends. lbd that starts anew finds in the maps
// which, and goes on from there.
func TestAnLbdThatRestartsWhileSlotsMoveBreaksNothing(t *testing.T) {
	forwardUnderLoad(t, farmOptions{forward: "dr", weights: []int{100, 100, 100}}, func(f *farm, _ *standardLoad) {
		f.admin(t, "drain", "b2", "--detach")
		f.awaitState(t, "b2", "draining")
		for _, n := range f.nodes {
			time.Sleep(time.Second)
			n.restart(syscall.SIGTERM)
			f.agree(t)
		}
		f.awaitState(t, "b2", "draining") // still
		f.admin(t, "undrain", "b2", "")
		f.awaitState(t, "b2", "up")
		time.Sleep(time.Second)
	}).wantUnharmed(t)
}

// The notes about flows of slots in transition are one director's own, until it has told the others.
func TestADirectorThatGoesWhileSlotsMoveBreaksNothing(t *testing.T) {
	r := forwardUnderLoad(t, farmOptions{forward: "dr", weights: []int{100, 100, 100}}, func(f *farm, _ *standardLoad) {
		f.admin(t, "drain", "b2", "--detach")
		f.awaitState(t, "b2", "draining")
		time.Sleep(5 * time.Second) // all were seen twice, and told
		f.drain(t, f.nodes[0], "n2")
		f.undrain(t, f.nodes[0], "n2")
	})
	r.DatagramsDoubled = 0 // as of every director that is drained
	r.wantUnharmed(t)
}
