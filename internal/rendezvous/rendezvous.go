// Package rendezvous computes which node owns each bucket: weighted rendezvous hashing.
//
// Every node draws a number for every bucket, and the lowest draw owns it (Thaler and Ravishankar,
// "Using name-based mappings to increase hit rates", 1998). Draws are exponentially distributed
// with the node's weight as rate, -log2(u)/weight, so that a node wins in proportion to its weight
// and a change of one weight moves no bucket between two others (the logarithmic method of
// Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
//
// A draw depends on the node's name and the bucket alone, and only integers take part: nodes that
// know the same names and weights agree without talking, whatever their architecture.
package rendezvous

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Node takes part with a weight of 0..lb.MaxWeight. With 0 it owns nothing.
type Node struct {
	Name   string
	Weight int
}

// A Builder builds tables. It remembers the draws of the nodes it saw (256 KiB each), because
// tables differ in weights and not in draws. It is not safe for concurrent use.
type Builder struct {
	log2  [log2Steps + 1]uint32
	draws map[string]*draws
}

// NewBuilder returns a Builder that has seen no node.
func NewBuilder() *Builder {
	return &Builder{log2: log2Table(), draws: make(map[string]*draws)}
}

// Build returns the table of nodes, whose names are unique. An owner is a position in nodes, of
// which there are at most lb.MaxNodes. With no weight above 0 every owner is lb.NoNode.
func (b *Builder) Build(nodes []Node) *lb.Table {
	return b.Update([]Change{{New: nodes}})[0]
}

// A Change asks for the table of New, given Table = Build(Old). Without a Table, all is new.
type Change struct {
	Table    *lb.Table
	Old, New []Node
}

// Update returns what Build(New) would for each change, but looks only at what can differ: the
// buckets of nodes that lost weight, and nodes that gained weight against the owner of each bucket.
// Where no owner differs, it returns the change's Table itself. Many changes in one call are faster
// than one by one, because their tables share draws.
func (b *Builder) Update(changes []Change) []*lb.Table {
	tables := make([]*lb.Table, len(changes))
	var updates []*update
	for i, c := range changes {
		if c.Table != nil && slices.Equal(c.Old, c.New) {
			tables[i] = c.Table
			continue
		}
		u := newUpdate(c, b.candidates(c.New))
		tables[i] = &lb.Table{Owners: u.owners[:]}
		updates = append(updates, u)
	}
	compute(updates)
	for i, c := range changes {
		if c.Table != nil && slices.Equal(c.Table.Owners, tables[i].Owners) {
			tables[i] = c.Table
		}
	}
	return tables
}

// A candidate is a node that may own buckets.
type candidate struct {
	draws   *[lb.Buckets]uint32
	inverse uint64 // see inverse
	rank    uint64 // place among the candidates
	index   int16  // position in the caller's nodes
}

// candidates returns the nodes of a weight above 0 in the order in which they win ties, which must
// not depend on who else takes part.
func (b *Builder) candidates(nodes []Node) []candidate {
	if len(nodes) > lb.MaxNodes {
		panic(fmt.Sprintf("rendezvous: %d nodes, at most %d", len(nodes), lb.MaxNodes))
	}
	b.forget(nodes)
	type ranked struct {
		*draws
		Node
		index int
	}
	var order []ranked
	for i, n := range nodes {
		if n.Weight > 0 {
			order = append(order, ranked{b.drawsOf(n.Name), n, i})
		}
	}
	slices.SortFunc(order, func(x, y ranked) int {
		return cmp.Or(cmp.Compare(x.hash, y.hash), cmp.Compare(x.Name, y.Name))
	})
	candidates := make([]candidate, len(order))
	for i, r := range order {
		candidates[i] = candidate{
			draws:   r.byBucket,
			inverse: inverse(r.Weight),
			rank:    uint64(i),
			index:   int16(r.index),
		}
	}
	return candidates
}
