package ownership

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// wish tells what a node wants of a domain that it may have as a whole.
func (c *quietCluster) wish(name string, weight int, w Whole) {
	w.Is = true
	c.tell(name, Weights{map[string]Weight{"": {Weight: weight, Healthy: true, MinNodes: 1, Whole: w}}})
}

// holder is who has the domain: exactly one node, and all of it.
func (c *quietCluster) holder() string {
	c.t.Helper()
	shares := c.shares()
	if len(shares) != 1 {
		c.t.Errorf("the domain is spread: %v", shares)
	}
	return slices.Collect(maps.Keys(shares))[0]
}

func (c *quietCluster) wantHolder(when, want string) {
	c.t.Helper()
	if got := c.holder(); got != want {
		c.t.Errorf("%s: %s has the domain, want %s", when, got, want)
	}
}

func TestTheHighestPriorityHasAWholeDomainAndGetsItBack(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	for name, priority := range map[string]int{"a": 1, "b": 3, "c": 2} {
		c.wish(name, 100, Whole{Priority: priority})
	}
	c.run(300 * time.Millisecond)
	c.wantHolder("at first", "b")
	c.stopped["b"] = true
	c.run(450 * time.Millisecond)
	c.wantHolder("after b died", "c")
	c.stopped["b"] = false
	c.run(1500 * time.Millisecond)
	c.wantHolder("after b came back", "b")
	c.wish("b", 0, Whole{Priority: 3})
	c.run(100 * time.Millisecond)
	c.wantHolder("after b was drained", "c")
}

func TestWhoHasAWholeDomainKeepsItWhereItIsToStay(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	for name, priority := range map[string]int{"a": 1, "b": 3, "c": 2} {
		c.wish(name, 100, Whole{Priority: priority, Stay: true})
	}
	c.run(300 * time.Millisecond)
	c.wantHolder("at first", "b")
	c.stopped["b"] = true
	c.run(600 * time.Millisecond)
	c.wantHolder("after b died", "c")
	c.stopped["b"] = false
	c.run(1500 * time.Millisecond)
	c.wantHolder("after b came back", "c")
	c.wish("c", 0, Whole{Priority: 2, Stay: true})
	c.run(200 * time.Millisecond)
	c.wantHolder("after c was drained", "b")
	c.wish("c", 100, Whole{Priority: 9, Stay: true})
	c.run(200 * time.Millisecond)
	c.wantHolder("after c was undrained", "b")
}

func TestADecisionGoesBeforePriorities(t *testing.T) {
	for _, stay := range []bool{false, true} {
		c := newQuietCluster(t, "a", "b", "c")
		decide := func(choice Choice) {
			for name, priority := range map[string]int{"a": 1, "b": 3, "c": 2} {
				c.wish(name, 100, Whole{Priority: priority, Stay: stay, Choice: choice})
			}
			c.run(200 * time.Millisecond)
		}
		decide(Choice{})
		c.wantHolder("at first", "b")
		decide(Choice{100, "a"})
		c.wantHolder("after a was chosen", "a")
		c.stopped["a"] = true
		c.run(600 * time.Millisecond)
		c.wantHolder("after a died", "b")
		c.stopped["a"] = false
		c.run(1500 * time.Millisecond)
		if want := map[bool]string{false: "a", true: "b"}[stay]; c.holder() != want {
			t.Errorf("stay %v: after a came back %s has the domain, want %s", stay, c.holder(), want)
		}
		decide(Choice{200, "c"})
		c.wantHolder("after c was chosen", "c")
		decide(Choice{300, ""})
		c.wantHolder("after that was taken back", "b")
		if t.Failed() {
			c.dump()
		}
	}
}

func TestWholeDomainsOfEqualNodesAreSpreadByTheirNames(t *testing.T) {
	m := settledMachine(t, 3)
	domains := make(map[string]Weight)
	for _, name := range []string{"vip 192.0.2.1", "vip 192.0.2.2", "vip 192.0.2.3", "vip 192.0.2.4", "vip 192.0.2.5", "vip 192.0.2.6"} {
		domains[name] = Weight{Weight: 100, Healthy: true, MinNodes: 1, Whole: Whole{Is: true}}
	}
	for _, r := range m.Known {
		r.Weights = domains
	}
	m.planned = false
	for name := range domains {
		m.domain(name)
	}
	m.replan()
	owners := make(map[string]int)
	for name := range domains {
		p := m.Tokens[name].plan
		owners[p.name(p.owners[0])]++
	}
	if len(owners) != 3 {
		t.Errorf("six domains have these owners: %v", owners)
	}
}
