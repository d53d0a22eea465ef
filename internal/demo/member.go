package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/control"
)

// A state is what a node should be, in the words of lbd's status.
type state string

const (
	absent   state = "" // nobody has heard of it
	active   state = "active"
	draining state = "draining"
	down     state = "down"
	up       state = "up" // of a backend
)

// settleTime is how long the nodes may take to agree and to move what is to be moved, on a machine
// that is busy.
const settleTime = 20 * time.Second

// last is the node that goes, or comes.
func (c *cluster) last() *node { return c.nodes[len(c.nodes)-1] }

// serves says whether a node takes part, or should.
func (n *node) serves() bool { return n.state == active || n.state == draining }

// settle waits until all nodes that serve agree, and hold what they should.
func (c *cluster) settle(ctx context.Context) error {
	for deadline := time.Now().Add(settleTime); ; {
		n, problem := c.unsettled(ctx)
		if problem == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the nodes do not agree after %s: node %s: %w\n%s", settleTime, n.name, problem, tail(n.log()))
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// unsettled is a node that waits for something, and what that is.
func (c *cluster) unsettled(ctx context.Context) (*node, error) {
	for _, n := range c.nodes {
		if !n.serves() {
			continue
		}
		status, err := n.status(ctx)
		if err == nil {
			err = c.differs(n, status)
		}
		if err != nil {
			return n, err
		}
	}
	return nil, nil
}

// differs compares what a node says with what should be.
func (c *cluster) differs(n *node, s *control.Status) error {
	problems := strings.Join(s.Problems, "; ")
	switch a := s.Agreement; {
	case a == nil:
		return errors.New("it is no member")
	case !a.Agreed:
		return fmt.Errorf("it knows something else than others; problems: %s", problems)
	case !a.Settled || a.Moving > 0:
		return fmt.Errorf("buckets are to be moved; problems: %s", problems)
	}
	for _, other := range c.nodes {
		m := memberOf(s, other.name)
		switch {
		case other.state == absent:
		case m == nil:
			return fmt.Errorf("it has not heard of %s", other.name)
		case m.State != string(other.state):
			return fmt.Errorf("%s is %s there, not %s; problems: %s", other.name, m.State, other.state, problems)
		}
	}
	if c.opts.Scenario == Failover {
		return c.ownersDiffer(s)
	}
	if m := memberOf(s, n.name); (m.Held > 0) != (n.state == active) {
		return fmt.Errorf("it is %s and holds %d buckets", n.state, m.Held)
	}
	return c.backendsDiffer(s)
}

// memberOf returns what a status says about a node, or nil.
func memberOf(s *control.Status, name string) *control.Member {
	for i := range s.Nodes {
		if s.Nodes[i].Name == name {
			return s.Nodes[i].Member
		}
	}
	return nil
}

// status asks a node's lbd.
func (n *node) status(ctx context.Context) (*control.Status, error) {
	client, err := control.Dial(n.socket())
	if err != nil {
		return nil, err
	}
	return client.Status(ctx)
}

// life returns the number of a node's life, which it loses with its buckets.
func (n *node) life(ctx context.Context) (uint64, error) {
	status, err := n.status(ctx)
	if err != nil {
		return 0, fmt.Errorf("node %s: %w", n.name, err)
	}
	if m := memberOf(status, n.name); m != nil {
		return m.Life, nil
	}
	return 0, fmt.Errorf("node %s: it is no member", n.name)
}
