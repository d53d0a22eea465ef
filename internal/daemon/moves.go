package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
)

// diff says what a configuration would change.
func (p *planner) diff(candidate []byte) (diff control.ConfigDiff, err error) {
	fresh, err := p.inForce().ParseShown("candidate", candidate)
	if err != nil {
		return diff, err
	}
	noted, err := p.remembered()
	if err != nil {
		return diff, err
	}
	asked := p.within(context.Background(), func() { // its context does not end
		diff = control.ConfigDiff{Changes: config.Diff(p.cfg, fresh), Alike: p.cfg.Fingerprint() != fresh.Fingerprint()}
		refused := p.changeable(fresh)
		if refused == nil {
			refused = p.possible(fresh)
		}
		if refused != nil {
			diff.Refused = refused.Error()
			return
		}
		diff.Moves = p.moves(fresh)
		diff.Flows, err = p.flows(fresh, diff.Moves, noted)
	})
	return diff, errors.Join(asked, err)
}

// breaks says of which services a configuration breaks open flows, if it changes anything.
func (p *planner) breaks(fresh *config.Config, noted []datapath.Exception, changes bool) []control.FlowMoves {
	if !changes {
		return nil
	}
	flows, err := p.flows(fresh, nil, noted)
	if err != nil {
		p.opts.Log.Warn("what becomes of open flows is not known", "err", err)
	}
	return slices.DeleteFunc(flows, func(m control.FlowMoves) bool { return !m.Breaks() })
}

// moves says of each service that forwards, before and after, how many slots would get another backend.
// What is in transition for other reasons does not count.
func (p *planner) moves(fresh *config.Config) []control.SlotMoves {
	before := servicesOf(p.cfg)
	var all []control.SlotMoves
	for i := range fresh.Services {
		s := &fresh.Services[i]
		was := before[s.Name]
		if was == nil || was.Forward == lb.ForwardLocal || s.Forward == lb.ForwardLocal {
			continue
		}
		moved := lb.Slots // another hash finds another slot for everything
		if was.Hash == s.Hash && p.cfg.Seed == fresh.Seed {
			moved = differing(p.aim(was), p.aim(s))
		}
		if moved > 0 {
			all = append(all, control.SlotMoves{Service: s.Name, Slots: moved, Share: float64(moved) / lb.Slots})
		}
	}
	return all
}

// aim is which server each slot is to have in the end; a backend that nobody has looked for yet will
// be found.
func (p *planner) aim(s *config.Service) []netip.AddrPort {
	ways := p.forwarder.ways.Ways()
	votes := p.verdicts(ways)
	for _, b := range serversOf(s) {
		if _, known := ways[b.Address]; !known {
			ways[b.Address] = nexthop.Way{Hop: &lb.NextHop{}}
		}
		about := probe.Subject{Service: s.Name, Backend: b.Name}
		if _, known := votes[about]; !known {
			votes[about] = health.Fine
		}
	}
	output := balance.New().Update(0, balance.Input{Rules: rulesOf(s), Backends: backendsOf(s, ways, p.backendAdmins(), votes)})
	servers := make([]netip.AddrPort, lb.Slots)
	for slot, place := range output.Choice.Current {
		if place != lb.NoBackend {
			servers[slot] = netip.AddrPortFrom(output.Places[place].Addr, output.Places[place].Port)
		}
	}
	return servers
}

func differing(a, b []netip.AddrPort) int {
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}
