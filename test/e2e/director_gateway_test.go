package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	membership "github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

const gateway = "10.0.0.1"

// newGateway is what deploy/examples/nat.yaml describes: two nodes with one leg at the client's link and
// one at that of the backends, who have no other way than by a VIP of theirs. Backends say who they are
// and whom they see, and then repeat what they hear.
func newGateway(t *testing.T) *cluster {
	t.Helper()
	opts := options{members: true, attach: "native", weights: []int{100, 100}}
	opts.vips = fmt.Sprintf("\n  - {address: %s, announce: failover, prefer: [n1, n2]}\n"+
		"  - {address: %s, interface: eth1, announce: failover, prefer: [n1, n2]}\n", vip4, gateway)
	opts.services = fmt.Sprintf("\n  - name: app\n    vips: %s\n    ports: 80\n    forward: nat\n"+
		"    backends: [{name: b1, address: 10.0.0.21, port: 8080}, {name: b2, address: 10.0.0.22, port: 8080}]\n"+
		"    checks: [{type: tcp, interval: 200ms, timeout: 190ms}]\n", vip4)
	c := newMachines(t, opts)
	back, err := c.lab.Switch("back", netlab.SwitchOptions{})
	check(t, err)
	key := membership.GenerateKey()
	for i, n := range c.nodes {
		check(t, c.lab.Connect(n.host, "eth1", back, netlab.LinkOptions{SwitchXDP: true}))
		check(t, n.host.Addr("eth1", netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", 11+i))))
		check(t, n.host.Forward())
		check(t, membership.WriteKeys(n.path("cluster.key"), []membership.Key{key}))
		c.writeConfig(n, opts)
		t.Cleanup(n.remove)
	}
	for i := range 2 {
		b := nettest.Host(t, c.lab, fmt.Sprintf("b%d", 1+i))
		check(t, c.lab.Connect(b, "eth0", back, netlab.LinkOptions{}))
		check(t, b.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", 21+i))))
		check(t, b.Route(netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr(gateway)))
		listener, err := b.Listen(t.Context(), "tcp", ":8080")
		check(t, err)
		t.Cleanup(func() { listener.Close() })
		go repeat(listener, fmt.Sprintf("b%d", 1+i))
	}
	for _, n := range c.nodes {
		n.launch()
	}
	for _, n := range c.nodes {
		n.await()
	}
	c.agree(t)
	c.seen(t, c.nodes, "b1 up", "b2 up")
	return c
}

func repeat(listener net.Listener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			fmt.Fprintf(conn, "%s sees %s\n", name, conn.RemoteAddr())
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				fmt.Fprintln(conn, lines.Text())
			}
		}()
	}
}

// A gatewayCall is a connection of the client to the VIP.
type gatewayCall struct {
	conn  net.Conn
	lines *bufio.Reader
	hello string // of the backend
}

func (c *cluster) callApp(t *testing.T) gatewayCall {
	t.Helper()
	conn, err := c.client.Dial(t.Context(), "tcp", netip.AddrPortFrom(vip4, 80).String())
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	call := gatewayCall{conn: conn, lines: bufio.NewReader(conn)}
	call.hello, err = call.lines.ReadString('\n')
	check(t, err)
	return call
}

// say wants to hear the same.
func (g gatewayCall) say(t *testing.T, what string) {
	t.Helper()
	if err := g.ask(what); err != nil {
		t.Error(err)
	}
}

// replies is how many packets of backends a node has sent on to clients. The first may be held until the
// node knows where the client is.
func (n *node) replies(t *testing.T) uint64 {
	t.Helper()
	return n.counted(t, "replied") + n.counted(t, "reply-redirected") + n.counted(t, "reply-held")
}

// No node knows anything of a flow, so any of them can go on with it: also when the way there and the
// way back are at different ones.
func TestConnectionsBehindNATOutliveTheirGateway(t *testing.T) {
	c := newGateway(t)
	var calls []gatewayCall
	served := make(map[string]int)
	for range 20 {
		call := c.callApp(t)
		name, from, _ := strings.Cut(strings.TrimSpace(call.hello), " sees ")
		if from != call.conn.LocalAddr().String() {
			t.Errorf("%s sees %s, want the client's own address %s", name, from, call.conn.LocalAddr())
		}
		served[name]++
		calls = append(calls, call)
	}
	if len(served) != 2 {
		t.Errorf("20 connections: %v, want some at each backend", served)
	}
	say := func(when string) {
		t.Helper()
		for _, call := range calls {
			call.say(t, when)
		}
	}
	say("both at n1")
	c.nodes[0].lbctl(t, "vips move "+gateway+" n2").want(t, exitOK)
	before := c.nodes[1].replies(t)
	say("to the backends by n1, back by n2")
	if replies := c.nodes[1].replies(t) - before; replies < uint64(len(calls)) {
		t.Errorf("n2 sent %d packets back to clients, want one of each of %d connections", replies, len(calls))
	}
	c.nodes[0].stop(syscall.SIGKILL)
	check(t, c.sw.Host.Down(c.nodes[0].port()))
	start := time.Now()
	say("both at n2")
	t.Logf("all went on %s after their node died", time.Since(start).Round(time.Millisecond))
	c.callApp(t).say(t, "a new one")
}
