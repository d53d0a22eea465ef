package e2e

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/nettest"
)

// noted is how many flows a director remembers.
func (n *node) noted(t testing.TB) int {
	t.Helper()
	return len(parse[[]map[string]any](t, n.lbctl(t, "flows -o json")))
}

// slotsMove is a farm whose slots move to b1 and b3: what opens now is where no director would look for it
// that was not told.
func slotsMove(t *testing.T) *farm {
	t.Helper()
	f := newFarm(t, farmOptions{forward: "dr", directors: 2, weights: []int{100, 100, 100}, tuning: unhurried, serving: true})
	f.admin(t, "drain", "b2", "--detach")
	f.awaitBackend(t, "b2", func(all map[string]control.Backend) error {
		if all["b2"].Share > 0 {
			return errors.New("it should get nothing new")
		}
		return nil
	})
	return f
}

// Not even what opens in its last moment goes with a director that dies: the other one sees it, too.
func TestADeadDirectorLeavesItsNotes(t *testing.T) {
	f := slotsMove(t)
	f.load.startClient(t, f.client, standardAmount())
	time.Sleep(time.Second)
	n := f.nodes[1]
	nettest.SetFaults(t, f.sw, apart(n)...)
	n.stop(syscall.SIGKILL)
	f.awaitMember(t, n.name, "down")
	f.agree(t, f.nodes[0])
	if got := f.nodes[0].noted(t); got < 200 {
		t.Errorf("%d flows are remembered, of a third of 1000", got)
	}
	time.Sleep(3 * time.Second)
	f.load.stop(t).wantUnbroken(t)
}

// A director that comes back knows nothing. What the other one remembers it is told.
func TestADirectorThatComesBackIsToldTheNotes(t *testing.T) {
	f := slotsMove(t)
	n := f.nodes[1]
	f.drain(t, f.nodes[0], n.name)
	n.stop(syscall.SIGTERM)
	n.remove() // what it had in the kernel, too: as after a reboot
	f.load.startClient(t, f.client, standardAmount())
	n.launch()
	n.await()
	f.agree(t)
	f.undrain(t, f.nodes[0], n.name)
	nettest.Eventually(t, agreeWithin, func() error {
		time.Sleep(20 * time.Millisecond)
		if got, want := n.noted(t), f.nodes[0].noted(t); got < 200 || got < want*9/10 {
			return fmt.Errorf("%s remembers %d flows, %s %d", n.name, got, f.nodes[0].name, want)
		}
		return nil
	})
	f.drain(t, n, f.nodes[0].name) // all flows are its own now
	time.Sleep(2 * time.Second)
	f.load.stop(t).wantUnbroken(t)
}

// With more services than its maps have room for, a director goes on with larger ones, which know all
// flows that the others knew. Directors that have other services than their peers take nothing over from
// them for a moment, so that what is new may wait.
func TestMoreServicesThanThereIsRoomForBreakNothing(t *testing.T) {
	f := slotsMove(t)
	f.load.startClient(t, f.client, standardAmount())
	time.Sleep(time.Second)
	var more strings.Builder
	more.WriteString(strings.TrimRight(f.services(3), "\n"))
	for i := range 12 {
		fmt.Fprintf(&more, "\n  - {name: more%d, vips: [192.0.2.80, '2001:db8::80'], ports: [%d], forward: dr, backends: [{name: b1, address: 192.0.2.101}]}", i, 2000+i)
	}
	more.WriteByte('\n')
	for _, n := range f.nodes {
		before := n.noted(t)
		n.rewrite(f.services(3), more.String())
		n.reload()
		if after := n.noted(t); before < 200 || after < before*9/10 {
			t.Errorf("%s remembers %d flows, %d before", n.name, after, before)
		}
	}
	time.Sleep(2 * time.Second)
	f.load.stop(t).wantUnbroken(t)
}
