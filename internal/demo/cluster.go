package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

var (
	vips    = [2]netip.Addr{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8::80")}
	clients = [2]netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8::200")}
)

const (
	webPort   = 80
	readyTime = 15 * time.Second // until an lbd serves, or ends
)

// A cluster is the demo's machines.
type cluster struct {
	place
	opts     Options
	binaries binaries
	sw       *netlab.Switch
	client   *netlab.Host
	nodes    []*node
	owner    *node   // of the VIPs, where one node at a time has them
	backends []*node // behind the nodes, where these are directors
	picture  picture
}

// A node is a machine with an lbd and a web server.
type node struct {
	name     string
	host     *netlab.Host
	dir      string
	lbd, web *process
	state    state // that a member, or a backend, should be in
}

// run makes the cluster and plays the scenario.
func (c *cluster) run(ctx context.Context, lab *netlab.Lab) (*Result, error) {
	c.say("building %s, a client and a switch in network namespaces (%s*)", c.machines(), c.prefix)
	if err := c.build(ctx, lab); err != nil {
		return nil, fmt.Errorf("build the network: %w", err)
	}
	c.say("starting web servers and lbd, with XDP in %s mode", c.opts.Attach)
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c.play(ctx)
}

// machines says what is built.
func (c *cluster) machines() string {
	if c.opts.Scenario.directs() {
		return fmt.Sprintf("%d directors, %d backends", directors, c.opts.Nodes)
	}
	return fmt.Sprintf("%d nodes", c.opts.Nodes)
}

// build makes the machines and cables.
func (c *cluster) build(ctx context.Context, lab *netlab.Lab) error {
	var err error
	if c.sw, err = lab.Switch("switch", netlab.SwitchOptions{}); err != nil {
		return err
	}
	if c.client, err = c.machine(lab, "client", 200); err != nil {
		return err
	}
	nodes := c.opts.Nodes
	if c.opts.Scenario.directs() {
		nodes = directors
		if err := c.buildBackends(ctx, lab); err != nil {
			return err
		}
	}
	for i := range nodes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n := &node{name: fmt.Sprintf("n%d", i+1)}
		if n.host, err = c.machine(lab, n.name, firstNode+i); err != nil {
			return err
		}
		n.dir = filepath.Join(c.workDir, n.name)
		if c.opts.Scenario == NAT {
			if err := n.host.Forward(); err != nil {
				return err
			}
		}
		c.nodes = append(c.nodes, n)
	}
	return nil
}

// start runs the processes and returns when every node serves.
func (c *cluster) start(ctx context.Context) error {
	first := c.nodes
	if c.opts.Scenario == Join {
		first = c.nodes[:len(c.nodes)-1]
	}
	if c.opts.Scenario.members() {
		if err := c.makeKey(); err != nil {
			return err
		}
	}
	if err := c.startBackends(ctx); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := c.prepare(ctx, n, first); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	for _, n := range first {
		n.state = active
	}
	c.owner = c.nodes[0]
	for _, b := range c.backends {
		b.state = up
	}
	// One after another. On a machine without a BPF file system the first mounts one, and two that do
	// so at once hide each other's pins. And members that have leases to renew already do not wait for
	// processors on which all the others verify their programs.
	for _, n := range first {
		if err := c.launch(ctx, n); err != nil {
			return err
		}
	}
	if !c.opts.Scenario.members() {
		return nil
	}
	return c.settle(ctx)
}

func (c *cluster) machine(lab *netlab.Lab, name string, number int) (*netlab.Host, error) {
	h, err := lab.Host(name)
	if err != nil {
		return nil, err
	}
	// what native XDP transmits into a veth arrives only where the other end runs XDP too
	if err := lab.Connect(h, "eth0", c.sw, netlab.LinkOptions{SwitchXDP: true}); err != nil {
		return nil, err
	}
	for _, address := range []string{fmt.Sprintf("192.0.2.%d/24", number), fmt.Sprintf("2001:db8::%d/64", number)} {
		if err := h.Addr("eth0", netip.MustParsePrefix(address)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// prepare writes a node's configuration, which names some nodes, and starts its web server, if it is to
// serve.
func (c *cluster) prepare(ctx context.Context, n *node, nodes []*node) error {
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		return err
	}
	if !slices.Contains(nodes, n) {
		nodes = c.nodes
	}
	if err := c.configure(n, nodes); err != nil || c.opts.Scenario.directs() {
		return err
	}
	return c.startWeb(ctx, n)
}

// startWeb starts a web server with a socket that listens already, so it is ready at once.
func (c *cluster) startWeb(ctx context.Context, n *node) error {
	listener, err := n.host.Listen(ctx, "tcp", fmt.Sprintf(":%d", webPort))
	if err != nil {
		return err
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer socket.Close()
	n.web, err = c.spawn(n, filepath.Join(n.dir, "web.log"), []*os.File{socket}, c.binaries.lbctl, WebCommand, n.name)
	return err
}

// configure writes a node's file.
func (c *cluster) configure(n *node, nodes []*node) error {
	return os.WriteFile(n.config(), []byte(c.config(n, nodes)), 0o600)
}

// launch starts a node's lbd and returns when it has applied its configuration.
func (c *cluster) launch(ctx context.Context, n *node) error {
	var err error
	n.lbd, err = c.spawn(n, n.log(), nil, c.binaries.lbd,
		"-config", n.config(), "-socket", n.socket(),
		"-bpf-dir", n.pins(), "-state-dir", filepath.Join(n.dir, "state"), "-data-dir", filepath.Join(n.dir, "data"))
	if err == nil {
		err = n.ready(ctx)
	}
	if err != nil {
		return fmt.Errorf("node %s: lbd: %w", n.name, err)
	}
	return nil
}

func (n *node) config() string { return filepath.Join(n.dir, "lb.yaml") }

func (n *node) socket() string { return filepath.Join(n.dir, "lbd.sock") }

func (n *node) log() string { return filepath.Join(n.dir, "lbd.log") }

func (n *node) pins() string { return filepath.Join(pinRoot, n.host.Namespace) }

func (c *cluster) config(local *node, nodes []*node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster:\n  name: demo\n  seed: %064x\n  node: %s\n  nodes:\n", 1, local.name)
	for i, n := range nodes {
		fmt.Fprintf(&b, "    - {name: %s, addresses: [192.0.2.%d, '2001:db8::%d']}\n", n.name, firstNode+i, firstNode+i)
	}
	if c.opts.Scenario.members() {
		fmt.Fprintf(&b, "  membership:\n    key-file: %s\n", c.keyFile())
		if c.opts.Scenario.planned() {
			// All nodes and all clients share the processors of one machine, and some lbd may have to
			// wait for them. It is crashes that these scenarios are not about.
			b.WriteString("    dead-after: 2s\n")
		}
	}
	fmt.Fprintf(&b, "interface: eth0\nattach: %s\nvips: [{address: %s%s}, {address: '%s'%[3]s}]\n", c.opts.Attach, vips[0], c.announcing(), vips[1])
	b.WriteString("services:\n" + c.services())
	return b.String()
}

// ready waits until a node's lbd has applied its configuration.
func (n *node) ready(ctx context.Context) error {
	late := time.After(readyTime)
	for {
		problem := n.problem(ctx)
		if problem == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.lbd.ended:
			return fmt.Errorf("ended: %w\n%s", n.lbd.err, tail(n.log()))
		case <-late:
			return fmt.Errorf("not ready after %s: %w\n%s", readyTime, problem, tail(n.log()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// problem is why a node's lbd does not serve.
func (n *node) problem(ctx context.Context) error {
	status, err := n.status(ctx)
	switch {
	case err != nil:
		return err
	case len(status.Problems) > 0:
		return errors.New(strings.Join(status.Problems, "; "))
	case status.Generation == 0:
		return errors.New("nothing is applied yet")
	}
	return nil
}

// end stops a node's lbd by a signal and waits for it.
func (n *node) end(ctx context.Context, signal syscall.Signal) error {
	if err := n.lbd.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("node %s: lbd: %w", n.name, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-n.lbd.ended:
	case <-time.After(readyTime):
		return fmt.Errorf("node %s: lbd did not end %s after %s\n%s", n.name, readyTime, signal, tail(n.log()))
	}
	if signal == syscall.SIGTERM && n.lbd.err != nil {
		return fmt.Errorf("node %s: lbd ended: %w\n%s", n.name, n.lbd.err, tail(n.log()))
	}
	return nil
}
