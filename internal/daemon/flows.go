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

// A flowsLook is what a look at the flows that the datapath remembers found.
type flowsLook struct {
	began     time.Duration
	decide    bool // something may be due that waits for flows
	flows     int
	seen      map[string]*balance.Seen // by service
	elsewhere map[string]bool          // services with a flow that is not where its slot says
	err       error
}

// watchFlows begins a look at the flows that the datapath remembers, if there is a reason and none goes on. There
// may be many: nothing waits for it.
func (p *planner) watchFlows() {
	f := p.forwarder
	if f.looking || !f.applied || len(f.services) == 0 {
		return
	}
	began := f.now()
	decide := began-f.lookedAt >= flowsEvery-loadsEvery/2
	if !decide && len(f.remember) == 0 {
		return
	}
	look := newFlowsLook(began, f.outputs)
	look.decide, f.looking = decide, true
	go func() {
		look.err = p.path.Exceptions(look.add)
		f.looks <- look
	}()
}

// lookedAtFlows takes over what a look found, and says whether there is something to decide.
func (p *planner) lookedAtFlows(look *flowsLook) bool {
	f := p.forwarder
	f.looking = false
	if look.err != nil {
		p.opts.Log.Warn("what the datapath remembers of flows could not be read", "err", look.err)
		return false
	}
	if unnoted := p.path.Unnoted(); unnoted > f.unnoted {
		p.opts.Log.Warn("there is no room for all flows of slots in transition: new ones may go elsewhere when they move on", "times", unnoted-f.unnoted)
		f.unnoted = unnoted
	}
	if look.flows == 0 && !waits(f.outputs) {
		f.flows = nil
		return false
	}
	for service := range f.remember {
		if seen := look.seen[service]; seen != nil {
			seen.Slots = make([]bool, lb.Slots) // what is remembered anyway keeps no slot from its rest
		}
	}
	f.flows = make(map[string][]int, len(look.seen))
	for service, seen := range look.seen {
		f.flows[service] = seen.Flows
	}
	if f.forgetful(p.cfg.Services, p.backendAdmins(), look.elsewhere) || look.decide {
		f.seen, f.lookedAt = look.seen, look.began
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

func newFlowsLook(began time.Duration, outputs map[string]balance.Output) *flowsLook {
	look := &flowsLook{began: began, seen: make(map[string]*balance.Seen, len(outputs)), elsewhere: make(map[string]bool)}
	for name, output := range outputs {
		look.seen[name] = &balance.Seen{Began: began, Slots: make([]bool, lb.Slots), Flows: make([]int, len(output.Places))}
	}
	return look
}

// add sorts a flow by its service.
func (l *flowsLook) add(e *datapath.Exception) {
	l.flows++
	seen := l.seen[e.Service]
	if seen == nil || e.Backend >= len(seen.Flows) || e.Client {
		return
	}
	seen.Flows[e.Backend]++
	if !e.Current {
		seen.Slots[e.Slot], l.elsewhere[e.Service] = true, true
	}
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
