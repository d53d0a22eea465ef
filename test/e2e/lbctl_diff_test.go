package e2e

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
)

// Without membership, buckets go to other nodes at once, and what they had breaks: as many connections as
// each node said beforehand and when it did it, and no other.
func TestADiffForetellsWhichConnectionsBreak(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100}})
	for _, n := range c.nodes {
		listener, err := n.host.Listen(t.Context(), "tcp", netip.AddrPortFrom(vip4, port).String())
		check(t, err)
		t.Cleanup(func() { listener.Close() })
		go repeat(listener, n.name)
	}
	var calls []gatewayCall
	for range 200 {
		conn, err := c.client.Dial(t.Context(), "tcp", netip.AddrPortFrom(vip4, port).String())
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		check(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		call := gatewayCall{conn: conn, lines: bufio.NewReader(conn)}
		call.hello, err = call.lines.ReadString('\n')
		check(t, err)
		calls = append(calls, call)
	}
	const equal, less = "weight: 100}\n    - {name: n2", "weight: 50}\n    - {name: n2"
	known, moved := 0, 0
	for _, n := range c.nodes {
		text, err := os.ReadFile(n.path("lb.yaml"))
		check(t, err)
		check(t, os.WriteFile(n.path("new.yaml"), []byte(strings.Replace(string(text), equal, less, 1)), 0o600))
		diff := parse[control.ConfigDiff](t, n.lbctl(t, "config diff "+n.path("new.yaml")+" -o json"))
		if !diff.Alike || diff.Refused != "" {
			t.Errorf("%s: %+v, want a file that all nodes need and lbd takes", n.name, diff)
		}
		for _, m := range diff.Flows {
			t.Logf("%s: %+v", n.name, m)
			known, moved = known+m.Known, moved+m.Moved
		}
	}
	broken, reported := 0, 0
	for _, n := range c.nodes {
		n.rewrite(equal, less)
		for _, m := range parse[control.ReloadResult](t, n.lbctl(t, "config reload -o json")).Flows {
			reported += m.Moved
		}
	}
	for _, call := range calls {
		if err := call.ask("still there?"); err != nil {
			broken++
		}
	}
	// n2 loses none, and has nothing to say
	if broken != moved || reported != moved || moved < 10 || known < moved {
		t.Errorf("%d of %d connections broke, %d of %d were foretold, and the reload reported %d", broken, len(calls), moved, known, reported)
	}
}

// ask wants to hear the same.
func (g gatewayCall) ask(what string) error {
	if _, err := fmt.Fprintln(g.conn, what); err != nil {
		return err
	}
	heard, err := g.lines.ReadString('\n')
	if err == nil && heard != what+"\n" {
		err = fmt.Errorf("said %q, heard %q", what, heard)
	}
	return err
}
