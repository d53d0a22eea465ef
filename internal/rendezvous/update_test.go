package rendezvous

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/lb"
)

// A walk through clusters: nodes come, go, change weight and place, a few at a time or all at once.
func TestAnUpdateIsExactlyABuild(t *testing.T) {
	updater, fresh := NewBuilder(), NewBuilder()
	random := rand.New(rand.NewPCG(3, 4))
	const walks, steps = 5, 12
	old, tables := make([][]Node, walks), make([]*lb.Table, walks)
	for i := range walks {
		old[i] = nodesNamed(random.IntN(lb.MaxNodes + 1))
		tables[i] = updater.Build(old[i])
	}
	for range steps {
		changes := make([]Change, walks)
		for i := range walks {
			changes[i] = Change{tables[i], old[i], mutate(random, old[i])}
		}
		updated := updater.Update(changes)
		for i, c := range changes {
			want := fresh.Build(c.New)
			if !slices.Equal(updated[i].Owners, want.Owners) {
				t.Fatalf("from %v\nto   %v: the update differs from a build", c.Old, c.New)
			}
			if same := slices.Equal(want.Owners, c.Table.Owners); same != (updated[i] == c.Table) {
				t.Fatalf("from %v\nto   %v: owners the same: %v, pointer the same: %v", c.Old, c.New, same, !same)
			}
			old[i], tables[i] = c.New, updated[i]
		}
	}
}

func mutate(random *rand.Rand, old []Node) []Node {
	nodes := slices.Clone(old)
	changes := 1 + random.IntN(3)
	if random.IntN(10) == 0 {
		changes = 2 * lb.MaxNodes
	}
	for range changes {
		at := random.IntN(len(nodes) + 1)
		switch action := random.IntN(5); {
		case action == 0 && len(nodes) < lb.MaxNodes:
			name := fmt.Sprintf("n%02d", random.IntN(100))
			if !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == name }) {
				nodes = slices.Insert(nodes, at, Node{name, random.IntN(lb.MaxWeight + 1)})
			}
		case at == len(nodes):
		case action == 1:
			nodes = slices.Delete(nodes, at, at+1)
		case action == 2:
			nodes[at].Weight = random.IntN(4) * lb.MaxWeight / 3
		case action == 3:
			nodes[at].Weight = min(nodes[at].Weight+1, lb.MaxWeight)
		default:
			other := random.IntN(len(nodes))
			nodes[at], nodes[other] = nodes[other], nodes[at]
		}
	}
	return nodes
}

func TestWithoutAChangeATableStaysTheSameValue(t *testing.T) {
	b := NewBuilder()
	nodes := nodesNamed(3)
	table := b.Build(nodes)
	idle := append(slices.Clone(nodes), Node{Name: "spare"})
	doubled := slices.Clone(nodes)
	for i := range doubled {
		doubled[i].Weight *= 2
	}
	for _, after := range [][]Node{slices.Clone(nodes), idle, doubled} {
		if got := b.Update([]Change{{table, nodes, after}}); got[0] != table {
			t.Errorf("from %v to %v: another table", nodes, after)
		}
	}
}
