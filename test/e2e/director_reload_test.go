package e2e

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// sharesAt is the part of the slots that each backend has on a node, in steps of a thousandth.
func sharesAt(t *testing.T, n *node) map[string]float64 {
	t.Helper()
	status, err := n.status()
	check(t, err)
	shares := make(map[string]float64)
	for _, b := range status.Backends {
		shares[b.Name] = math.Round(1000*b.Share) / 1000
	}
	return shares
}

// near says whether shares are as wanted, within two percent of all.
func near(got, want map[string]float64) bool {
	for name, share := range want {
		if math.Abs(got[name]-share) > 0.02 {
			return false
		}
	}
	return len(got) == len(want)
}

func TestADiffForetellsWhatAReloadMoves(t *testing.T) {
	c, _ := newCheckedLab(t, checkedServices)
	n := c.nodes[0]
	c.seen(t, c.nodes, "b1 up", "b2 up")
	if got := sharesAt(t, n); !near(got, map[string]float64{"b1": 0.5, "b2": 0.5}) {
		t.Errorf("shares at the start: %v", got)
	}
	n.rewrite("address: 192.0.2.22}", "address: 192.0.2.22, weight: 50}")
	file := n.path("lb.yaml")
	n.lbctl(t, "config diff "+file).want(t, exitOK, "~ services[web].backends[b2].weight: 100 -> 50", "service web: ", " of new flows would go to another backend")
	diff := parse[control.ConfigDiff](t, n.lbctl(t, "config diff -o json "+file))
	if len(diff.Moves) != 1 || math.Abs(diff.Moves[0].Share-1.0/6) > 0.02 {
		t.Errorf("the diff foretells %+v, want a sixth", diff.Moves)
	}
	if got := sharesAt(t, n); !near(got, map[string]float64{"b1": 0.5, "b2": 0.5}) {
		t.Errorf("a diff changed the shares: %v", got)
	}
	n.lbctl(t, "config reload").want(t, exitOK, "~ services[web].backends[b2].weight: 100 -> 50")
	if got := sharesAt(t, n); !near(got, map[string]float64{"b1": 2.0 / 3, "b2": 1.0 / 3}) {
		t.Errorf("shares after the reload: %v", got)
	}
	c.agree(t) // the other node has the old weights, and they serve together
	n.rewrite("backends: [", "backends: [{name: b3, address: 192.0.2.80}, ")
	n.lbctl(t, "config reload").want(t, exitConfig, "services[0].backends[0].address: 192.0.2.80 is a VIP")
	if got := sharesAt(t, n); !near(got, map[string]float64{"b1": 2.0 / 3, "b2": 1.0 / 3}) {
		t.Errorf("shares after a file that is invalid: %v", got)
	}
}

func TestBackupsHelpAndSomebodySaysSorry(t *testing.T) {
	services := strings.Replace(checkedServices, "{name: b2, address: 192.0.2.22}", "{name: b2, address: 192.0.2.22, backup: true}", 1)
	c, _ := newCheckedLab(t, strings.Replace(services, "    agree:", "    sorry: {name: sorry, address: 192.0.2.30}\n    agree:", 1))
	sorry := nettest.Host(t, c.lab, "sorry")
	check(t, c.lab.Connect(sorry, "eth0", c.sw, netlab.LinkOptions{}))
	check(t, sorry.Addr("eth0", netip.MustParsePrefix("192.0.2.30/24")))
	c.seen(t, c.nodes, "b1 up", "b2 standby: the others are up", "sorry standby: the others are up")
	want := func(when string, want map[string]float64) {
		t.Helper()
		for _, n := range c.nodes {
			if got := sharesAt(t, n); !near(got, want) {
				t.Errorf("%s: %s has %v, want %v", when, n.name, got, want)
			}
		}
	}
	want("all are up", map[string]float64{"b1": 1, "b2": 0, "sorry": 0})
	c.everywhere("    agree:", "    min-backends: 2\n    agree:")
	c.seen(t, c.nodes, "b1 up", "b2 up", "sorry standby: the others are up")
	want("two must be up", map[string]float64{"b1": 0.5, "b2": 0.5, "sorry": 0})
	c.everywhere("    min-backends: 2\n", "")
	check(t, c.sw.Host.Down("b1-eth0"))
	c.seen(t, c.nodes, "b1 down: check tcp is down: connect: timeout", "b2 up", "sorry standby: the others are up")
	want("the first is down", map[string]float64{"b1": 0, "b2": 1, "sorry": 0})
	check(t, c.sw.Host.Down("b2-eth0"))
	c.seen(t, c.nodes, "b1 down: check tcp is down: connect: timeout", "b2 down: check tcp is down: connect: timeout", "sorry up")
	want("both are down", map[string]float64{"b1": 0, "b2": 0, "sorry": 1})
	check(t, c.sw.Host.Up("b2-eth0"))
	c.seen(t, c.nodes, "b1 down: check tcp is down: connect: timeout", "b2 up", "sorry standby: the others are up")
	want("one is back", map[string]float64{"b1": 0, "b2": 1, "sorry": 0})
}
