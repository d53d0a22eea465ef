package rendezvous

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lbctl/lbctl/internal/lb"
)

func nodesNamed(n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Name: fmt.Sprintf("n%02d", i), Weight: 100}
	}
	return nodes
}

func BenchmarkBuildOf32Nodes(b *testing.B) {
	builder, nodes := NewBuilder(), nodesNamed(32)
	for b.Loop() {
		builder.Build(nodes)
	}
}

func BenchmarkFirstSightOfANode(b *testing.B) {
	builder := NewBuilder()
	for b.Loop() {
		clear(builder.draws)
		builder.drawsOf("n01")
	}
}

// What a planner does when a node goes or comes: one table for each set of weights.
func BenchmarkUpdateOf100TablesOf32Nodes(b *testing.B) {
	const tables, moving = 100, 7
	builder := NewBuilder()
	random := rand.New(rand.NewPCG(1, 2))
	removals, additions := make([]Change, tables), make([]Change, tables)
	for i := range tables {
		with := nodesNamed(32)
		for j := range with {
			with[j].Weight = 1 + random.IntN(lb.MaxWeight)
		}
		without := slices.Delete(slices.Clone(with), moving, moving+1)
		removals[i] = Change{builder.Build(with), with, without}
		additions[i] = Change{builder.Build(without), without, with}
	}
	b.Run("removing one", func(b *testing.B) {
		for b.Loop() {
			builder.Update(removals)
		}
	})
	b.Run("adding one", func(b *testing.B) {
		for b.Loop() {
			builder.Update(additions)
		}
	})
}
