package demo

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/internal/control"
)

const (
	// before and after what happens: time to see the difference, and for a SYN that was lost to come
	// again.
	calm = 2 * time.Second
	// underway is how long a connection may be on its way that a node took before it was drained.
	underway = 200 * time.Millisecond
)

// drain takes the new flows from the last node, and gives them back.
func (c *cluster) drain(ctx context.Context, t *traffic) error {
	n := c.last()
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	c.say("draining %s: lbctl nodes drain %s, asked of %s", n.name, n.name, c.nodes[0].name)
	n.state = draining
	took, err := c.during(ctx, t, func(ctx context.Context) error { return c.tell(ctx, n, true) })
	if err != nil {
		return err
	}
	kept, err := c.connectionsOf(ctx, n)
	if err != nil {
		return err
	}
	c.say("%s gave its buckets away after %d ms; %d connections stay with it until they end", n.name, took.Milliseconds(), kept)
	if err := c.watchFor(ctx, t, underway); err != nil {
		return err
	}
	before := t.shares()
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	after := t.shares()
	if fresh := after.perNode[n.name] - before.perNode[n.name]; fresh > 0 {
		t.fail("%s took %d new connections when it was drained", n.name, fresh)
	}
	c.say("%s took %d of the last %d new connections; lbctl nodes undrain %s", n.name,
		after.perNode[n.name]-before.perNode[n.name], after.connections-before.connections, n.name)
	n.state = active
	if took, err = c.during(ctx, t, func(ctx context.Context) error { return c.tell(ctx, n, false) }); err != nil {
		return err
	}
	c.say("%s has its buckets again after %d ms", n.name, took.Milliseconds())
	before = t.shares()
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	if t.shares().perNode[n.name] == before.perNode[n.name] {
		t.fail("%s takes no new connections after it was undrained", n.name)
	}
	return nil
}

// tell drains or undrains a node and returns when all nodes have done what follows.
func (c *cluster) tell(ctx context.Context, n *node, drain bool) error {
	client, err := control.Dial(c.nodes[0].socket())
	if err != nil {
		return err
	}
	if err := client.Admin(ctx, control.AdminRequest{Node: n.name, Drain: &drain}); err != nil {
		return err
	}
	return c.settle(ctx)
}

// connectionsOf asks a node how many connections it has; it counts them once a second.
func (c *cluster) connectionsOf(ctx context.Context, n *node) (int, error) {
	status, err := n.status(ctx)
	if err != nil {
		return 0, fmt.Errorf("node %s: %w", n.name, err)
	}
	if m := memberOf(status, n.name); m != nil {
		return m.Connections, nil
	}
	return 0, nil
}

// join adds the last node to the configuration of the others and starts it.
func (c *cluster) join(ctx context.Context, t *traffic) error {
	n := c.last()
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	c.say("adding %s to lb.yaml of all nodes, and lbctl config reload", n.name)
	others := c.nodes[:len(c.nodes)-1]
	if _, err := c.during(ctx, t, func(ctx context.Context) error { return c.reload(ctx, others) }); err != nil {
		return err
	}
	if err := c.watchFor(ctx, t, away); err != nil {
		return err
	}
	c.say("starting lbd on %s", n.name)
	n.state = active
	took, err := c.during(ctx, t, func(ctx context.Context) error {
		if err := c.launch(ctx, n); err != nil {
			return err
		}
		return c.settle(ctx)
	})
	if err != nil {
		return err
	}
	c.say("%s has its share after %d ms", n.name, took.Milliseconds())
	return c.watchFor(ctx, t, calm)
}

// reload makes nodes use a file that names all nodes.
func (c *cluster) reload(ctx context.Context, nodes []*node) error {
	for _, n := range nodes {
		if err := c.configure(n, c.nodes); err != nil {
			return err
		}
		client, err := control.Dial(n.socket())
		if err == nil {
			_, err = client.Reload(ctx)
		}
		if err != nil {
			return fmt.Errorf("node %s: reload: %w", n.name, err)
		}
	}
	return nil
}

// rollingRestart restarts the lbd of each node, as an upgrade does.
func (c *cluster) rollingRestart(ctx context.Context, t *traffic) error {
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := c.restartMember(ctx, t, n); err != nil {
			return err
		}
	}
	return c.watchFor(ctx, t, calm)
}

// restartMember restarts the lbd of a node, which must keep its life: then no bucket moved.
func (c *cluster) restartMember(ctx context.Context, t *traffic, n *node) error {
	before, err := n.life(ctx)
	if err != nil {
		return err
	}
	c.say("stopping lbd of %s; it takes its leave, and the kernel goes on by itself", n.name)
	if _, err := c.during(ctx, t, func(ctx context.Context) error { return n.end(ctx, syscall.SIGTERM) }); err != nil {
		return err
	}
	if err := c.watchFor(ctx, t, away); err != nil {
		return err
	}
	took, err := c.during(ctx, t, func(ctx context.Context) error {
		if err := c.launch(ctx, n); err != nil {
			return err
		}
		return c.settle(ctx)
	})
	if err != nil {
		return err
	}
	after, err := n.life(ctx)
	if err != nil {
		return err
	}
	if after != before {
		t.fail("%s lost its buckets in the restart", n.name)
	}
	c.say("%s is back, %d ms after its start", n.name, took.Milliseconds())
	return c.watchFor(ctx, t, away)
}
