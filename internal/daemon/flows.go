package daemon

import (
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

const (
	// flowsEvery is between looks at the flows of slots in transition.
	flowsEvery = 10 * time.Second
	// loadsEvery is the same of services that remember all flows: a look corrects what their backends
	// are said to have.
	loadsEvery = 5 * time.Second
)

// watchFlows looks at the flows that the datapath remembers, and says whether there is something to
// decide.
func (p *planner) watchFlows() bool {
	f := p.forwarder
	if !f.applied || len(f.services) == 0 {
		return false
	}
	began := f.now()
	decide := began-f.lookedAt >= flowsEvery-loadsEvery/2
	if !decide && len(f.remember) == 0 {
		return false
	}
	exceptions, err := p.path.Exceptions()
	if err != nil {
		p.opts.Log.Warn("what the datapath remembers of flows could not be read", "err", err)
		return false
	}
	if unnoted := p.path.Unnoted(); unnoted > f.unnoted {
		p.opts.Log.Warn("there is no room for all flows of slots in transition: new ones may go elsewhere when they move on", "times", unnoted-f.unnoted)
		f.unnoted = unnoted
	}
	if len(exceptions) == 0 && !waits(f.outputs) {
		f.flows = nil
		return false
	}
	seen, elsewhere := seenOf(began, f.outputs, exceptions)
	for service := range f.remember {
		seen[service].Slots = make([]bool, lb.Slots) // what is remembered anyway keeps no slot from its rest
	}
	f.flows = make(map[string][]int, len(seen))
	for service := range seen {
		f.flows[service] = seen[service].Flows
	}
	if f.forgetful(p.cfg.Services, p.backendAdmins(), elsewhere) || decide {
		f.seen, f.lookedAt = seen, began
		return true
	}
	return false
}

// waits says whether a service waits for flows to end.
func waits(outputs map[string]balance.Output) bool {
	for _, output := range outputs {
		removed := func(place balance.Place) bool { return place.State == balance.StateRemoved }
		if output.Moving > 0 || slices.ContainsFunc(output.Places, removed) {
			return true
		}
	}
	return false
}

// seenOf sorts flows by their services, and says which have one that is not where its slot says.
func seenOf(began time.Duration, outputs map[string]balance.Output, exceptions []datapath.Exception) (all map[string]*balance.Seen, elsewhere map[string]bool) {
	all, elsewhere = make(map[string]*balance.Seen, len(outputs)), make(map[string]bool)
	for name, output := range outputs {
		all[name] = &balance.Seen{Began: began, Slots: make([]bool, lb.Slots), Flows: make([]int, len(output.Places))}
	}
	for i := range exceptions {
		e := &exceptions[i]
		seen := all[e.Service]
		if seen == nil || e.Backend >= len(seen.Flows) || e.Client {
			continue
		}
		seen.Flows[e.Backend]++
		seen.Slots[e.Slot] = seen.Slots[e.Slot] || !e.Current
		elsewhere[e.Service] = elsewhere[e.Service] || !e.Current
	}
	return all, elsewhere
}

// wantFlows asks the other directors for what they remember when this one can take more of it than
// before: of services and backends that it did not have, or had no way to.
func (p *planner) wantFlows(state *lb.State) {
	if p.member == nil {
		return
	}
	can := make(map[flowsAt]bool)
	fresh := false
	for i := range state.Services {
		s := &state.Services[i]
		for _, b := range s.Backends {
			if s.Forward != lb.ForwardLocal && b.Hop != nil {
				at := flowsAt{s.Name, state.VIPs[s.VIP].Addr, netip.AddrPortFrom(b.Addr, b.Port)}
				can[at] = true
				fresh = fresh || !p.forwarder.can[at]
			}
		}
	}
	p.forwarder.can = can
	if fresh {
		p.member.WantNotes()
	}
}

// flowsAt are flows of a service at a backend.
type flowsAt struct {
	service string
	vip     netip.Addr
	backend netip.AddrPort
}
