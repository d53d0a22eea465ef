package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
)

// failover moves the VIPs, which one node at a time has, and then has their node crash.
func (c *cluster) failover(ctx context.Context, t *traffic) error {
	first, second := c.nodes[0], c.nodes[1]
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	c.say("%s has both VIPs; lbctl vips move ADDRESS %s, asked of %s", first.name, second.name, first.name)
	if err := c.hand(ctx, t, second, second.name); err != nil {
		return err
	}
	if err := c.watchFor(ctx, t, underway); err != nil {
		return err
	}
	before := t.shares()
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	if fresh := t.shares().perNode[first.name] - before.perNode[first.name]; fresh > 0 {
		t.fail("%s took %d new connections when it had no VIP", first.name, fresh)
	}
	c.say("lbctl vips move ADDRESS --auto: the configuration prefers %s", first.name)
	if err := c.hand(ctx, t, first, ""); err != nil {
		return err
	}
	return c.crash(ctx, t, first, func() { c.owner = second })
}

// hand gives the VIPs to a node, by its name or because the configuration says so, and returns when all
// nodes know who has them.
func (c *cluster) hand(ctx context.Context, t *traffic, to *node, name string) error {
	c.owner = to
	took, err := c.during(ctx, t, func(ctx context.Context) error {
		client, err := control.Dial(c.nodes[0].socket())
		if err != nil {
			return err
		}
		for _, vip := range vips {
			if err := client.Move(ctx, control.MoveRequest{VIP: vip, Node: name}); err != nil {
				return fmt.Errorf("move %s: %w", vip, err)
			}
		}
		return c.settle(ctx)
	})
	if err != nil {
		return err
	}
	c.say("%s has both after %d ms; connections stay where they are until they end", to.name, took.Milliseconds())
	return nil
}

// ownersDiffer compares who has the VIPs, as a node says, with who should.
func (c *cluster) ownersDiffer(s *control.Status) error {
	for _, v := range s.VIPs {
		if v.Owner != c.owner.name {
			return fmt.Errorf("%s belongs to %q there, not to %s", v.Address, v.Owner, c.owner.name)
		}
	}
	return nil
}

// announcing is what the configuration says of each VIP besides.
func (c *cluster) announcing() string {
	if c.opts.Scenario != Failover {
		return ""
	}
	var names []string
	for _, n := range c.nodes {
		names = append(names, n.name)
	}
	return ", announce: failover, prefer: [" + strings.Join(names, ", ") + "]"
}
