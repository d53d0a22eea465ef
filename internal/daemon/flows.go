package daemon

import (
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
)

const (
	flowsEvery = 2 * time.Second // between looks at the flows of slots in transition
	seenEvery  = 10 * time.Second
	tellEvery  = datapath.TellWithin - 5*time.Second // the same flow
)

// A flowWatch looks at what the datapath remembers of flows, and tells the other directors.
type flowWatch struct {
	heard  chan []member.Flow // from them
	told   map[flowKey]time.Duration
	noted  bool // there were some at the last look
	seenAt time.Duration
}

// A flowKey is a flow of a service.
type flowKey struct {
	service       string
	remote, local netip.AddrPort
	protocol      lb.Protocol
}

func keyOf(e *datapath.Exception) flowKey { return flowKey{e.Service, e.Remote, e.Local, e.Protocol} }

// take is for the goroutine of gossip: what nobody has time for is lost, and told again.
func (w *flowWatch) take(flows []member.Flow) {
	select {
	case w.heard <- flows:
	default:
	}
}

// watchFlows looks at the flows that the datapath remembers, while there may be any, and says whether
// there is something to decide.
func (p *planner) watchFlows() bool {
	f := p.forwarder
	if !f.watch.noted && !waits(f.outputs) {
		f.flows = nil
		return false
	}
	if !f.applied {
		return false
	}
	began := f.now()
	exceptions, err := p.path.Exceptions()
	if err != nil {
		p.opts.Log.Warn("what the datapath remembers of flows could not be read", "err", err)
		return false
	}
	f.watch.noted = len(exceptions) > 0
	p.tellFlows(began, exceptions)
	if began-f.watch.seenAt < seenEvery {
		return false
	}
	f.watch.seenAt, f.seen = began, seenOf(began, f.outputs, exceptions)
	f.flows = make(map[string][]int, len(f.seen))
	for service, seen := range f.seen {
		f.flows[service] = seen.Flows
	}
	return true
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

// seenOf sorts flows by their services.
func seenOf(began time.Duration, outputs map[string]balance.Output, exceptions []datapath.Exception) map[string]*balance.Seen {
	all := make(map[string]*balance.Seen, len(outputs))
	for name, output := range outputs {
		all[name] = &balance.Seen{Began: began, Slots: make([]bool, lb.Slots), Flows: make([]int, len(output.Places))}
	}
	for i := range exceptions {
		e := &exceptions[i]
		seen := all[e.Service]
		if seen == nil || e.Backend >= len(seen.Flows) {
			continue
		}
		seen.Flows[e.Backend]++
		seen.Slots[e.Slot] = seen.Slots[e.Slot] || !e.Current
	}
	return all
}

// tellFlows tells the other directors of flows that came by here since they were told.
func (p *planner) tellFlows(now time.Duration, exceptions []datapath.Exception) {
	if p.member == nil {
		return
	}
	flows, told := p.forwarder.watch.fresh(now, exceptions, p.forwarder.outputs)
	p.forwarder.watch.told = told
	if err := p.member.TellFlows(flows); err != nil {
		p.opts.Log.Warn("flows of slots in transition are known to this director alone", "flows", len(flows), "err", err)
	}
}

// fresh returns what to tell, and when all that is remembered was told.
func (w *flowWatch) fresh(now time.Duration, exceptions []datapath.Exception, outputs map[string]balance.Output) ([]member.Flow, map[flowKey]time.Duration) {
	var flows []member.Flow
	told := make(map[flowKey]time.Duration, len(exceptions))
	for i := range exceptions {
		e := &exceptions[i]
		key := keyOf(e)
		at, known := w.told[key]
		if known && (now-at < tellEvery || e.Silent >= now-at) {
			told[key] = at
			continue
		}
		places := outputs[e.Service].Places
		if e.Backend >= len(places) {
			continue
		}
		told[key] = now
		flows = append(flows, member.Flow{
			Service: e.Service, Remote: e.Remote, Local: e.Local, Protocol: e.Protocol, Slot: e.Slot,
			Backend: places[e.Backend].Addr, Port: places[e.Backend].Port,
		})
	}
	return flows, told
}

// hearFlows has the datapath remember what another director does, as long as slots are in transition
// here, too.
func (p *planner) hearFlows(flows []member.Flow) {
	f := p.forwarder
	exceptions := f.watch.placed(f.now(), flows, f.outputs)
	if len(exceptions) == 0 {
		return
	}
	f.watch.noted = true
	if err := p.path.Note(exceptions); err != nil {
		p.opts.Log.Warn("flows of another director are not known here", "flows", len(exceptions), "err", err)
	}
}

// placed finds the places of backends here, and notes that the flows need not be told again.
func (w *flowWatch) placed(now time.Duration, flows []member.Flow, outputs map[string]balance.Output) []datapath.Exception {
	if w.told == nil {
		w.told = make(map[flowKey]time.Duration)
	}
	var exceptions []datapath.Exception
	for i := range flows {
		flow := &flows[i]
		output := outputs[flow.Service]
		place := slices.IndexFunc(output.Places, func(place balance.Place) bool {
			return place.Addr == flow.Backend && place.Port == flow.Port && !place.Dead
		})
		if output.Moving == 0 || place < 0 || flow.Slot < 0 || flow.Slot >= lb.Slots {
			continue
		}
		e := datapath.Exception{
			Service: flow.Service, Remote: flow.Remote, Local: flow.Local, Protocol: flow.Protocol, Slot: flow.Slot, Backend: place,
		}
		w.told[keyOf(&e)] = now
		exceptions = append(exceptions, e)
	}
	return exceptions
}
