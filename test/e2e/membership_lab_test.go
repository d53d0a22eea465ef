package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/nettest"
)

// agreeWithin is how long a cluster may take to agree and to settle. It is for machines that do much
// else, where a node may lose its lease twice at its start and is not trusted for a minute then; what a
// change really took is logged.
const agreeWithin = damped + 30*time.Second

// newMembers is a cluster whose nodes decide by themselves who owns what. It returns when they agree.
func newMembers(t testing.TB, opts options) *cluster {
	t.Helper()
	opts.members = true
	if opts.attach == "" {
		opts.attach = "native"
	}
	c := newCluster(t, opts)
	c.agree(t)
	return c
}

// called returns a node of the cluster.
func (c *cluster) called(name string) *node {
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
	return c.nodes[i]
}

// running returns the nodes whose lbd was started and did not end.
func (c *cluster) running() []*node {
	var up []*node
	for _, n := range c.nodes {
		if n.cmd != nil && n.cmd.ProcessState == nil {
			up = append(up, n)
		}
	}
	return up
}

// agree waits until those nodes, or all that run, know the same, take each other for alive, and hold
// what they should. It returns how long that took.
func (c *cluster) agree(t testing.TB, nodes ...*node) time.Duration {
	t.Helper()
	if nodes == nil {
		nodes = c.running()
	}
	start := time.Now()
	nettest.Eventually(t, agreeWithin, func() error {
		time.Sleep(20 * time.Millisecond)
		// what operators see has to say the same
		for _, ask := range []func(*node) (*control.Status, error){
			(*node).status,
			func(n *node) (*control.Status, error) { return n.lbctlStatus(t) },
		} {
			statuses, err := askAll(nodes, ask)
			if err != nil {
				return err
			}
			if err := disagreement(statuses); err != nil {
				return err
			}
		}
		return nil
	})
	return time.Since(start)
}

func askAll(nodes []*node, ask func(*node) (*control.Status, error)) ([]*control.Status, error) {
	var all []*control.Status
	for _, n := range nodes {
		status, err := ask(n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", n.name, err, n.logs)
		}
		all = append(all, status)
	}
	return all, nil
}

// lbctlStatus is what `lbctl status -o json` prints; problems are no failure.
func (n *node) lbctlStatus(t testing.TB) (*control.Status, error) {
	out := n.lbctl(t, "status -o json")
	if out.code != exitOK && out.code != exitDegraded {
		return nil, fmt.Errorf("lbctl %s: exit code %d: %s", out.line, out.code, out.stderr)
	}
	var status control.Status
	return &status, json.Unmarshal([]byte(out.stdout), &status)
}

// disagreement says what keeps nodes from being one cluster at rest.
func disagreement(statuses []*control.Status) error {
	for _, s := range statuses {
		a := s.Agreement
		switch {
		case a == nil:
			return fmt.Errorf("%s: no membership", s.Node)
		case !a.Agreed || !a.Settled || a.Moving != 0:
			return fmt.Errorf("%s: %+v, nodes %s", s.Node, *a, members(s))
		case a.Fingerprint != statuses[0].Agreement.Fingerprint:
			return fmt.Errorf("%s knows %s, %s knows %s", s.Node, a.Fingerprint, statuses[0].Node, statuses[0].Agreement.Fingerprint)
		}
		for _, peer := range statuses {
			m := memberOf(s, peer.Node)
			if m == nil || m.State != "active" && m.State != "draining" || !m.Agrees {
				return fmt.Errorf("%s does not take %s for a member: %s", s.Node, peer.Node, members(s))
			}
		}
	}
	return nil
}

// memberOf returns what a node knows about another, or nil.
func memberOf(s *control.Status, name string) *control.Member {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n.Member
		}
	}
	return nil
}

// members renders what a node knows about all.
func members(s *control.Status) string {
	var b strings.Builder
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "%s %+v; ", n.Name, n.Member)
	}
	return b.String()
}

// awaitMember waits until all nodes that run see a node in a state: joining, active, draining or down.
func (c *cluster) awaitMember(t testing.TB, name, state string) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		statuses, err := askAll(c.running(), (*node).status)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			if m := memberOf(s, name); m == nil || m.State != state {
				return fmt.Errorf("%s sees %s, which should be %s", s.Node, members(s), state)
			}
		}
		return nil
	})
}

// share returns the part of all buckets, 0..1, that a node says it owns.
func (n *node) share() (float64, error) {
	status, err := n.status()
	if err != nil {
		return 0, err
	}
	for _, known := range status.Nodes {
		if known.Local {
			return known.Share, nil
		}
	}
	return 0, errors.New("it does not know itself")
}

// admin is `lbctl nodes ...` on this node, which must succeed.
func (n *node) admin(line string) {
	n.t.Helper()
	n.lbctl(n.t, "nodes "+line).want(n.t, exitOK)
}

// drain has this node asked to drain another, and returns when all nodes know and new flows go
// elsewhere; connections may be left.
func (c *cluster) drain(t testing.TB, asked *node, name string) time.Duration {
	t.Helper()
	asked.admin("drain " + name + " --detach")
	start := time.Now()
	c.awaitMember(t, name, "draining")
	c.agree(t)
	c.wantShare(t, name, func(share float64) bool { return share == 0 })
	return time.Since(start)
}

// undrain ends a drain and returns when the node has its buckets again.
func (c *cluster) undrain(t testing.TB, asked *node, name string) time.Duration {
	t.Helper()
	asked.admin("undrain " + name)
	start := time.Now()
	c.awaitMember(t, name, "active")
	c.wantShare(t, name, func(share float64) bool { return share > 0 })
	c.agree(t)
	return time.Since(start)
}

// wantShare waits until a node owns what is wanted.
func (c *cluster) wantShare(t testing.TB, name string, ok func(float64) bool) {
	t.Helper()
	n := c.called(name)
	nettest.Eventually(t, agreeWithin, func() error {
		share, err := n.share()
		if err != nil || !ok(share) {
			return fmt.Errorf("%s owns %.1f %% of the buckets, %w", name, 100*share, err)
		}
		return nil
	})
}

// restart ends lbd by a signal and starts it again; with SIGTERM it takes a leave of absence.
func (n *node) restart(signal syscall.Signal) {
	n.t.Helper()
	n.stop(signal)
	n.start()
}

// upgrade is a restart as another version, back and forth.
func (n *node) upgrade() {
	n.t.Helper()
	n.stop(syscall.SIGTERM)
	if n.lbd == "lbd" {
		n.lbd = filepath.Join("next", "lbd")
	} else {
		n.lbd = "lbd"
	}
	n.start()
}
