package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// late is how long a second answer, which should not come, is waited for.
const late = 200 * time.Millisecond

// play runs the scenario under traffic.
func (c *cluster) play(ctx context.Context) (*Result, error) {
	observer, err := observe(c.client)
	if err != nil {
		return nil, fmt.Errorf("observe the client: %w", err)
	}
	c.say("every node holds %s and %s; the client connects to them all the time", vips[0], vips[1])
	t := c.startTraffic(ctx)
	err = c.scenario(ctx, t)
	result, broken := t.stop()
	if err == nil {
		err = sleep(ctx, late)
	}
	var missed error
	result.DuplicateAnswers, missed = observer.close()
	if err := errors.Join(err, missed); err != nil {
		return nil, err
	}
	c.draw(t, false)
	for _, e := range broken {
		c.say("broken: %v", e)
	}
	c.say("%d connections, %d broken, %d answered twice; %d answers took over a second, the slowest %.0f ms",
		result.Connections, result.Broken, result.DuplicateAnswers, result.StalledOver1s, result.LongestGapMS)
	return result, nil
}

func (c *cluster) scenario(ctx context.Context, t *traffic) error {
	switch {
	case c.opts.Scenario == Restart:
		return c.restart(ctx, t)
	case c.opts.Connections > 0:
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

// away is how long an lbd stays stopped, and serves before the next one stops.
const away = 500 * time.Millisecond

func (c *cluster) watchFor(ctx context.Context, t *traffic, d time.Duration) error {
	end := make(chan struct{})
	time.AfterFunc(d, func() { close(end) })
	return c.watch(ctx, t, end)
}

// watch shows who answers, until the end.
func (c *cluster) watch(ctx context.Context, t *traffic, end <-chan struct{}) error {
	every := time.Second
	if c.opts.Terminal {
		every = 200 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-tick.C:
			if c.opts.Terminal {
				c.draw(t, true)
			} else {
				c.line(t)
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// say tells a step, in place of the picture on a terminal.
func (c *cluster) say(format string, args ...any) {
	if c.opts.Terminal {
		fmt.Fprint(c.opts.Progress, clearBelow)
	}
	fmt.Fprintf(c.opts.Progress, format+"\n", args...)
}

// clearBelow empties a terminal from the cursor to its end (ECMA-48 ED).
const clearBelow = "\x1b[J"

// line is the picture where nothing can be drawn in place.
func (c *cluster) line(t *traffic) {
	_, broken, perNode := t.shares()
	var b strings.Builder
	for _, n := range c.nodes {
		fmt.Fprintf(&b, "%s %d, ", n.name, perNode[n.name])
	}
	c.say("  %s%d broken", b.String(), broken)
}

// draw prints a bar for each node; in place, it goes back up afterwards.
func (c *cluster) draw(t *traffic, inPlace bool) {
	const width = 40
	connections, broken, perNode := t.shares()
	var b strings.Builder
	for _, n := range c.nodes {
		share := float64(perNode[n.name]) / float64(max(connections, 1))
		fmt.Fprintf(&b, "  %-4s %-*s %6d  %4.1f %%\n", n.name, width, strings.Repeat("#", int(share*width+0.5)), perNode[n.name], 100*share)
	}
	if inPlace {
		// CUU: what is said next takes the place of the first line
		fmt.Fprintf(&b, "  %d connections, %d broken\n\x1b[%dA", connections, broken, len(c.nodes)+1)
	}
	if c.opts.Terminal {
		fmt.Fprint(c.opts.Progress, clearBelow)
	}
	fmt.Fprint(c.opts.Progress, b.String())
}

// explain tells how to look at what runs.
func (c *cluster) explain() {
	n := c.nodes[0]
	lbctl := c.binaries.lbctl
	c.say("\nThe cluster goes on running. Look at it:\n"+
		"  %s --socket %s status\n"+
		"  ip netns exec %s curl http://%s/\n"+
		"  %s --bpf-dir %s owner %s:40000 %s:%d\n"+
		"  less %s\n"+
		"Remove it, or start the next demo, which does it:\n"+
		"  %s demo --clean",
		lbctl, n.socket(), c.client.Namespace, vips[0], lbctl, n.pins(), clients[0], vips[0], webPort, n.log(), lbctl)
}
