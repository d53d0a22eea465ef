package desired

import (
	"encoding/binary"
	"net/netip"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

// A user is who has a table: a service, or with no name the VIP itself.
type user struct {
	service string
	vip     netip.Addr
}

// built is a table and what it was built from.
type built struct {
	nodes []rendezvous.Node
	table *lb.Table
}

// plan collects the tables of a State. All are of the same nodes and differ in weights.
type plan struct {
	builder *Builder
	nodes   []lb.Node
	changes []rendezvous.Change // by table
	places  map[string]int      // tables by weights
	users   map[user]int        // tables
	key     []byte
}

// assign gives every VIP and service its table. Those whose weights are the same share one.
func (b *Builder) assign(state *lb.State, members Members, health Health) {
	p := &plan{
		builder: b,
		nodes:   state.Nodes,
		places:  make(map[string]int),
		users:   make(map[user]int),
	}
	answering, own := answering(state.Nodes, members), own(state.Nodes)
	for i := range state.VIPs {
		v, weights := &state.VIPs[i], answering
		if v.Announce == lb.AnnounceNone {
			weights = own
		}
		v.Table = p.table(user{"", v.Addr}, weights)
	}
	sick := make([]map[string]Unhealthy, len(state.Nodes))
	for i := range state.Nodes {
		sick[i] = health[state.Nodes[i].Name]
	}
	serving := make([]int, len(state.Nodes))
	for i := range state.Services {
		s := &state.Services[i]
		for j := range state.Nodes {
			serving[j] = state.Nodes[j].Weight
			if _, ok := sick[j][s.Name]; ok {
				serving[j] = 0
			}
		}
		if state.VIPs[s.VIP].Announce == lb.AnnounceNone {
			copy(serving, own)
		}
		s.Table = p.table(user{s.Name, state.VIPs[s.VIP].Addr}, serving)
	}
	state.Tables = b.tables.Update(p.changes)
	b.last = make(map[user]built, len(p.users))
	for u, table := range p.users {
		b.last[u] = built{p.changes[table].New, state.Tables[table]}
	}
}

// answering returns the weights by which nodes answer for a VIP as such. Where all that are up have
// weight 0 they still do, or no neighbour could find the flows that they keep.
func answering(nodes []lb.Node, members Members) []int {
	weights := make([]int, len(nodes))
	total := 0
	for i := range nodes {
		weights[i] = nodes[i].Weight
		total += weights[i]
	}
	for i := range nodes {
		if total == 0 && !members[nodes[i].Name].Down {
			weights[i] = 1
		}
	}
	return weights
}

// own returns the weights of VIPs whose packets somebody else brings: what comes here is this node's.
func own(nodes []lb.Node) []int {
	weights := make([]int, len(nodes))
	for i := range nodes {
		if nodes[i].Local {
			weights[i] = 1
		}
	}
	return weights
}

// table returns the place of a table with these weights, which is made from the one that its first
// user had before.
func (p *plan) table(u user, weights []int) int {
	p.key = p.key[:0]
	for _, w := range weights {
		p.key = binary.BigEndian.AppendUint16(p.key, uint16(w))
	}
	place, ok := p.places[string(p.key)]
	if !ok {
		place = len(p.changes)
		p.places[string(p.key)] = place
		nodes := make([]rendezvous.Node, len(weights))
		for i, w := range weights {
			nodes[i] = rendezvous.Node{Name: p.nodes[i].Name, Weight: w}
		}
		before := p.builder.last[u]
		p.changes = append(p.changes, rendezvous.Change{Table: before.table, Old: before.nodes, New: nodes})
	}
	p.users[u] = place
	return place
}
