package e2e

import (
	"testing"
	"time"
)

// The load itself harms nothing; else what it finds elsewhere would mean nothing.
func TestTheStandardLoadOnAClusterAtRest(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 100}})
	load := c.startStandardLoad(t)
	time.Sleep(5 * time.Second)
	load.stop(t).wantUnharmed(t)
}

// Two nodes that follow different files answer a SYN both, or neither does; a server that dies breaks
// what it had. A load that did not notice would prove nothing.
func TestTheLoadNoticesWhatGoesWrong(t *testing.T) {
	const both, onlyFirst = "weight: 100}\n    - {name: n2", "weight: 0}\n    - {name: n2"
	for _, wrong := range []struct {
		name    string
		do      func(t *testing.T, c *cluster, load *standardLoad)
		noticed func(report) bool
	}{
		{"two answer", func(_ *testing.T, c *cluster, _ *standardLoad) {
			n := c.nodes[1]
			n.rewrite(both, onlyFirst) // n2 takes all by itself
			n.reload()
			time.Sleep(time.Second)
		}, func(r report) bool {
			return r.DuplicateSynAcks > 10 && r.DatagramsDoubled > 10 && r.Broken > 10 && r.Resets > 10
		}},
		{"nobody answers", func(_ *testing.T, c *cluster, _ *standardLoad) {
			n := c.nodes[0]
			n.rewrite(both, onlyFirst) // n1 leaves all to n2, which does not know
			n.reload()
			time.Sleep(1500 * time.Millisecond)
			n.rewrite(onlyFirst, both)
			n.reload()
		}, func(r report) bool {
			return r.SynRetransmits > 10 && r.StalledOver1s > 10 && r.DatagramsLost > 10 && r.DuplicateSynAcks == 0
		}},
		{"a server dies", func(_ *testing.T, _ *cluster, load *standardLoad) {
			load.servers["n2"].kill()
			time.Sleep(time.Second)
		}, func(r report) bool {
			return r.Broken > 10 && r.Resets > 10 && r.DatagramsLost > 10 && r.DuplicateSynAcks == 0
		}},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			t.Parallel() // it is a small one
			c := newCluster(t, options{attach: "native", weights: []int{100, 100}})
			load := c.startLoadOf(t, clientOptions{Held: 100, Every: 200 * time.Millisecond, Rate: 100, Flows: 50})
			wrong.do(t, c, load)
			if r := load.stop(t); !wrong.noticed(r) {
				t.Errorf("not noticed: %s\n%q", r, r.Notes)
			}
		})
	}
}
