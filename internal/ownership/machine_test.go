package ownership

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// A quiet cluster: nothing is lost, everything arrives a millisecond later, everybody hears everybody
// who is not stopped.
type quietCluster struct {
	t        *testing.T
	now      time.Duration
	nodes    map[string]*Machine
	stopped  map[string]bool
	cut      map[string]bool // from the others
	mail     []quietMail
	heard    map[[2]string]time.Duration // the first by the second, the last time
	happened []string
	hasty    bool // what was sent last arrives first
}

type quietMail struct {
	from, to string
	message  Message
}

func newQuietCluster(t *testing.T, names ...string) *quietCluster {
	c := &quietCluster{t: t, now: time.Second, nodes: make(map[string]*Machine), stopped: make(map[string]bool), heard: make(map[[2]string]time.Duration)}
	for i, name := range names {
		c.add(name, uint64(i+1), names)
	}
	return c
}

func (c *quietCluster) add(name string, life uint64, expected []string) {
	cfg := DefaultConfig(name)
	cfg.Buckets, cfg.Expected = 64, expected
	m, err := New(cfg, life, c.now)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[name] = m
	c.tell(name, Weights{map[string]Weight{"": {Weight: 1, Healthy: true, MinNodes: 1}}})
	c.tell(name, Ready{})
}

func (c *quietCluster) tell(name string, e Event) {
	a := c.nodes[name].Handle(c.now, e)
	for _, s := range a.Send {
		c.mail = append(c.mail, quietMail{name, s.To, s.Message})
	}
	for _, h := range a.Events {
		c.happened = append(c.happened, fmt.Sprintf("%v %s: %v %s %d %s %v", c.now, name, h.Kind, h.Node, h.Buckets, h.Reason, h.Took))
	}
}

// run lets time pass, in milliseconds.
func (c *quietCluster) run(d time.Duration) {
	for end := c.now + d; c.now < end; c.now += time.Millisecond {
		mail := c.mail
		c.mail = nil
		if c.hasty {
			slices.Reverse(mail)
		}
		for _, m := range mail {
			if c.nodes[m.to] != nil && !c.stopped[m.to] && !c.stopped[m.from] && c.cut[m.to] == c.cut[m.from] {
				c.tell(m.to, Received{m.from, m.message})
			}
		}
		if c.now%(20*time.Millisecond) == 0 {
			for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
				if !c.stopped[name] {
					c.beat(name)
					c.tell(name, Tick{})
				}
			}
		}
	}
}

func (c *quietCluster) beat(name string) {
	for _, peer := range slices.Sorted(maps.Keys(c.nodes)) {
		if peer == name {
			continue
		}
		reached := !c.stopped[peer] && c.cut[peer] == c.cut[name]
		if reached && c.nodes[peer].Confirms(name, c.nodes[name].Life) {
			c.tell(name, HeardBy{peer, true, c.now})
		}
		if reached {
			c.heard[[2]string{name, peer}] = c.now
		}
		c.tell(name, Silent{peer, c.now-c.heard[[2]string{name, peer}] > 400*time.Millisecond})
	}
}

// shares returns how many buckets each node accepts, and complains of those that not exactly one does.
func (c *quietCluster) shares() map[string]int {
	c.t.Helper()
	shares := make(map[string]int)
	for b := range 64 {
		n := 0
		for name, m := range c.nodes {
			if !c.stopped[name] && m.Table("").Verbs[b] == Accept {
				shares[name]++
				n++
			}
		}
		if n != 1 {
			c.t.Errorf("%d nodes accept bucket %d", n, b)
		}
	}
	return shares
}

func (c *quietCluster) dump() {
	for _, h := range c.happened {
		c.t.Log(h)
	}
}

func TestANodeAloneHasEverythingForever(t *testing.T) {
	c := newQuietCluster(t, "a")
	defer c.dump()
	c.run(100 * time.Millisecond)
	if got := c.shares()["a"]; got != 64 {
		t.Errorf("has %d of 64 buckets", got)
	}
	if lease := c.nodes["a"].Status(c.now).Lease; lease != Forever {
		t.Errorf("lease until %v", lease)
	}
}

func TestNodesShareHandOverAndTakeOver(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	c.run(300 * time.Millisecond)
	if shares := c.shares(); len(shares) != 3 {
		t.Errorf("after the start: %v", shares)
	}
	c.tell("b", Weights{map[string]Weight{"": {Healthy: true, MinNodes: 1}}})
	c.run(100 * time.Millisecond)
	if shares := c.shares(); shares["b"] != 0 || len(shares) != 2 {
		t.Errorf("after b was drained: %v", shares)
	}
	c.tell("b", Weights{map[string]Weight{"": {Weight: 1, Healthy: true, MinNodes: 1}}})
	c.run(100 * time.Millisecond)
	if shares := c.shares(); len(shares) != 3 {
		t.Errorf("after b was undrained: %v", shares)
	}
	c.stopped["c"] = true
	c.run(600 * time.Millisecond)
	if shares := c.shares(); len(shares) != 2 {
		t.Errorf("after c died: %v", shares)
	}
	c.stopped["c"] = false
	c.run(1500 * time.Millisecond)
	if shares := c.shares(); len(shares) != 3 {
		t.Errorf("after c came back: %v", shares)
	}
	c.tell("a", Leave{})
	c.run(200 * time.Millisecond)
	c.stopped["a"] = true
	if shares := c.shares(); len(shares) != 2 {
		t.Errorf("after a left: %v", shares)
	}
}

func TestNodesThatAreReconfiguredAgreeAgain(t *testing.T) {
	c := newQuietCluster(t, "a", "b")
	defer c.dump()
	c.run(300 * time.Millisecond)
	reconfigure := func(name string) {
		c.tell(name, Reconfigured{Expected: []string{"a", "b"}, Fingerprint: 2})
	}
	conflicts := func() (all []string) {
		for name, m := range c.nodes {
			for _, other := range m.Status(c.now).Conflicts {
				all = append(all, name+" with "+other)
			}
		}
		return all
	}
	reconfigure("a")
	c.run(time.Second)
	if got := conflicts(); len(got) == 0 {
		t.Error("nobody sees that configurations differ")
	}
	reconfigure("b")
	c.run(time.Second)
	if got := conflicts(); len(got) != 0 {
		t.Errorf("both have the same configuration again: %v", got)
	}
	if shares := c.shares(); len(shares) != 2 {
		t.Errorf("then: %v", shares)
	}
}

func TestARestartWithLeaveChangesNoOwner(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	c.run(300 * time.Millisecond)
	before := c.shares()
	c.tell("b", Absence{For: 5 * time.Second})
	c.run(5 * time.Millisecond)
	snapshot := c.nodes["b"].Snapshot()
	c.stopped["b"] = true
	c.run(2 * time.Second)
	restored, err := Restore(c.nodes["b"].cfg, snapshot, c.now)
	if err != nil {
		t.Fatal(err)
	}
	c.nodes["b"], c.stopped["b"] = restored, false
	c.tell("b", Weights{map[string]Weight{"": {Weight: 1, Healthy: true, MinNodes: 1}}})
	c.tell("b", Ready{})
	c.run(time.Second)
	if after := c.shares(); !maps.Equal(before, after) {
		t.Errorf("shares were %v, are %v", before, after)
	}
	if life := c.nodes["b"].Status(c.now).Life; life != 2 {
		t.Errorf("life %d", life)
	}
}

func TestDatagramsStayWhereTheirFlowsAre(t *testing.T) {
	c := newQuietCluster(t, "a", "b")
	defer c.dump()
	c.run(300 * time.Millisecond)
	own := c.nodes["b"].Table("").owned()
	c.tell("b", Weights{map[string]Weight{"": {Healthy: true, MinNodes: 1}}})
	c.run(100 * time.Millisecond)
	want := func(when string, noted, kept, away Set) {
		t.Helper()
		a, b := c.nodes["a"].Table(""), c.nodes["b"].Table("")
		if !b.UDPNoted.Equal(noted) || !b.UDPKept.Equal(kept) || !a.UDPAway.Equal(away) {
			t.Errorf("%s: b notes %v, keeps %v; a leaves %v to others", when, b.UDPNoted, b.UDPKept, a.UDPAway)
		}
	}
	want("after b gave its buckets up", own, nil, own)
	c.tell("b", Quiet{"", own})
	want("when flows may not have been noted yet", own, nil, own)
	c.run(30 * time.Second)
	want("when all that lives was noted", nil, own, own)
	some := SetOf(slices.Collect(own.All())[:3]...)
	c.tell("b", Quiet{"", some})
	c.run(10 * time.Millisecond)
	want("when some flows were over", nil, own.Without(some), own.Without(some))
	c.stopped["b"] = true
	c.run(600 * time.Millisecond)
	if away := c.nodes["a"].Table("").UDPAway; !away.Empty() {
		t.Errorf("a leaves %v to a dead node", away)
	}
}

// An owner that is restarted does not hear that a bucket's UDP is its own now.
func TestDatagramsStayWhereTheyAreWhileAnOwnerIsAway(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	c.run(300 * time.Millisecond)
	c.tell("b", Weights{map[string]Weight{"": {Healthy: true, MinNodes: 1}}})
	c.run(31 * time.Second)
	kept := c.nodes["b"].Table("").UDPKept
	c.tell("c", Absence{For: time.Second})
	c.run(10 * time.Millisecond)
	snapshot := c.nodes["c"].Snapshot()
	c.stopped["c"] = true
	c.tell("b", Quiet{"", kept})
	c.run(10 * time.Millisecond)
	if now := c.nodes["b"].Table("").UDPKept; kept.Empty() || !now.Equal(kept) {
		t.Errorf("while c is away b keeps %v of %v", now, kept)
	}
	back, err := Restore(c.nodes["c"].cfg, snapshot, c.now)
	if err != nil {
		t.Fatal(err)
	}
	c.nodes["c"], c.stopped["c"] = back, false
	c.tell("c", Weights{map[string]Weight{"": {Weight: 1, Healthy: true, MinNodes: 1}}})
	c.tell("c", Ready{})
	c.run(200 * time.Millisecond)
	c.tell("b", Quiet{"", kept})
	c.run(10 * time.Millisecond)
	for _, name := range []string{"a", "b", "c"} {
		if v := c.nodes[name].Table(""); !v.UDPKept.Empty() || !v.UDPAway.Empty() {
			t.Errorf("when c is back %s keeps %v and leaves %v to others", name, v.UDPKept, v.UDPAway)
		}
	}
}

// At any time one node decides about the UDP of a bucket, be it that it comes back to who keeps its flows
// or that it goes on to a third.
func TestOneNodeDecidesAboutDatagramsWhileBucketsMove(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	c.run(300 * time.Millisecond)
	for i, weights := range []map[string]int{{"b": 0}, {"b": 1}, {"a": 0}, {"a": 1, "c": 0}, {"c": 1}, {"b": 0}, {"b": 1}} {
		c.hasty = i >= 5
		before := c.deciders()
		for name, w := range weights {
			c.tell(name, Weights{map[string]Weight{"": {Weight: w, Healthy: true, MinNodes: 1}}})
		}
		for range 100 {
			c.run(time.Millisecond)
			if after := c.deciders(); !slices.Equal(before, after) {
				t.Fatalf("weights %v: who decides was %v, is %v", weights, before, after)
			}
		}
	}
}

// deciders names for each bucket the nodes that take its UDP when it is sent to all.
func (c *quietCluster) deciders() []string {
	who := make([]string, 64)
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		v := c.nodes[name].Table("")
		for b, verb := range v.Verbs {
			if v.UDPNoted.Has(b) || v.UDPKept.Has(b) || verb == Accept && !v.UDPAway.Has(b) {
				who[b] += name
			}
		}
	}
	return who
}

func (v View) owned() Set {
	var s Set
	for b, verb := range v.Verbs {
		if verb == Accept {
			s.Add(b)
		}
	}
	return s
}

func TestOneSideOfACutGoesOnUndisturbed(t *testing.T) {
	c := newQuietCluster(t, "a", "b", "c")
	defer c.dump()
	c.run(300 * time.Millisecond)
	c.cut = map[string]bool{"c": true}
	c.run(800 * time.Millisecond)
	c.cut = nil
	c.run(1200 * time.Millisecond)
	if shares := c.shares(); len(shares) != 3 {
		t.Errorf("after the cut: %v", shares)
	}
	for name, same := range map[string]bool{"a": true, "b": true, "c": false} {
		if life := c.nodes[name].Status(c.now).Life; (life <= 3) != same {
			t.Errorf("%s is in life %d", name, life)
		}
	}
}

// The witness answers whom it could not see before any frame of those comes through who went on.
func TestWhoIsBackInSightTakesNothingBeforeItListened(t *testing.T) {
	for _, broken := range []rule{ruleNone, ruleBackInSight} {
		c := newQuietCluster(t, "a", "b", "c")
		for name, m := range c.nodes {
			m.broken, m.cfg.Policy = broken, PolicyWitness
			c.tell(name, Witness{true})
		}
		c.run(time.Second)
		c.cut = map[string]bool{"c": true}
		c.tell("c", Witness{false})
		c.run(800 * time.Millisecond)
		c.tell("c", Witness{true})
		took := 0
		for range 100 {
			c.run(time.Millisecond)
			took = max(took, c.nodes["c"].Table("").owned().Len())
		}
		if safe := broken == ruleNone; (took == 0) != safe {
			t.Errorf("rule %d broken: c took %d buckets that a and b have", broken, took)
		}
		if broken != ruleNone {
			continue
		}
		c.cut = nil
		c.run(1200 * time.Millisecond)
		if shares := c.shares(); len(shares) != 3 {
			t.Errorf("after the cut: %v", shares)
		}
		// and who stays alone with the witness takes all
		c.stopped["a"], c.stopped["b"] = true, true
		c.run(800 * time.Millisecond)
		if shares := c.shares(); shares["c"] != 64 {
			t.Errorf("after the death of the others: %v", shares)
		}
	}
}

// A hand-over sends flows on to a node that cannot answer any more; it says so before it counted them.
func TestALostLifeMayHaveFlowsEverywhere(t *testing.T) {
	m := settledMachine(t, 3)
	m.Handle(m.now, Lapsed{})
	if left := m.everything().Without(m.Table("").MaybeLocal); !left.Empty() {
		t.Errorf("a new life says that it has no flows in %d buckets, which nobody counted", left.Len())
	}
}

func TestWhoIsAloneDoesNotGoOnWithoutAWitness(t *testing.T) {
	c := newQuietCluster(t)
	c.add("a", 1, nil)
	c.nodes["a"].cfg.Policy = PolicyWitness
	for _, answers := range []bool{true, false, true} {
		c.tell("a", Witness{answers})
		c.run(time.Second)
		if a := c.nodes["a"]; a.leased() != answers {
			t.Errorf("a witness answers: %t, and the lease ends at %v, now %v", answers, a.Until, c.now)
		}
	}
}

// The heartbeats of b reach a, and its gossip does not: b may have everything.
func TestNobodyFoundsAClusterBesideAStranger(t *testing.T) {
	for _, broken := range []rule{ruleNone, ruleStranger} {
		c := newQuietCluster(t)
		c.add("a", 1, []string{"a", "b"})
		a := c.nodes["a"]
		a.broken = broken
		beat := func(silent bool) (owned int) {
			for end := c.now + a.cfg.BootTimeout + time.Second; c.now < end; c.run(20 * time.Millisecond) {
				c.tell("a", Silent{"b", silent})
				if !silent {
					c.tell("a", HeardBy{"b", true, c.now})
				}
			}
			return a.Table("").owned().Len()
		}
		if owned, safe := beat(false), broken == ruleNone; (owned == 0) != safe {
			t.Errorf("rule %d broken: a has %d buckets while b is heard", broken, owned)
		}
		if owned := beat(true); owned != 64 {
			t.Errorf("rule %d broken: a has %d buckets when b is gone", broken, owned)
		}
	}
}

func TestWhatAnotherLifeSaidDoesNotCount(t *testing.T) {
	for _, broken := range []rule{ruleNone, ruleLives} {
		m := settledMachine(t, 3)
		m.broken = broken
		m.Handle(m.now, Weights{map[string]Weight{"": {Healthy: true, MinNodes: 1}}})
		for _, name := range m.others() {
			m.Handle(m.now, Received{name, State{Life: 1, Number: m.number(), Knowledge: m.fingerprint}})
		}
		out := m.Out["n01"]
		if out == nil {
			t.Fatal("nothing is offered")
		}
		m.Handle(m.now, Received{"n01", Refused{Life: 2, To: m.Life, Number: out.Number}})
		m.Handle(m.now, Received{"n01", Taken{Life: 1, To: m.Life + 1, Number: out.Number}})
		if kept := m.Out["n01"] == out; kept != (broken == ruleNone) {
			t.Errorf("rule %d broken: an offer still waits for its answer: %v", broken, kept)
		}
	}
}
