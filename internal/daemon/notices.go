package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/hooks"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/ownership"
)

// watchEvery is how often nodes are looked at for the hooks, beside when the machine tells something.
const watchEvery = time.Second

// notices knows the states that hooks were told, and tells them those that are others. It is safe for
// concurrent use.
type notices struct {
	runner *hooks.Runner

	mu      sync.Mutex
	cluster string
	node    string
	known   map[config.HookEvent]map[string]hooks.State // by name
}

func newNotices(runner *hooks.Runner) *notices {
	return &notices{runner: runner, known: make(map[config.HookEvent]map[string]hooks.State)}
}

// set makes a configuration the one whose hooks are told.
func (n *notices) set(cfg *config.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cluster, n.node = cfg.ClusterName, cfg.Node
	n.runner.Set(cfg.Hooks)
}

// states says which things of a kind there are, and how they are. It returns those whose state is
// another one than before.
func (n *notices) states(kind config.HookEvent, all map[string]hooks.Event) []hooks.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[kind] == nil {
		n.known[kind] = make(map[string]hooks.State)
	}
	known := n.known[kind]
	var changed []hooks.Event
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, there := all[name]; !there {
			changed = append(changed, n.tellLocked(hooks.Event{
				Kind: kind, Name: name, State: hooks.Deleted, Before: known[name], What: name + " is not there any more",
			}))
			delete(known, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		if e.State == known[name] {
			continue
		}
		e.Kind, e.Name, e.Before = kind, name, known[name]
		known[name] = e.State
		changed = append(changed, n.tellLocked(e))
	}
	return changed
}

// assume notes what something is unless that is known, and tells nobody.
func (n *notices) assume(kind config.HookEvent, name string, state hooks.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[kind] == nil {
		n.known[kind] = make(map[string]hooks.State)
	}
	if n.known[kind][name] == "" {
		n.known[kind][name] = state
	}
}

// tell tells what is no state that lasts.
func (n *notices) tell(e hooks.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tellLocked(e)
}

func (n *notices) tellLocked(e hooks.Event) hooks.Event {
	e.Time, e.Cluster, e.Node = time.Now(), n.cluster, n.node
	n.runner.Tell(e)
	return e
}

// tellVIPs tells whether this node serves each VIP, after it was tried to make a state so.
func (p *planner) tellVIPs(state *lb.State) {
	all := make(map[string]hooks.Event)
	weight := p.weight(p.cfg.Node)
	owned := ownedVIPs(state)
	for i := range p.cfg.VIPs {
		v := &p.cfg.VIPs[i]
		attached := slices.ContainsFunc(p.report.Attached, func(a datapath.AttachedDevice) bool { return a.Interface == v.Interface })
		e := hooks.Event{Priority: weight}
		switch {
		case state == nil || !attached:
			e.State, e.What, e.Why = hooks.Fault, fmt.Sprintf("this node cannot serve %s", v.Address), errorText(p.applyError)
		case owned[v.Address]:
			e.State, e.What = hooks.Master, fmt.Sprintf("this node takes new flows of %s", v.Address)
		default:
			e.State, e.What = hooks.Backup, fmt.Sprintf("this node takes no new flows of %s", v.Address)
		}
		all[v.Address.String()] = e
	}
	for _, e := range p.notices.states(config.HookVIP, all) {
		p.events.add(control.Event{Kind: "vip", Node: p.cfg.Node, What: e.What, Why: e.Why})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// ownedVIPs are those of which, or of a service of which, this node has a bucket.
func ownedVIPs(s *lb.State) map[netip.Addr]bool {
	owned := make(map[netip.Addr]bool)
	if s == nil || s.Local() == nil {
		return owned
	}
	local := int16(s.Local().Index)
	tables := make([]bool, len(s.Tables))
	for i, t := range s.Tables {
		tables[i] = slices.Contains(t.Owners, local)
	}
	for i := range s.VIPs {
		owned[s.VIPs[i].Addr] = tables[s.VIPs[i].Table]
	}
	for i := range s.Services {
		if address := s.VIPs[s.Services[i].VIP].Addr; tables[s.Services[i].Table] {
			owned[address] = true
		}
	}
	return owned
}

// stopVIPs tells that this node takes its VIPs back.
func (p *planner) stopVIPs() {
	all := make(map[string]hooks.Event)
	for i := range p.cfg.VIPs {
		address := p.cfg.VIPs[i].Address
		all[address.String()] = hooks.Event{
			State: hooks.Stop, Priority: p.weight(p.cfg.Node), What: fmt.Sprintf("this node gives %s back", address), Why: "lbd ends",
		}
	}
	p.notices.states(config.HookVIP, all)
}

// services returns how this node can serve what is checked, and what goes to backends.
func (p *planner) services() map[string]hooks.Event {
	all := make(map[string]hooks.Event)
	checked := p.nodeHealth()
	for i := range p.cfg.Services {
		s := &p.cfg.Services[i]
		if s.Forward != lb.ForwardLocal {
			all[s.Name] = p.forwarded(s.Name)
			continue
		}
		if len(s.Checks) == 0 {
			continue
		}
		health := checked[s.Name]
		health.Weight = p.weight(p.cfg.Node)
		verdict := health.Verdict()
		e := hooks.Event{State: hooks.Master, Priority: verdict.Weight, What: "this node can serve " + s.Name, Why: verdict.Reason}
		switch {
		case !verdict.Healthy:
			e.State, e.What = hooks.Fault, "this node cannot serve "+s.Name
		case verdict.Weight == 0:
			e.State, e.What = hooks.Backup, "this node shall take no new flows of "+s.Name
		}
		all[s.Name] = e
	}
	return all
}

// forwarded returns whether new flows of a service have somewhere to go.
func (p *planner) forwarded(name string) hooks.Event {
	output, decided := p.forwarder.outputs[name]
	taken := slices.ContainsFunc(output.Places, func(b balance.Place) bool { return b.Slots > 0 })
	if decided && !taken {
		return hooks.Event{State: hooks.Fault, What: "no backend of " + name + " takes new flows"}
	}
	return hooks.Event{State: hooks.Master, Priority: p.weight(p.cfg.Node), What: "this node can serve " + name}
}

// assumeServices takes services for what their checks say before the first probe.
func (p *planner) assumeServices() {
	for name, e := range p.services() {
		p.notices.assume(config.HookService, name, e.State)
	}
}

// weight is a node's, by hand or by the configuration.
func (p *planner) weight(name string) int {
	if p.store != nil {
		if admin := p.store.Admins()[name]; admin.Weight != nil {
			return *admin.Weight
		}
	}
	for i := range p.cfg.Nodes {
		if p.cfg.Nodes[i].Name == name {
			return p.cfg.Nodes[i].Weight
		}
	}
	return 0
}

// stir has the nodes looked at soon.
func (p *planner) stir() {
	select {
	case p.stirred <- struct{}{}:
	default:
	}
}

// watchNodes tells how the nodes take part, until ctx ends.
func (p *planner) watchNodes(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.stirred:
		case <-tick.C:
		}
		if !p.notices.runner.Wants(config.HookNode) {
			continue
		}
		if status, err := p.member.Status(ctx); err == nil { // else it ends
			p.notices.states(config.HookNode, nodeStates(status))
		}
	}
}

func nodeStates(status member.Status) map[string]hooks.Event {
	all := make(map[string]hooks.Event)
	for _, m := range status.Machine.Members {
		all[m.Name] = nodeEvent(m)
	}
	return all
}

func nodeEvent(m ownership.Member) hooks.Event {
	e := hooks.Event{Priority: m.Weights[desired.VIPDomain].Weight}
	switch word := stateOf(m); word {
	case "down":
		e.State, e.What = hooks.Fault, m.Name+" is down"
	case "active":
		e.State, e.What = hooks.Master, m.Name+" takes new flows"
	default:
		e.State, e.What = hooks.Backup, m.Name+" takes no new flows: "+word
	}
	return e
}

// tellDecision tells what an operator decided.
func (p *planner) tellDecision(r control.AdminRequest) {
	e := hooks.Event{
		Kind: config.HookDrain, Name: r.Node, State: hooks.Master, What: decision(r), Why: "decided by hand",
		Priority: p.weight(r.Node),
	}
	switch {
	case r.Drain != nil && *r.Drain:
		e.State, e.Priority = hooks.Backup, 0
	case r.Weight != nil && *r.Weight == 0:
		e.State = hooks.Backup
	case r.Remove:
		e.State, e.Priority = hooks.Deleted, 0
	}
	p.notices.tell(e)
}

// describeHooks adds what became of the hooks to a status.
func describeHooks(s *control.Status, all []hooks.Status) {
	for _, h := range all {
		s.Hooks = append(s.Hooks, control.Hook{Command: h.Command, Waiting: h.Waiting, Dropped: h.Dropped, Failed: h.Failed})
		if h.Failed != "" {
			s.Problems = append(s.Problems, fmt.Sprintf("hook %s: %s", h.Command[0], h.Failed))
		}
	}
}
