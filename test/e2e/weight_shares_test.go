package e2e

import (
	"math"
	"net/netip"
	"testing"
)

// A node gets flows in proportion to its weight, one of weight 0 gets nothing at all.
func TestSharesFollowTheWeights(t *testing.T) {
	const total = 3000
	c := newCluster(t, options{attach: "native", weights: []int{100, 50, 0}})
	for _, n := range c.nodes {
		n.serve()
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		answers := c.connections(t, vip, 20000, total)
		for _, n := range c.nodes {
			want, got := 100*float64(n.weight)/150, 100*float64(answers[n.name])/total
			if math.Abs(got-want) > 3 {
				t.Errorf("%s of %s: %.1f %% of the connections, want %.1f %%", n.name, vip, got, want)
			}
		}
		for i := range 20 {
			c.ping(t, vip, i, 56)
		}
		t.Logf("%s: %v", vip, answers)
	}
	idle := c.nodes[2]
	for _, reason := range []string{"accepted", "echo-accepted", "unnamed-accepted", "arp-answered", "nd-answered"} {
		if got := idle.counted(t, reason); got != 0 {
			t.Errorf("%s has weight 0 and counted %d frames as %s", idle.name, got, reason)
		}
	}
	if idle.counted(t, "not-owner") < 2*total || idle.counted(t, "arp-not-owner") == 0 || idle.counted(t, "nd-not-owner") == 0 {
		t.Errorf("%s did not see what the others took", idle.name)
	}
}
