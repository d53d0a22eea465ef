package e2e

import (
	"syscall"
	"testing"
	"time"
)

// The kernel of a director whose lbd is dead has the slots of that moment, and gets every packet. Its
// successor's are newer, once a backend is drained.
func TestADirectorWithoutItsLbdForwardsNothingBesideItsSuccessor(t *testing.T) {
	r := forwardUnderLoad(t, farmOptions{forward: "dr", weights: three}, func(f *farm, _ *standardLoad) {
		n := f.nodes[1]
		n.stop(syscall.SIGKILL)
		f.awaitMember(t, n.name, "down")
		f.agree(t)
		forwarded, lapsed := n.counted(t, "forwarded"), n.counted(t, "lapsed")
		f.admin(t, "drain", "b2", "--detach")
		f.awaitState(t, "b2", "draining")
		time.Sleep(3 * time.Second)
		if more := n.counted(t, "forwarded") - forwarded; more > 0 {
			t.Errorf("%s forwarded %d packets that its successor forwards", n.name, more)
		}
		if n.counted(t, "lapsed") == lapsed {
			t.Errorf("%s got nothing that it would have forwarded", n.name)
		}
	})
	r.wantUnbroken(t)
	if r.Resets > 0 {
		t.Errorf("%d resets; at first: %q", r.Resets, r.Notes)
	}
}

// What was decided while a director was away is in its tables before it takes flows again.
func TestADirectorThatComesBackKnowsWhatWasDecided(t *testing.T) {
	r := forwardUnderLoad(t, farmOptions{forward: "dr", weights: three}, func(f *farm, _ *standardLoad) {
		n := f.nodes[1]
		n.stop(syscall.SIGKILL)
		f.awaitMember(t, n.name, "down")
		f.agree(t)
		f.admin(t, "drain", "b2", "--detach")
		f.awaitState(t, "b2", "draining")
		n.start()
		f.agree(t)
		time.Sleep(time.Second)
	})
	r.wantUnbroken(t)
	if r.Resets > 0 {
		t.Errorf("%d resets; at first: %q", r.Resets, r.Notes)
	}
}
