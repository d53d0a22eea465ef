package demo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

const (
	// late is how long a second answer, which should not come, is waited for.
	late = 200 * time.Millisecond
	// away is how long an lbd stays stopped, and serves before the next one stops.
	away = 500 * time.Millisecond
)

// play runs the scenario under traffic.
func (c *cluster) play(ctx context.Context) (*Result, error) {
	observer, err := observe(c.client, c.servers())
	if err != nil {
		return nil, fmt.Errorf("observe the client: %w", err)
	}
	c.say("%s hold %s and %s; the client connects to them all the time", c.holders(), vips[0], vips[1])
	t := c.startTraffic(ctx, observer)
	err = c.scenario(ctx, t)
	result, troubles := t.stop()
	if err == nil {
		err = sleep(ctx, late)
	}
	seen, missed := observer.close()
	if err := errors.Join(err, missed); err != nil {
		return nil, err
	}
	result.DuplicateAnswers, result.DuplicateSynAcks, result.SynRetransmits = seen.doubled, seen.surplus, seen.repeated
	c.total(t)
	for _, text := range troubles {
		c.say("%s", text)
	}
	c.say("%s", result.summary())
	return result, nil
}

func (c *cluster) scenario(ctx context.Context, t *traffic) error {
	switch c.opts.Scenario {
	case Restart:
		return c.restart(ctx, t)
	case Drain:
		return c.drain(ctx, t)
	case Join:
		return c.join(ctx, t)
	case RollingRestart:
		return c.rollingRestart(ctx, t)
	case Crash:
		return c.crash(ctx, t, c.last(), func() {})
	case Partition:
		return c.partition(ctx, t)
	case Failover:
		return c.failover(ctx, t)
	case BackendDrain:
		return c.drainBackend(ctx, t)
	case Serve, DR, Tunnel, NAT:
	}
	if c.opts.Connections > 0 {
		return c.watch(ctx, t, t.enough)
	}
	return c.watchFor(ctx, t, c.opts.Duration)
}

// restart stops and kills the lbd of each node in turn.
func (c *cluster) restart(ctx context.Context, t *traffic) error {
	for _, n := range c.nodes {
		for _, step := range []struct {
			signal syscall.Signal
			text   string
		}{
			{syscall.SIGTERM, "stopping lbd of %s; the kernel goes on by itself"},
			{syscall.SIGKILL, "killing lbd of %s with SIGKILL; the kernel goes on by itself"},
		} {
			c.say(step.text, n.name)
			if err := n.end(ctx, step.signal); err != nil {
				return err
			}
			if err := c.watchFor(ctx, t, away); err != nil {
				return err
			}
			if err := c.launch(ctx, n); err != nil {
				return err
			}
			if err := c.watchFor(ctx, t, away); err != nil {
				return err
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// explain tells how to look at what runs.
func (c *cluster) explain() {
	n := c.nodes[0]
	lbctl, named := c.binaries.lbctl, ""
	if c.opts.Name != "" {
		named = " --name " + c.opts.Name
	}
	c.say("\nThe cluster goes on running. Look at it:\n"+
		"  %s --socket %s status", lbctl, n.socket())
	if c.opts.Scenario.members() {
		c.say("  %s --socket %s events", lbctl, n.socket())
	}
	if c.opts.Scenario.directs() {
		c.say("  %s --socket %s backends", lbctl, n.socket())
	}
	c.say("  ip netns exec %s curl http://%s/\n"+
		"  %s --bpf-dir %s owner %s:40000 %s:%d\n"+
		"  less %s\n"+
		"Remove it, as the next demo does with --replace:\n"+
		"  %s demo --clean%s",
		c.client.Namespace, vips[0], lbctl, n.pins(), clients[0], vips[0], webPort, n.log(), lbctl, named)
}
