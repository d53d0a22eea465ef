package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/control"
)

const (
	drawEvery = 200 * time.Millisecond
	lineEvery = time.Second
	// recently is what a bar is about: long enough for a few hundred connections, short enough to see
	// a node go.
	recently = 900 * time.Millisecond
	// statusTime is how long a picture waits for an lbd that is busy, or gone.
	statusTime = 100 * time.Millisecond
)

// A picture shows who answers.
type picture struct {
	history []counts // of recently, oldest first
	line    counts   // of the last line
}

// watchFor shows who answers for some time.
func (c *cluster) watchFor(ctx context.Context, t *traffic, d time.Duration) error {
	end := make(chan struct{})
	time.AfterFunc(d, func() { close(end) })
	return c.watch(ctx, t, end)
}

// during shows who answers while something is done, and returns how long that took. It must not say
// anything, and end with ctx.
func (c *cluster) during(ctx context.Context, t *traffic, do func(context.Context) error) (took time.Duration, err error) {
	start := time.Now()
	end := make(chan struct{})
	var failed error
	go func() {
		defer close(end)
		failed = do(ctx)
		took = time.Since(start)
	}()
	err = c.watch(ctx, t, end)
	<-end
	if err == nil {
		err = failed
	}
	return took, err
}

// watch shows who answers, until the end.
func (c *cluster) watch(ctx context.Context, t *traffic, end <-chan struct{}) error {
	every := lineEvery
	if c.opts.Terminal {
		every = drawEvery
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
				c.draw(ctx, t)
			} else {
				c.line(t)
			}
		}
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
	now, before := t.shares(), c.picture.line
	c.picture.line = now
	var b strings.Builder
	for _, n := range c.servers() {
		fmt.Fprintf(&b, "%s %d (+%d), ", n.name, now.perNode[n.name], now.perNode[n.name]-before.perNode[n.name])
	}
	c.say("  %s%d broken", b.String(), now.broken)
}

// draw prints a bar for each node, of its share lately, and goes back up.
func (c *cluster) draw(ctx context.Context, t *traffic) {
	now := t.shares()
	before := c.picture.since(now)
	states := c.states(ctx)
	var b strings.Builder
	for _, n := range c.servers() {
		share := float64(now.perNode[n.name]-before.perNode[n.name]) / float64(max(now.connections-before.connections, 1))
		b.WriteString(bar(n.name, share, now.perNode[n.name]) + "  " + states[n.name] + "\n")
	}
	// CUU: what is said next takes the place of the first line
	fmt.Fprintf(&b, "  %d connections, %d broken\n\x1b[%dA", now.connections, now.broken, len(c.servers())+1)
	fmt.Fprint(c.opts.Progress, clearBelow+b.String())
}

// total prints a bar for each node, of its share from the beginning.
func (c *cluster) total(t *traffic) {
	all := t.shares()
	for _, n := range c.servers() {
		c.say("%s", bar(n.name, float64(all.perNode[n.name])/float64(max(all.connections, 1)), all.perNode[n.name]))
	}
}

func bar(name string, share float64, connections int) string {
	const width = 40
	length := min(int(share*width+0.5), width) // connections may be answered in another order
	return fmt.Sprintf("  %-4s %-*s %6d  %5.1f %%", name, width, strings.Repeat("#", length), connections, 100*share)
}

// since adds to the history and returns what was counted some time before.
func (p *picture) since(now counts) counts {
	p.history = append(p.history, now)
	for len(p.history) > 2 && now.at.Sub(p.history[1].at) >= recently {
		p.history = p.history[1:]
	}
	return p.history[0]
}

// states are what the first node that runs knows of all, in a few words.
func (c *cluster) states(ctx context.Context) map[string]string {
	states := make(map[string]string)
	if !c.opts.Scenario.members() {
		return states
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	for _, n := range c.nodes {
		if !n.serves() {
			continue
		}
		status, err := n.status(ctx)
		if err != nil {
			continue
		}
		for i := range status.Nodes {
			states[status.Nodes[i].Name] = describe(status.Nodes[i].Member)
		}
		for name, backend := range backendStates(status) {
			states[name] = describeBackend(backend)
		}
		break
	}
	return states
}

func describe(m *control.Member) string {
	switch {
	case m == nil:
		return ""
	case m.State == "down":
		return "down"
	}
	return fmt.Sprintf("%s, %d connections", m.State, m.Connections)
}
