package e2e

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	membership "github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/heartbeat"
)

const exitUnfinished = 6

// patient is for machines that do much else: what is tested here is that nobody dies of a rotation.
const patient = "heartbeat: 150ms, dead-after: 1500ms"

// newKeyed is a cluster of nodes with a key.
func newKeyed(t *testing.T, opts options) *cluster {
	t.Helper()
	opts.tuning = append(opts.tuning, patient)
	return newMembers(t, opts)
}

// ring is what a node's key file has.
func (n *node) ring() membership.Ring {
	n.t.Helper()
	ring, err := membership.ReadRing(n.path("cluster.key"))
	check(n.t, err)
	return ring
}

// rings are the rings of all nodes.
func (c *cluster) rings() []membership.Ring {
	var all []membership.Ring
	for _, n := range c.nodes {
		all = append(all, n.ring())
	}
	return all
}

// wantRing checks that every node's file has the same.
func (c *cluster) wantRing(t testing.TB, when string, want membership.Ring) {
	t.Helper()
	for i, got := range c.rings() {
		if !got.Equal(want) {
			t.Errorf("%s: %s has %v, rotating to %q; want %v, rotating to %q", when, c.nodes[i].name, got.IDs(), got.Next, want.IDs(), want.Next)
		}
	}
}

// undisturbed fails the test when a node took another one for dead, began a new life, or met something
// that it could not read, after this call.
func (c *cluster) undisturbed(t testing.TB) (end func()) {
	t.Helper()
	before := make(map[*node]int)
	for _, n := range c.running() {
		before[n] = len(n.logs.String())
	}
	return func() {
		t.Helper()
		time.Sleep(2 * time.Second) // more than dead-after
		for n, length := range before {
			for line := range strings.Lines(n.logs.String()[length:]) {
				if strings.Contains(line, "alive=false") || strings.Contains(line, "what=died") ||
					strings.Contains(line, "what=new-life") || strings.Contains(line, "decrypt") {
					t.Errorf("%s: %s", n.name, line)
				}
			}
			status, err := n.status()
			check(t, err)
			if left := status.Agreement.LeaseEnds; left == "lapsed" {
				t.Errorf("%s: its lease has lapsed: no heartbeat confirms it", n.name)
			}
		}
		c.agree(t)
	}
}

// wantHeartbeatsWith listens on the link with a key, and checks whose heartbeats are made with it.
func (c *cluster) wantHeartbeatsWith(t *testing.T, key membership.Key, want ...string) {
	t.Helper()
	listener, err := heartbeat.New(heartbeat.Options{
		Interface: "eth0", Cluster: "test", Node: "listener", Life: 1, Keys: [][]byte{key[:]}, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	check(t, c.client.Do(func() error { return listener.Run(ctx) }))
	var heard []string
	for _, p := range listener.Peers() {
		heard = append(heard, p.Name)
	}
	if !slices.Equal(heard, want) {
		t.Errorf("heartbeats with the key come from %v, want %v; %+v", heard, want, listener.Counters())
	}
}

func TestTheClusterKeyIsRotatedWhileTheClusterRuns(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newKeyed(t, options{weights: []int{100, 100, 100}})
	old := c.nodes[0].ring()
	first := old
	for _, leader := range c.nodes[:2] {
		end := c.undisturbed(t)
		start := time.Now()
		got := parse[control.KeyRotation](t, leader.lbctl(t, "keys rotate -o json"))
		t.Logf("rotated by %s in %s", leader.name, time.Since(start).Round(time.Millisecond))
		fresh := leader.ring()
		want := control.KeyRotation{Key: fresh.Keys[0].ID().String(), Done: true, Nodes: []control.KeyHolder{
			{Node: "n1", Step: "alone"}, {Node: "n2", Step: "alone"}, {Node: "n3", Step: "alone"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if fresh.Keys[0] == old.Keys[0] {
			t.Error("the key is the old one")
		}
		c.wantRing(t, "rotated by "+leader.name, membership.Ring{Keys: fresh.Keys[:1]})
		end()
		old = fresh
	}
	for _, n := range c.nodes {
		if info, err := os.Stat(n.path("cluster.key")); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", n.name, info.Mode(), err)
		}
		for _, key := range old.Keys {
			if strings.Contains(n.logs.String(), key.Text()) {
				t.Errorf("%s logs a key", n.name)
			}
		}
	}
	c.wantHeartbeatsWith(t, old.Keys[0], "n1", "n2", "n3")
	c.wantHeartbeatsWith(t, first.Keys[0])
	// the new key counts across restarts of all
	for _, n := range c.nodes {
		n.restart(syscall.SIGTERM)
	}
	c.agree(t)
	c.nodes[2].lbctl(t, "events").want(t, exitOK)
	c.nodes[0].lbctl(t, "status").want(t, exitOK, "no problems")
}

func TestNoRotationBeginsWithoutANodeThatIsDown(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newKeyed(t, options{weights: []int{100, 100, 100}, tuning: []string{"partition: any"}})
	old := c.nodes[0].ring()
	c.nodes[2].stop(syscall.SIGKILL)
	c.awaitMember(t, "n3", "down")
	start := time.Now()
	o := c.nodes[0].lbctl(t, "keys rotate")
	if took := time.Since(start); o.code != exitUnfinished || !strings.Contains(o.stderr, "nothing was changed; waiting for n3 (down)") || took > 15*time.Second {
		t.Errorf("after %s: exit code %d\n%s%s", took, o.code, o.stdout, o.stderr)
	}
	c.wantRing(t, "n3 is down", old)
	c.nodes[2].start()
	c.agree(t)
	c.nodes[0].lbctl(t, "keys rotate").want(t, exitOK, "alone")
	c.wantRing(t, "n3 is back", membership.Ring{Keys: c.nodes[0].ring().Keys[:1]})
	if c.nodes[0].ring().Equal(old) {
		t.Error("the key is the old one")
	}
}

// unwritable makes a node's key file one that cannot be replaced, until mended.
func (n *node) unwritable() (mend func()) {
	n.t.Helper()
	path := n.path("cluster.key")
	check(n.t, os.Rename(path, path+".old"))
	check(n.t, os.MkdirAll(path+"/full", 0o700))
	return func() {
		check(n.t, os.RemoveAll(path))
		check(n.t, os.Rename(path+".old", path))
	}
}

// stuck is a cluster of three in which a rotation that n1 leads stands still at n3, and the key that
// it leads to.
func stuck(t *testing.T) (c *cluster, old membership.Ring, next membership.Key, mend func()) {
	t.Helper()
	c = newKeyed(t, options{weights: []int{100, 100, 100}})
	old = c.nodes[0].ring()
	end := c.undisturbed(t)
	mend = c.nodes[2].unwritable()
	o := c.nodes[0].lbctl(t, "keys rotate")
	if o.code != exitUnfinished || !strings.Contains(o.stderr, "the old one stays; waiting for n3 (key file: ") {
		t.Errorf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	first, second := c.nodes[0].ring(), c.nodes[1].ring()
	if len(first.Keys) != 2 || !first.Equal(second) || first.Keys[0] != old.Keys[0] || first.Next != first.Keys[1].ID() {
		t.Fatalf("n1 has %v, n2 %v, the old key is %v", first.IDs(), second.IDs(), old.IDs())
	}
	end()
	return c, old, first.Keys[1], mend
}

func TestARotationThatStandsStillGoesOnFromAnotherNode(t *testing.T) {
	t.Parallel() // it waits most of the time
	c, _, next, mend := stuck(t)
	// n3 has nothing of it, and says who has
	o := c.nodes[2].lbctl(t, "keys rotate")
	o.want(t, exitFailed, "is rotating to a key that this node does not have: go on there")
	mend()
	// a restart in between forgets nothing
	c.nodes[0].restart(syscall.SIGTERM)
	c.agree(t)
	end := c.undisturbed(t)
	c.nodes[1].lbctl(t, "keys rotate").want(t, exitOK, next.ID().String(), "alone")
	c.wantRing(t, "gone on", membership.Ring{Keys: []membership.Key{next}})
	end()
}

func TestARotationThatStandsStillIsTakenBack(t *testing.T) {
	t.Parallel() // it waits most of the time
	c, old, _, mend := stuck(t)
	c.nodes[0].lbctl(t, "keys rotate --back").want(t, exitOK, old.Keys[0].ID().String(), "alone")
	mend() // what n3 did not change was right
	c.wantRing(t, "taken back", old)
	end := c.undisturbed(t)
	c.nodes[2].lbctl(t, "keys rotate").want(t, exitOK, "alone")
	end()
}

func TestKeysAreRotatedByHand(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newKeyed(t, options{weights: []int{100, 100, 100}})
	old, fresh := c.nodes[0].ring().Keys[0], membership.GenerateKey()
	end := c.undisturbed(t)
	for _, keys := range [][]membership.Key{{old, fresh}, {fresh, old}, {fresh}} {
		for _, n := range c.nodes {
			check(t, membership.WriteKeys(n.path("cluster.key"), keys))
			n.reload()
		}
		time.Sleep(300 * time.Millisecond) // probes of each by each
		if len(keys) == 2 {
			c.nodes[0].lbctl(t, "keys rotate").want(t, exitFailed, "several keys")
		}
	}
	end()
	// a file that nobody can use changes nothing
	check(t, os.WriteFile(c.nodes[0].path("cluster.key"), []byte("bm9uc2Vuc2U=\n"), 0o600))
	o := c.nodes[0].lbctl(t, "config reload")
	o.want(t, exitFailed, "line 1: 8 bytes, want 32")
	c.agree(t)
}

// A machine that has the key, and calls itself a node that the configuration does not know, gets no
// other key, and cannot make the nodes take one.
func TestNoKeyGoesToANodeThatIsNotConfigured(t *testing.T) {
	t.Parallel() // it waits most of the time
	c := newKeyed(t, options{weights: []int{100, 100, 100}, later: 1, tuning: []string{"partition: any"}})
	old := c.nodes[0].ring()
	third := "    - {name: n3, addresses: [192.0.2.13, '2001:db8::13'], weight: 100}\n"
	for _, n := range c.nodes[:2] {
		n.rewrite(third, "")
		n.reload()
	}
	c.nodes[2].start()
	c.agree(t)
	c.nodes[0].lbctl(t, "keys rotate").want(t, exitFailed, "node n3 takes part and is not in the configuration of this node")
	o := c.nodes[2].lbctl(t, "keys rotate")
	if o.code != exitUnfinished || !strings.Contains(o.stderr, "n1 (n3 is not in its configuration)") {
		t.Errorf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	c.wantRing(t, "with a stranger", old)
}

// Who cannot be asked has to be told apart from who does not answer.
func TestARotationDoesNotWaitForEver(t *testing.T) {
	c := newKeyed(t, options{weights: []int{100, 100}, tuning: []string{"partition: any"}})
	old := c.nodes[0].ring()
	check(t, c.nodes[1].cmd.Process.Signal(syscall.SIGSTOP))
	start := time.Now()
	o := c.nodes[0].lbctl(t, "keys rotate")
	took := time.Since(start)
	check(t, c.nodes[1].cmd.Process.Signal(syscall.SIGCONT))
	if o.code != exitUnfinished || took > 20*time.Second || !slices.Contains(strings.Fields(o.stderr), "n2") {
		t.Errorf("after %s: exit code %d\n%s%s", took, o.code, o.stdout, o.stderr)
	}
	c.wantRing(t, "n2 is stopped", old)
	t.Logf("after %s: %s", took.Round(time.Millisecond), o.stderr)
}
