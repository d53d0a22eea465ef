package demo

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// play runs the scenario under traffic.
func (c *cluster) play(ctx context.Context) (*Result, error) {
	observer, err := observe(c.client)
	if err != nil {
		return nil, fmt.Errorf("observe the client: %w", err)
	}
	c.say("every node holds %s and %s; the client connects to them all the time", vips[0], vips[1])
	t := c.start(ctx)
	err = c.scenario(ctx, t)
	result, errs := t.stop()
	result.DuplicateAnswers = observer.close()
	c.draw(t, false)
	for _, e := range errs {
		c.say("broken: %v", e)
	}
	c.say("%d connections, %d broken, %d answered twice, %d took over a second; longest gap of a held one %.0f ms",
		result.Connections, result.Broken, result.DuplicateAnswers, result.StalledOver1s, result.LongestGapMS)
	return result, err
}

func (c *cluster) scenario(ctx context.Context, t *traffic) error {
	if c.opts.Scenario == Serve {
		return c.watch(ctx, t, c.opts.Duration)
	}
	for _, n := range c.nodes {
		for _, step := range []struct {
			signal syscall.Signal
			text   string
		}{
			{syscall.SIGTERM, "stopping lbd of %s; the kernel goes on by itself"},
			{syscall.SIGKILL, "killing lbd of %s with SIGKILL"},
		} {
			c.say(step.text, n.name)
			if err := n.end(step.signal); err != nil {
				return err
			}
			if err := c.watch(ctx, t, time.Second); err != nil {
				return err
			}
			if err := c.launch(n); err != nil {
				return err
			}
			if err := c.ready(ctx, n); err != nil {
				return err
			}
		}
	}
	return c.watch(ctx, t, time.Second)
}

// watch shows who answers for a while.
func (c *cluster) watch(ctx context.Context, t *traffic, d time.Duration) error {
	end := time.After(d)
	tick := time.NewTicker(200 * time.Millisecond)
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
			}
		}
	}
}

func (c *cluster) say(format string, args ...any) {
	fmt.Fprintf(c.opts.Progress, format+"\n", args...)
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
		fmt.Fprintf(&b, "  %d connections, %d broken\n\x1b[%dA", connections, broken, len(c.nodes)+1)
	}
	fmt.Fprint(c.opts.Progress, b.String())
}

// explain tells how to look at what runs.
func (c *cluster) explain() {
	n := c.nodes[0]
	c.say("\nThe cluster stays until you press Ctrl-C. From another terminal:\n"+
		"  lbctl --socket %s status\n"+
		"  ip netns exec %s curl http://%s/\n"+
		"  nsenter --net=/run/netns/%s lbctl --bpf-dir %s owner %s:40000 %s:%d\n"+
		"  less %s/lbd.log",
		n.socket(), c.client.Namespace, vips[0], n.host.Namespace, n.pins(), clients[0], vips[0], webPort, n.dir)
}
