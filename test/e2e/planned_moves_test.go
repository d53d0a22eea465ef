package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// unhurried nodes go on when the machine that runs all of them, the clients and perhaps more has no time
// for one of them. What is planned takes no longer for that.
var unhurried = []string{"heartbeat: 100ms", "dead-after: 3s"}

// underLoad does something to a cluster and returns what the client of the standard load went through.
func underLoad(t *testing.T, opts options, do func(c *cluster)) report {
	t.Helper()
	opts.tuning = unhurried
	c := newMembers(t, opts)
	load := c.startStandardLoad(t)
	time.Sleep(time.Second / 2)
	do(c)
	time.Sleep(time.Second / 2)
	return load.stop(t)
}

var (
	three = []int{100, 100, 100}
	four  = []int{100, 100, 100, 100}
)

func TestANodeThatJoinsBreaksNothing(t *testing.T) {
	underLoad(t, options{weights: four, later: 1}, func(c *cluster) {
		n := c.called("n4")
		n.start()
		c.awaitMember(t, "n4", "active")
		c.wantShare(t, "n4", func(share float64) bool { return share > 0.2 && share < 0.3 })
		t.Logf("settled after another %s", c.agree(t))
	}).wantUnharmed(t)
}

func TestADrainAndItsEndBreakNothing(t *testing.T) {
	r := underLoad(t, options{weights: three}, func(c *cluster) {
		t.Logf("drained in %s", c.drain(t, c.nodes[0], "n2"))
		if status, err := c.nodes[0].lbctlStatus(t); err != nil || memberOf(status, "n2").Connections == 0 {
			t.Errorf("n2 has no connections left: %s, %v", members(status), err)
		}
		time.Sleep(2 * time.Second) // lines on the connections that n2 still has
		t.Logf("undrained in %s", c.undrain(t, c.nodes[2], "n2"))
	})
	r.wantUnharmed(t)
}

func TestWeightsThatChangeBreakNothing(t *testing.T) {
	underLoad(t, options{weights: three}, func(c *cluster) {
		for i := range 20 {
			n := c.nodes[i%3]
			weight := 20 + 73*i%200
			c.nodes[(i+1)%3].admin(fmt.Sprintf("weight %s %d", n.name, weight))
			if i%4 == 3 {
				c.agree(t)
			} else {
				time.Sleep(200 * time.Millisecond) // one on top of the other
			}
		}
		for _, n := range c.nodes {
			n.admin("weight " + n.name + " config")
		}
		for _, n := range c.nodes {
			c.wantShare(t, n.name, func(share float64) bool { return share > 0.3 && share < 0.36 })
		}
		c.agree(t)
	}).wantUnharmed(t)
}

func TestTwoNodesThatDrainAtOnceBreakNothing(t *testing.T) {
	underLoad(t, options{weights: four}, func(c *cluster) {
		names := []string{"n2", "n3"}
		atOnce := func(verb string) {
			var wg sync.WaitGroup
			for i, name := range names {
				wg.Go(func() { c.nodes[3*i].admin(verb + " " + name) })
			}
			wg.Wait()
		}
		atOnce("drain --detach")
		for _, name := range names {
			c.awaitMember(t, name, "draining")
			c.wantShare(t, name, func(share float64) bool { return share == 0 })
		}
		c.agree(t)
		time.Sleep(time.Second)
		atOnce("undrain")
		for _, name := range names {
			c.awaitMember(t, name, "active")
			c.wantShare(t, name, func(share float64) bool { return share > 0.2 })
		}
		c.agree(t)
	}).wantUnharmed(t)
}

// An upgrade of a whole cluster as the manual has it: drain, restart, undrain, node by node.
func TestARollingDrainAndRestartBreaksNothing(t *testing.T) {
	underLoad(t, options{weights: three}, func(c *cluster) {
		for i, n := range c.nodes {
			asked := c.nodes[(i+1)%3]
			c.drain(t, asked, n.name)
			n.upgrade()
			c.agree(t)
			if status, err := asked.lbctlStatus(t); err != nil || memberOf(status, n.name).State != "draining" {
				t.Errorf("%s forgot that it drains: %s, %v", n.name, members(status), err)
			}
			c.undrain(t, asked, n.name)
		}
	}).wantUnharmed(t)
}
