package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
)

var (
	vips    = [2]netip.Addr{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8::80")}
	clients = [2]netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("2001:db8::200")}
)

const (
	webPort   = 80
	echoPort  = 7
	readyTime = 15 * time.Second
)

// A cluster is the demo's machines.
type cluster struct {
	opts   Options
	client *netlab.Host
	nodes  []*node
}

// A node is a machine with an lbd and servers.
type node struct {
	name string
	host *netlab.Host
	dir  string
	lbd  *netlab.Command
	web  *http.Server
	echo net.Listener
}

// build makes the machines, cables and processes, and returns when every node serves.
func build(ctx context.Context, lab *netlab.Lab, opts Options) (*cluster, error) {
	c := &cluster{opts: opts}
	c.say("building %d nodes, a client and a switch in network namespaces (%s*)", opts.Nodes, prefix)
	sw, err := lab.Switch("switch", netlab.SwitchOptions{})
	if err != nil {
		return nil, err
	}
	if c.client, err = c.machine(lab, sw, "client", 200); err != nil {
		return nil, err
	}
	for i := range opts.Nodes {
		n := &node{name: fmt.Sprintf("n%d", i+1)}
		if n.host, err = c.machine(lab, sw, n.name, 11+i); err != nil {
			return nil, err
		}
		n.dir = filepath.Join(workDir, n.name)
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if err := c.launch(n); err != nil {
			c.stop()
			return nil, fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	for _, n := range c.nodes {
		if err := c.ready(ctx, n); err == nil {
			err = n.serve(ctx)
		}
		if err != nil {
			c.stop()
			return nil, fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	return c, nil
}

func (c *cluster) machine(lab *netlab.Lab, sw *netlab.Switch, name string, number int) (*netlab.Host, error) {
	h, err := lab.Host(name)
	if err != nil {
		return nil, err
	}
	// what native XDP transmits into a veth arrives only where the other end runs XDP too
	if err := lab.Connect(h, "eth0", sw, netlab.LinkOptions{SwitchXDP: true}); err != nil {
		return nil, err
	}
	for _, address := range []string{fmt.Sprintf("192.0.2.%d/24", number), fmt.Sprintf("2001:db8::%d/64", number)} {
		if err := h.Addr("eth0", netip.MustParsePrefix(address)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// launch writes a node's configuration and starts its lbd.
func (c *cluster) launch(n *node) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "lb.yaml"), []byte(c.config(n)), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.dir, "lbd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.lbd = n.host.Command(context.Background(), c.opts.LBD,
		"-config", filepath.Join(n.dir, "lb.yaml"), "-socket", n.socket(),
		"-bpf-dir", n.pins(), "-state-dir", filepath.Join(n.dir, "state"))
	n.lbd.Stderr = log
	return n.lbd.Start()
}

func (n *node) socket() string { return filepath.Join(n.dir, "lbd.sock") }

func (n *node) pins() string { return filepath.Join(pinRoot, prefix+n.name) }

func (c *cluster) config(local *node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster:\n  name: demo\n  seed: %064x\n  node: %s\n  nodes:\n", 1, local.name)
	for i, n := range c.nodes {
		fmt.Fprintf(&b, "    - {name: %s, addresses: [192.0.2.%d, '2001:db8::%d']}\n", n.name, 11+i, 11+i)
	}
	fmt.Fprintf(&b, "interface: eth0\nattach: %s\nvips: [{address: %s}, {address: '%s'}]\n", c.opts.Attach, vips[0], vips[1])
	fmt.Fprintf(&b, "services:\n  - {name: web, vips: [%s, '%s'], ports: [%d, %d]}\n", vips[0], vips[1], echoPort, webPort)
	return b.String()
}

// ready waits until a node's lbd has applied its configuration.
func (c *cluster) ready(ctx context.Context, n *node) error {
	deadline := time.Now().Add(readyTime)
	for {
		problem := "it does not answer"
		if client, err := control.Dial(n.socket()); err == nil {
			status, err := client.Status(ctx)
			switch {
			case err != nil:
				problem = err.Error()
			case status.Generation > 0:
				return nil
			default:
				problem = strings.Join(status.Problems, "; ")
			}
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(n.dir, "lbd.log"))
			return fmt.Errorf("lbd is not ready after %s: %s\n%s", readyTime, problem, log)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// serve starts a web server that tells the node's name, and an echo server for connections that are
// held.
func (n *node) serve(ctx context.Context) error {
	web, err := n.host.Listen(ctx, "tcp", fmt.Sprintf(":%d", webPort))
	if err != nil {
		return err
	}
	n.web = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, n.name)
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = n.web.Serve(web) }() // ends with stop
	if n.echo, err = n.host.Listen(ctx, "tcp", fmt.Sprintf(":%d", echoPort)); err != nil {
		return err
	}
	go n.echoes()
	return nil
}

func (n *node) echoes() {
	for {
		conn, err := n.echo.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 512)
			for {
				size, err := conn.Read(buffer)
				if err != nil {
					return
				}
				if _, err := conn.Write(buffer[:size]); err != nil {
					return
				}
			}
		}()
	}
}

// end stops a node's lbd by a signal and waits for it.
func (n *node) end(signal syscall.Signal) error {
	if err := n.lbd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = n.lbd.Wait() // how it ended is what the signal says
	return nil
}

// stop ends what runs in this process or was started by it; sweep removes the rest.
func (c *cluster) stop() {
	for _, n := range c.nodes {
		if n.web != nil {
			n.web.Close()
		}
		if n.echo != nil {
			n.echo.Close()
		}
		if n.lbd != nil && n.lbd.Process != nil {
			_ = n.end(syscall.SIGKILL)
		}
	}
}
