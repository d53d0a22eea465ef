package ownership

import (
	"cmp"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/rendezvous"
)

// isWhole says of a domain whether one node has all of it.
func (w *world) isWhole(domain int) bool {
	return w.traits.whole && domain == len(w.traits.domains)-1
}

// choose changes which node is to have a domain as a whole: its priority, or what somebody decided,
// which the nodes learn one after the other.
func (w *world) choose(n *node, domain int) {
	if w.chance(0.4) {
		n.wish[domain].Whole.Priority = w.rand.IntN(3)
		w.note("%s wishes %+v", n.name, n.wish)
		if p := n.process; p != nil {
			p.soon(p.weigh)
		}
		return
	}
	w.choice = Choice{uint64(w.now) + 1, n.name}
	if w.chance(0.2) {
		w.choice.Node = ""
	}
	w.note("choice %+v", w.choice)
	for _, other := range w.nodes {
		w.after(w.about(w.between(0, simConfig("").DeadAfter)), func() {
			other.wish[domain].Whole.Choice = w.choice
			if p := other.process; p != nil {
				p.soon(p.weigh)
			}
		})
	}
}

// ownerOfWhole is who should have a domain as a whole, of the nodes that may: written another way than
// in the machine. Where the holder stays it is who has it, if he may.
func (w *world) ownerOfWhole(domain int, may []int) int {
	if who := w.acceptors(domain, 0); w.traits.stay && bits.OnesCount(who) == 1 && slices.Contains(may, bits.TrailingZeros(who)) {
		return bits.TrailingZeros(who)
	}
	if i := w.indexOf(w.choice.Node); slices.Contains(may, i) {
		return i
	}
	priority := func(i int) int { return w.nodes[i].wish[domain].Whole.Priority }
	highest := priority(slices.MaxFunc(may, func(a, b int) int { return cmp.Compare(priority(a), priority(b)) }))
	var candidates []rendezvous.Node
	for _, i := range may {
		if priority(i) == highest {
			candidates = append(candidates, rendezvous.Node{Name: w.nodes[i].name, Weight: w.nodes[i].wish[domain].Weight})
		}
	}
	owner := w.tables.table(nil, candidates).Owners[placeOf(w.traits.domains[domain])]
	return w.indexOf(candidates[owner].Name)
}

// checkWhole: whatever happens, all buckets of such a domain are treated alike.
func (w *world) checkWhole(domain int) {
	if !w.isWhole(domain) {
		return
	}
	for _, n := range w.nodes {
		first := n.kernel.buckets[domain][0]
		for b, e := range n.kernel.buckets[domain] {
			if e.verb != first.verb || e.to != first.to {
				w.fail("%s does not treat bucket %d of domain %d as it does bucket 0", n.name, b, domain)
			}
		}
	}
}

// checkStay: who has a domain and may keep it does, unless somebody decides otherwise; and who is chosen
// gets it.
func (w *world) checkStay(domain, before int, choice Choice) {
	if !w.isWhole(domain) {
		return
	}
	owner := w.owners(domain)[0]
	chosen := w.indexOf(w.choice.Node)
	switch {
	case w.choice != choice && chosen >= 0 && w.nodes[chosen].counts(domain) && w.nodes[chosen].wish[domain].Healthy:
		if owner != chosen {
			w.fail("%s was chosen, and %s has domain %d", w.choice.Node, w.nodes[owner].name, domain)
		}
	case w.traits.stay && w.choice == choice && w.nodes[before].counts(domain) && w.nodes[before].wish[domain].Healthy:
		if owner != before {
			w.fail("domain %d went from %s to %s, and it was to stay", domain, w.nodes[before].name, w.nodes[owner].name)
		}
	}
}

// oneHas gives worlds a domain that one node has as a whole.
func oneHas(stay bool) func(*traits) {
	return func(tr *traits) {
		tr.whole, tr.stay = true, stay
		tr.domains = append(slices.Clone(tr.domains), "vip")
	}
}

func TestNoScheduleBreaksTheRulesOfDomainsThatOneNodeHas(t *testing.T) {
	for _, stay := range []bool{false, true} {
		t.Run(fmt.Sprintf("stay %v", stay), func(t *testing.T) {
			whole := oneHas(stay)
			if seed := envUint(t, "LBSIM_SEED", 0); seed != 0 {
				o := runWorld(seed, ruleNone, whole, newSharedTables())
				t.Logf("%v\n%s", o.world.traits, o.world.records.String())
				if o.wrong != "" {
					t.Fatal(o.wrong)
				}
				return
			}
			next, random := from(envUint(t, "LBSIM_FROM", 1)), rand.Uint64()>>1
			seeds := func() uint64 {
				if seed := random; seed != 0 {
					random = 0
					return seed
				}
				return next()
			}
			worlds, failed := 0, 0
			steps := explore(seeds, envUint(t, "LBSIM_STEPS", 200_000), ruleNone, whole, func(o outcome) bool {
				worlds++
				if o.wrong != "" {
					failed++
					t.Error(o)
				}
				return failed >= 2
			})
			t.Logf("%d events in %d worlds", steps, worlds)
		})
	}
}
