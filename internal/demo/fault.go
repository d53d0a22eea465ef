package demo

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// warmup is how long clients connect before a node goes: so many of its flows are known by then that
// they last for all probes.
const warmup = 4 * time.Second

// crash kills a node, as a power cut does. Just before, then says what should be after it.
func (c *cluster) crash(ctx context.Context, t *traffic, n *node, then func()) error {
	if err := c.watchFor(ctx, t, warmup); err != nil {
		return err
	}
	c.say("%s crashes: its cable is cut, and all that runs there is killed", n.name)
	n.state = down
	then()
	if err := c.strike(ctx, t, n, func() error {
		// the cable first: nothing of it says goodbye
		if err := c.sw.Unplug(n.host, "eth0"); err != nil {
			return err
		}
		for _, p := range []*process{n.lbd, n.web} {
			if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
				return fmt.Errorf("node %s: %w", n.name, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	c.sayTakeover(t, n)
	return c.watchFor(ctx, t, calm)
}

// partition cuts the last node off from the others, and heals the cut. The client reaches both sides:
// whoever is not of the majority must have stopped before the others take over.
func (c *cluster) partition(ctx context.Context, t *traffic) error {
	n := c.last()
	client, err := c.client.MAC("eth0")
	if err != nil {
		return err
	}
	if err := c.watchFor(ctx, t, warmup); err != nil {
		return err
	}
	c.say("%s is cut off from the other nodes, and the client reaches both sides; the majority goes on", n.name)
	n.state = down
	if err := c.strike(ctx, t, n, func() error { return c.sw.Cut(n.host, "eth0", client) }); err != nil {
		return err
	}
	c.sayTakeover(t, n)
	c.say("healing the cut")
	n.state = active
	took, err := c.during(ctx, t, func(ctx context.Context) error {
		if err := c.sw.Heal(n.host, "eth0"); err != nil {
			return err
		}
		return c.settle(ctx)
	})
	if err != nil {
		return err
	}
	t.strike("") // whose connections live again as everybody's
	c.say("%s has its share again after %d ms", n.name, took.Milliseconds())
	return c.watchFor(ctx, t, calm)
}

// strike does what takes a node away, and measures how long its flows find nobody.
func (c *cluster) strike(ctx context.Context, t *traffic, n *node, blow func() error) error {
	flows := t.flowsToProbe(n.name)
	t.strike(n.name)
	_, err := c.during(ctx, t, func(ctx context.Context) error {
		since := time.Now()
		if err := blow(); err != nil {
			return err
		}
		took, err := t.takeover(ctx, since, flows)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.fail("connections that %s would have taken: %v", n.name, err)
			return nil
		}
		t.tookOver(took)
		return c.settle(ctx)
	})
	return err
}

func (c *cluster) sayTakeover(t *traffic, n *node) {
	if ms, died := t.losses(); ms > 0 {
		c.say("the others answer for %s after %.0f ms; %d connections ended with it, and connect anew", n.name, ms, died)
	}
}
