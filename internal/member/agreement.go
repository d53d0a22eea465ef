package member

import (
	"cmp"
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
)

// Meta is what a node tells with its record, in so few bytes that gossip carries it.
type Meta struct {
	Addresses []netip.Addr `json:"a"`
}

// Encode returns the form of ownership.Config.Meta.
func (m Meta) Encode() []byte {
	text, _ := json.Marshal(m) // addresses always can be
	return text
}

// agreement is what the machine says of all domains, for the kernel. Those that did not change since the
// last time have the table that they had.
func (m *Member) agreement() *desired.Agreement {
	nodes, index := m.nodes()
	agreed := &desired.Agreement{Nodes: nodes, Tables: make(map[string]*lb.Table), Met: m.met(nodes)}
	if !maps.Equal(index, m.told.index) {
		m.told = told{index: index}
	}
	before := m.told.domains
	m.told.domains = make(map[string]toldDomain, len(before))
	held := 0
	for _, domain := range m.machine.Domains() {
		t, ok := before[domain]
		if !ok {
			t = m.translate(domain, before)
		}
		m.told.domains[domain], agreed.Tables[domain] = t, t.table
		held += t.held
	}
	m.mu.Lock()
	m.own.Held = held
	m.mu.Unlock()
	return agreed
}

// told is what was made of the machine's tables, which is half a megabyte each.
type told struct {
	index   map[string]int16 // of nodes
	domains map[string]toldDomain
}

type toldDomain struct {
	table *lb.Table
	held  int // buckets that are not left to others
}

// forget has the domains that changed translated anew.
func (t *told) forget(changes []ownership.Change) {
	for _, c := range changes {
		delete(t.domains, c.Domain)
	}
}

// translate makes the table of a domain, or finds one that is the same: VIPs that one node has as a whole
// have few different ones.
func (m *Member) translate(domain string, others map[string]toldDomain) toldDomain {
	view := m.machine.Table(domain)
	t := toldDomain{table: table(view, m.opts.Machine.Name, m.told.index)}
	for _, verb := range view.Verbs {
		if verb != ownership.Ignore {
			t.held++
		}
	}
	for _, known := range []map[string]toldDomain{others, m.told.domains} {
		for _, other := range known {
			if other.held == t.held && other.table.Equal(t.table) {
				return other
			}
		}
	}
	return t
}

// nodes are those of the configuration and those that the machine knows, sorted by name; the result
// also says where each is.
func (m *Member) nodes() ([]lb.Node, map[string]int16) {
	byName := make(map[string]lb.Node)
	for _, known := range m.status.Members {
		var meta Meta
		_ = json.Unmarshal(known.Meta, &meta) // a node that tells nonsense has no address
		byName[known.Name] = lb.Node{
			Name: known.Name, Addrs: meta.Addresses, Weight: known.Weights[desired.VIPDomain].Weight,
		}
	}
	for _, n := range m.opts.Nodes {
		if known, ok := byName[n.Name]; ok {
			n.Weight = known.Weight
		}
		byName[n.Name] = n
	}
	macs := m.macs()
	var list []lb.Node
	for name, n := range byName {
		n.Local = name == m.opts.Machine.Name
		if mac := macs[name]; mac != nil {
			n.MAC = mac
		}
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b lb.Node) int { return cmp.Compare(a.Name, b.Name) })
	index := make(map[string]int16, len(list))
	for i := range list {
		list[i].Index = i
		index[list[i].Name] = int16(i)
	}
	return list, index
}

// met says whether the MACs of all living peers are known: frames of theirs can be told from others'.
func (m *Member) met(nodes []lb.Node) bool {
	for _, known := range m.status.Members {
		named := func(n lb.Node) bool { return n.Name == known.Name && (n.Local || n.MAC != nil) }
		if !known.Dead && !slices.ContainsFunc(nodes, named) {
			return false
		}
	}
	return true
}

// meet has the kernel learn MACs that heartbeats brought, or that changed.
func (m *Member) meet() {
	macs := m.macs()
	if maps.EqualFunc(macs, m.known, slices.Equal[net.HardwareAddr]) {
		return
	}
	m.known = macs
	m.work.refresh(m.agreement())
}

// macs are those that heartbeats come from: the way that a delegated packet has to take.
func (m *Member) macs() map[string]net.HardwareAddr {
	macs := make(map[string]net.HardwareAddr)
	for _, link := range m.links {
		for _, p := range link.Peers() {
			macs[p.Name] = p.MAC
		}
	}
	return macs
}

// table translates what the machine says of a domain.
func table(v ownership.View, self string, index map[string]int16) *lb.Table {
	t := &lb.Table{Owners: make([]int16, lb.Buckets), Marks: make([]lb.Mark, lb.Buckets)}
	at := make([]int16, len(v.Nodes))
	for i, name := range v.Nodes {
		at[i] = lb.NoNode
		if known, ok := index[name]; ok {
			at[i] = known
		}
	}
	me := index[self] // it is always there
	marked := false
	for b := range t.Owners {
		owner := int16(lb.NoNode)
		if v.Owners[b] != lb.NoNode {
			owner = at[v.Owners[b]]
		}
		var mark lb.Mark
		switch v.Verbs[b] {
		case ownership.Accept:
			owner = me
		case ownership.Delegate:
			mark = lb.MarkDelegate
		case ownership.Ignore:
			if owner == me {
				mark = lb.MarkWaiting
			}
		}
		t.Owners[b], t.Marks[b] = owner, mark
		marked = marked || mark != 0
	}
	for mark, set := range map[lb.Mark]ownership.Set{
		lb.MarkMaybeLocal: v.MaybeLocal, lb.MarkContested: v.Contested,
		lb.MarkUDPNoted: v.UDPNoted, lb.MarkUDPKept: v.UDPKept, lb.MarkUDPAway: v.UDPAway,
	} {
		for b := range set.All() {
			t.Marks[b] |= mark
			marked = true
		}
	}
	if !marked {
		t.Marks = nil
	}
	return t
}
