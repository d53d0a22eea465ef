package ownership

import (
	"hash/fnv"
	"maps"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// makeWhole leaves one node its weight where a domain is not to be spread. It follows from knowledge
// alone, as everything in a plan does: that all buckets go together is all that is special.
func (m *Machine) makeWhole(domain string, living []*Record, nodes []rendezvous.Node) {
	is := slices.ContainsFunc(living, func(r *Record) bool { return r.Weights[domain].Whole.Is })
	may := slices.ContainsFunc(nodes, func(n rendezvous.Node) bool { return n.Weight > 0 })
	if !is || !may {
		return
	}
	chosen := m.chooseWhole(domain, living, nodes)
	for i := range nodes {
		if i != chosen {
			nodes[i].Weight = 0
		}
	}
}

// chooseWhole returns which node is to have a domain, of those that have a weight.
func (m *Machine) chooseWhole(domain string, living []*Record, nodes []rendezvous.Node) int {
	choice := choiceOf(domain, living)
	best := -1
	for i, n := range nodes {
		if n.Weight == 0 {
			continue
		}
		if n.Name == choice.Node {
			return i
		}
		best = max(best, living[i].Weights[domain].Whole.Priority)
	}
	first := slices.Clone(nodes)
	for i := range first {
		if living[i].Weights[domain].Whole.Priority != best {
			first[i].Weight = 0
		}
	}
	return int(m.tables.table(nil, first).Owners[placeOf(domain)])
}

// placeOf is the bucket whose owner has the domain, where several might.
func placeOf(domain string) int {
	h := fnv.New64a()
	h.Write([]byte(domain))
	return int(h.Sum64() % lb.Buckets)
}

// choiceOf returns the last decision about a domain that any of the living tells.
func choiceOf(domain string, living []*Record) (last Choice) {
	for _, r := range living {
		if c := r.Weights[domain].Whole.Choice; c.after(last) {
			last = c
		}
	}
	return last
}

// after orders decisions. Two nodes can come to one number; then the name decides, so that all agree.
func (c Choice) after(other Choice) bool {
	return c.Number > other.Number || c.Number == other.Number && c.Node > other.Node
}

// keepChoice returns what a node wants with the last decision that its record has: the driver knows
// those that people made, not those of stay.
func (w Weight) keepChoice(before Weight) Weight {
	if w.Whole.Is && before.Whole.Choice.after(w.Whole.Choice) {
		w.Whole.Choice = before.Whole.Choice
	}
	return w
}

// stay decides for this node where it has a domain that is not to go back to whoever was better. A
// decision is a change of knowledge like any other.
func (m *Machine) stay() {
	if len(m.Out)+m.unconfirmed() > 0 || !m.agreed() {
		return
	}
	weights := maps.Clone(m.self().Weights)
	living := m.living()
	for _, name := range m.domains() {
		w, d := weights[name], m.Tokens[name]
		if !w.Whole.Is || !w.Whole.Stay || d.Held.Empty() || !d.Held.Equal(d.plan.mine) {
			continue
		}
		if last := choiceOf(name, living); last.Node != m.cfg.Name {
			w.Whole.Choice = Choice{last.Number + 1, m.cfg.Name}
			weights[name] = w
		}
	}
	if !maps.Equal(weights, m.self().Weights) {
		m.amend(func(r *Record) { r.Weights = weights })
	}
}
