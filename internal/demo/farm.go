package demo

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
)

// directors is how many nodes stand before the backends, where there are any.
const directors = 2

// method is how nodes forward to backends, which serve; empty where nodes serve by themselves.
func (s Scenario) method() string {
	switch s {
	case DR, BackendDrain:
		return "dr"
	case Tunnel:
		return "tunnel"
	case NAT:
		return "nat"
	case Serve, Restart, Drain, Join, RollingRestart, Crash, Partition, Failover:
	}
	return ""
}

// directs says whether the nodes forward to backends.
func (s Scenario) directs() bool { return s.method() != "" }

// holders says who has the VIPs.
func (c *cluster) holders() string {
	if c.opts.Scenario == NAT {
		return "the directors"
	}
	return "all machines but the client"
}

// servers are who answers the client.
func (c *cluster) servers() []*node {
	switch {
	case c.opts.Scenario.directs():
		return c.backends
	case c.opts.Scenario == Failover:
		return c.nodes[:2] // who has the VIPs, and who has them next
	}
	return c.nodes
}

// buildBackends makes the machines behind the directors.
func (c *cluster) buildBackends(ctx context.Context, lab *netlab.Lab) error {
	for i := range c.opts.Nodes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b := &node{name: fmt.Sprintf("b%d", i+1)}
		b.dir = filepath.Join(c.workDir, b.name)
		var err error
		if b.host, err = c.machine(lab, b.name, firstBackend+i); err != nil {
			return err
		}
		c.backends = append(c.backends, b)
	}
	return nil
}

// The last bytes of the addresses of the first node and the first backend.
const (
	firstNode    = 11
	firstBackend = 101
)

// startBackends starts their web servers, and prepares them for what directors send.
func (c *cluster) startBackends(ctx context.Context) error {
	for i, b := range c.backends {
		err := os.Mkdir(b.dir, 0o700)
		if err == nil {
			err = c.startWeb(ctx, b)
		}
		if err == nil {
			err = c.becomeBackend(ctx, b, i)
		}
		if err != nil {
			return fmt.Errorf("backend %s: %w", b.name, err)
		}
	}
	return nil
}

// becomeBackend starts lbd, which has a machine hold the VIPs and take off tunnels. With NAT it needs
// nothing but a director as its way to the client.
func (c *cluster) becomeBackend(ctx context.Context, b *node, number int) error {
	if c.opts.Scenario != NAT {
		if err := os.WriteFile(b.config(), []byte(c.backendConfig()), 0o600); err != nil {
			return err
		}
		return c.launch(ctx, b)
	}
	for family, client := range clients {
		gateway := netip.MustParseAddr(fmt.Sprintf([]string{"192.0.2.%d", "2001:db8::%d"}[family], firstNode+number%directors))
		if err := b.host.Route(netip.PrefixFrom(client, client.BitLen()), gateway); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) backendConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "role: backend\ninterface: eth0\nattach: %s\nmethod: %s\nvips: [%s, '%s']\n", c.opts.Attach, c.opts.Scenario.method(), vips[0], vips[1])
	if c.opts.Scenario == Tunnel {
		b.WriteString("directors: [")
		for i := range directors {
			fmt.Fprintf(&b, "192.0.2.%d, ", firstNode+i)
		}
		b.WriteString("]\n")
	}
	return b.String()
}

// services is the section of a node's configuration. NAT keeps to one family.
func (c *cluster) services() string {
	both := fmt.Sprintf("%s, '%s'", vips[0], vips[1])
	switch {
	case !c.opts.Scenario.directs():
		return c.service("web", both, "")
	case c.opts.Scenario == NAT:
		return c.service("web", vips[0].String(), c.forwarding("192.0.2.%d")) +
			c.service("web6", "'"+vips[1].String()+"'", c.forwarding("'2001:db8::%d'"))
	}
	return c.service("web", both, c.forwarding("192.0.2.%d"))
}

func (c *cluster) service(name, vips, rest string) string {
	return fmt.Sprintf("  - {name: %s, vips: [%s], ports: %d%s}\n", name, vips, webPort, rest)
}

// forwarding is what the configuration says of a service with backends at such addresses.
func (c *cluster) forwarding(address string) string {
	var list []string
	for i, b := range c.backends {
		list = append(list, fmt.Sprintf("{name: %s, address: "+address+"}", b.name, firstBackend+i))
	}
	return fmt.Sprintf(", forward: %s, flow-idle: 1m, backends: [%s]", c.opts.Scenario.method(), strings.Join(list, ", "))
}

// backendStates are what a director says of the backends, by name.
func backendStates(status *control.Status) map[string]control.Backend {
	byName := make(map[string]control.Backend)
	for _, b := range status.Backends {
		byName[b.Name] = b
	}
	return byName
}

// backendsDiffer compares what a director says of the backends with what should be.
func (c *cluster) backendsDiffer(s *control.Status) error {
	known := backendStates(s)
	for _, b := range c.backends {
		got := known[b.name]
		if got.State != string(b.state) {
			return fmt.Errorf("backend %s is %s there, not %s: %s", b.name, got.State, b.state, got.Why)
		}
	}
	return nil
}

// drainBackend takes the new flows from the last backend, and gives them back.
func (c *cluster) drainBackend(ctx context.Context, t *traffic) error {
	b := c.backends[len(c.backends)-1]
	if err := c.watchFor(ctx, t, calm); err != nil {
		return err
	}
	c.say("draining %s: lbctl backends drain web/%s, asked of %s", b.name, b.name, c.nodes[0].name)
	b.state = draining
	took, err := c.during(ctx, t, func(ctx context.Context) error { return c.tellBackend(ctx, b, true) })
	if err != nil {
		return err
	}
	c.say("both directors send new flows elsewhere after %d ms; those that %s has stay with it until they end", took.Milliseconds(), b.name)
	if err := c.watchFor(ctx, t, underway); err != nil {
		return err
	}
	fresh, err := c.freshAt(ctx, t, b)
	if err != nil {
		return err
	}
	if fresh > 0 {
		t.fail("%s took %d new connections when it was drained", b.name, fresh)
	}
	c.say("%s took %d new connections since; lbctl backends undrain web/%s", b.name, fresh, b.name)
	b.state = up
	if took, err = c.during(ctx, t, func(ctx context.Context) error { return c.tellBackend(ctx, b, false) }); err != nil {
		return err
	}
	c.say("%s takes new flows again after %d ms", b.name, took.Milliseconds())
	if fresh, err = c.freshAt(ctx, t, b); err != nil {
		return err
	}
	if fresh == 0 {
		t.fail("%s takes no new connections after it was undrained", b.name)
	}
	return nil
}

// freshAt returns how many new connections a server takes in a calm time.
func (c *cluster) freshAt(ctx context.Context, t *traffic, n *node) (int, error) {
	before := t.shares().perNode[n.name]
	err := c.watchFor(ctx, t, calm)
	return t.shares().perNode[n.name] - before, err
}

// tellBackend drains or undrains a backend and returns when all directors have done what follows.
func (c *cluster) tellBackend(ctx context.Context, b *node, drain bool) error {
	client, err := control.Dial(c.nodes[0].socket())
	if err != nil {
		return err
	}
	if err := client.AdminBackend(ctx, control.BackendRequest{Service: "web", Backend: b.name, Drain: &drain}); err != nil {
		return err
	}
	return c.settle(ctx)
}

// describeBackend is what a picture says of one.
func describeBackend(b control.Backend) string {
	if b.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s, %.0f %% of the slots", b.State, 100*b.Share)
}
