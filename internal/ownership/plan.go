package ownership

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// A plan is where the buckets of a domain should be. It follows from knowledge alone, so nodes that
// know the same have the same plan.
type plan struct {
	nodes  []rendezvous.Node // the living, by name; who may not have buckets has weight 0
	table  *lb.Table         // with all buckets
	owners []int16           // positions in nodes; lb.NoNode where nobody may
	mine   Set
}

// tables makes plans' tables and remembers the last ones: domains with equal weights share one.
type tables struct {
	builder *rendezvous.Builder
	known   map[string]*lb.Table
	limit   int
}

func newTables() *tables {
	return &tables{builder: rendezvous.NewBuilder(), known: make(map[string]*lb.Table), limit: 8}
}

// table returns the table of nodes; old is a plan that differs little, or nil.
func (t *tables) table(old *plan, nodes []rendezvous.Node) *lb.Table {
	var key strings.Builder
	for _, n := range nodes {
		key.WriteString(strconv.Quote(n.Name))
		key.WriteString(strconv.Itoa(n.Weight))
	}
	if table := t.known[key.String()]; table != nil {
		return table
	}
	change := rendezvous.Change{New: nodes}
	if old != nil {
		change.Table, change.Old = old.table, old.nodes
	}
	table := t.builder.Update([]rendezvous.Change{change})[0]
	if len(t.known) >= t.limit {
		clear(t.known)
	}
	t.known[key.String()] = table
	return table
}

// replan follows knowledge.
func (m *Machine) replan() {
	if m.planned {
		return
	}
	m.planned, m.stir, m.changed = true, true, true
	living := m.living()
	for _, name := range m.domains() {
		d := m.Tokens[name]
		nodes := m.eligible(name, living)
		if d.plan != nil && slices.Equal(d.plan.nodes, nodes) {
			continue
		}
		p := &plan{nodes: nodes, table: m.tables.table(d.plan, nodes)}
		p.owners = p.table.Owners[:m.cfg.Buckets]
		me := int16(slices.IndexFunc(nodes, func(n rendezvous.Node) bool { return n.Name == m.cfg.Name }))
		for b, owner := range p.owners {
			if owner == me {
				p.mine.Add(b)
			}
		}
		d.plan = p
	}
}

// living returns the records of the living, by name, as many as a table can hold.
func (m *Machine) living() []*Record {
	var living []*Record
	for _, r := range m.Known.sorted() {
		if !r.Dead || r.Name == m.cfg.Name {
			living = append(living, r)
		}
	}
	return living[:min(len(living), lb.MaxNodes)]
}

// eligible gives every living node its weight in a domain. Members of a younger lineage are about to
// give up; who waits counts only when nobody else is there.
func (m *Machine) eligible(domain string, living []*Record) []rendezvous.Node {
	oldest := m.Known.lineage("")
	candidates := make([]bool, len(living))
	for _, waiting := range []bool{false, true} {
		found := false
		for i, r := range living {
			w := r.Weights[domain]
			candidates[i] = oldest != nil && r.Stage == StageMember && r.Lineage == oldest.Lineage &&
				!r.Leaving && w.Weight > 0 && (waiting || !r.Waiting)
			found = found || candidates[i]
		}
		if found {
			break
		}
	}
	health := m.heedsHealth(domain, living, candidates)
	nodes := make([]rendezvous.Node, len(living))
	for i, r := range living {
		nodes[i].Name = r.Name
		if w := r.Weights[domain]; candidates[i] && (w.Healthy || !health) {
			nodes[i].Weight = w.Weight
		}
	}
	m.makeWhole(domain, living, nodes)
	return nodes
}

// heedsHealth says whether enough nodes are healthy for the others to be left out.
func (m *Machine) heedsHealth(domain string, living []*Record, candidates []bool) bool {
	healthy, least := 0, 1
	for i, r := range living {
		if !candidates[i] {
			continue
		}
		w := r.Weights[domain]
		least = max(least, w.MinNodes)
		if w.Healthy {
			healthy++
		}
	}
	return healthy >= least
}

func (m *Machine) domains() []string { return slices.Sorted(maps.Keys(m.Tokens)) }
