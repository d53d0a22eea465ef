package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/sockets"
)

// An openFlow is one that this node knows of: a connection of its own, or what the datapath remembers.
type openFlow struct {
	protocol      lb.Protocol
	remote, local netip.AddrPort
	service       string         // that forwards it; empty: it is this node's
	backend       netip.AddrPort // where it is then
	silent        time.Duration
}

// A forecast compares two configurations by what becomes of flows.
type forecast struct {
	old, next *lb.State
	before    map[string]*config.Service
	after     map[string]*config.Service
	agreed    bool                                     // the nodes agree on tables: open flows outlive their changes
	aim       func(s *config.Service) []netip.AddrPort // the server of each slot
	aims      map[string][]netip.AddrPort
}

func servicesOf(cfg *config.Config) map[string]*config.Service {
	byName := make(map[string]*config.Service, len(cfg.Services))
	for i := range cfg.Services {
		byName[cfg.Services[i].Name] = &cfg.Services[i]
	}
	return byName
}

// remembered are the flows that the datapath remembers. There may be many, so the planner does not read them itself.
func (p *planner) remembered() (all []datapath.Exception, err error) {
	err = p.path.Exceptions(func(e *datapath.Exception) {
		if !e.Client && !e.Over {
			all = append(all, *e)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read what the datapath remembers of flows: %w", err)
	}
	return all, nil
}

// flows says what becomes of open flows under another configuration, by service; slots are those that
// move, and noted is what the datapath remembers.
func (p *planner) flows(fresh *config.Config, slots []control.SlotMoves, noted []datapath.Exception) ([]control.FlowMoves, error) {
	if p.state == nil {
		return nil, nil
	}
	f := forecast{
		old: p.state, before: servicesOf(p.cfg), after: servicesOf(fresh), agreed: p.member != nil, aim: p.aim, aims: make(map[string][]netip.AddrPort),
	}
	var err error
	if f.next, err = p.imagined(fresh); err != nil {
		return nil, err
	}
	open, err := p.openFlows(noted)
	if err != nil {
		return nil, err
	}
	moving := make(map[string]bool)
	for _, m := range slots {
		moving[m.Service] = true
	}
	var all []control.FlowMoves
	for i := range p.cfg.Services {
		if m, ok := f.service(&p.cfg.Services[i], open, moving); ok {
			all = append(all, m)
		}
	}
	return all, nil
}

// imagined is the state under another configuration, without the ways to backends. There must be one already.
func (p *planner) imagined(fresh *config.Config) (*lb.State, error) {
	if p.member == nil {
		return new(desired.Builder).Build(fresh, nil, nil, nil)
	}
	return desired.Agreed(fresh, p.agreed, nil)
}

// openFlows lists the connections that this machine has with clients, and the flows that are remembered.
func (p *planner) openFlows(noted []datapath.Exception) ([]openFlow, error) {
	var open []openFlow
	var vips []netip.AddrPort
	for i := range p.state.Services {
		if s := &p.state.Services[i]; s.Forward == lb.ForwardLocal {
			vips = append(vips, netip.AddrPortFrom(p.state.VIPs[s.VIP].Addr, 0))
		}
	}
	if len(vips) > 0 {
		slices.SortFunc(vips, netip.AddrPort.Compare)
		connections, err := sockets.Connections(sockets.Filter{Local: slices.Compact(vips)})
		if err != nil {
			return nil, err
		}
		for _, c := range connections {
			open = append(open, openFlow{protocol: c.Protocol, remote: c.Remote, local: c.Local})
		}
	}
	for i := range noted {
		open = append(open, p.noted(&noted[i]))
	}
	return open, nil
}

func (p *planner) noted(e *datapath.Exception) openFlow {
	flow := openFlow{protocol: e.Protocol, remote: e.Remote, local: e.Local, service: e.Service, silent: e.Silent}
	if places := p.forwarder.outputs[e.Service].Places; e.Backend < len(places) {
		flow.backend = netip.AddrPortFrom(places[e.Backend].Addr, places[e.Backend].Port)
	}
	return flow
}

// service says what becomes of the flows of one, if the change bears on them.
func (f *forecast) service(s *config.Service, open []openFlow, moving map[string]bool) (control.FlowMoves, bool) {
	m := control.FlowMoves{Service: s.Name}
	for i := range open {
		if o := &open[i]; f.has(s, o) {
			m.Known++
			if f.moves(o) {
				m.Moved++
			}
		}
	}
	n, forwards := f.after[s.Name], s.Forward != lb.ForwardLocal
	switch {
	case n == nil:
		m.Uncounted, m.Why = forwards, "the file has no such service"
	case n.Forward != s.Forward:
		m.Uncounted, m.Why = forwards, fmt.Sprintf("forward %s becomes %s", s.Forward, n.Forward)
	case n.SourceNAT != s.SourceNAT:
		m.Why = fmt.Sprintf("source-nat %t becomes %t", s.SourceNAT, n.SourceNAT)
		if n.SourceNAT && s.Protocol == lb.ProtocolTCP {
			m.Share = 1 // full NAT forwards no segment of a flow that it has no port for
		} else {
			m.Uncounted = true
		}
	case f.rehashed(s.Name) && forwards:
		m.Share, m.Why = elsewhere(f.servers(s), f.servers(n)), "another hash finds other slots"
	case f.rehashed(s.Name):
		m.Why = "another hash finds other buckets"
	case f.dropped(s) != "":
		m.Uncounted, m.Why = forwards, "nothing takes "+f.dropped(s)+" any more"
	case m.Moved > 0 && forwards:
		m.Why = "they were silent for longer than they may be then"
	case m.Moved > 0:
		m.Why = "their buckets go to other nodes at once, as it is without membership"
	case moving[s.Name]:
		m.Why = "who is where is remembered while slots move"
	default:
		return m, false
	}
	return m, true
}

// has says whether a flow is the service's.
func (f *forecast) has(s *config.Service, o *openFlow) bool {
	if o.service != "" {
		return o.service == s.Name
	}
	now := serviceAt(f.old, o.protocol, o.local)
	return now != nil && now.Name == s.Name && now.Forward == lb.ForwardLocal
}

// moves says whether a flow would be somewhere else, or nowhere.
func (f *forecast) moves(o *openFlow) bool {
	next := serviceAt(f.next, o.protocol, o.local)
	if next == nil {
		return true
	}
	if o.service == "" {
		return next.Forward != lb.ForwardLocal || f.leaves(o, next)
	}
	before, after := f.before[o.service], f.after[next.Name]
	switch {
	case before.Forward != after.Forward || before.SourceNAT != after.SourceNAT:
		return true
	case before.Name != after.Name || f.rehashed(before.Name):
		mask := flowhash.NewMask(next.Hash, o.remote.Addr().Is4())
		hash := flowhash.NewKeys(f.next.Seed).Sum(mask, o.remote.Addr(), o.remote.Port(), o.local.Port())
		return f.servers(after)[flowhash.Slot(hash)] != o.backend
	}
	tcp, other := after.Idle()
	idle := map[bool]time.Duration{true: tcp, false: other}[o.protocol == lb.ProtocolTCP]
	return o.silent > idle+datapath.TellWithin
}

// leaves says whether a connection of this node would be in a bucket of another one, which was this
// node's. What was in another's before stays as it is.
func (f *forecast) leaves(o *openFlow, next *lb.Service) bool {
	now := serviceAt(f.old, o.protocol, o.local)
	was, will := ownerIn(f.old, now, o), ownerIn(f.next, next, o)
	if f.agreed && f.old.Seed == f.next.Seed && now.Hash == next.Hash {
		return false
	}
	return was != nil && was.Local && will != nil && !will.Local
}

func ownerIn(state *lb.State, s *lb.Service, o *openFlow) *lb.Node {
	mask := flowhash.NewMask(s.Hash, o.remote.Addr().Is4())
	bucket := flowhash.Bucket(flowhash.NewKeys(state.Seed).Sum(mask, o.remote.Addr(), o.remote.Port(), o.local.Port()))
	owner := state.Tables[s.Table].Owners[bucket]
	if owner == lb.NoNode {
		return nil
	}
	return &state.Nodes[owner]
}

// rehashed says whether flows of a service that stays are found by something else.
func (f *forecast) rehashed(name string) bool {
	return f.old.Seed != f.next.Seed || f.before[name].Hash != f.after[name].Hash
}

// servers is computed once for each service and side.
func (f *forecast) servers(s *config.Service) []netip.AddrPort {
	key := "old " + s.Name
	if f.after[s.Name] == s {
		key = "new " + s.Name
	}
	if f.aims[key] == nil {
		f.aims[key] = f.aim(s)
	}
	return f.aims[key]
}

// elsewhere is the share of flows that another slot gives another server, 0..1.
func elsewhere(before, after []netip.AddrPort) float64 {
	count := func(servers []netip.AddrPort) map[netip.AddrPort]float64 {
		shares := make(map[netip.AddrPort]float64)
		for _, s := range servers {
			shares[s] += 1 / float64(len(servers))
		}
		return shares
	}
	same, later := 0.0, count(after)
	for server, share := range count(before) {
		same += share * later[server]
	}
	return 1 - same
}

// dropped names what a service takes now and nobody would.
func (f *forecast) dropped(s *config.Service) string {
	var gone []string
	for _, vip := range s.VIPs {
		for _, ports := range s.Ports {
			first := serviceAt(f.next, s.Protocol, netip.AddrPortFrom(vip, ports.First))
			last := serviceAt(f.next, s.Protocol, netip.AddrPortFrom(vip, ports.Last))
			if first == nil || last == nil {
				gone = append(gone, fmt.Sprintf("%s %s %s", vip, s.Protocol, ports))
			}
		}
	}
	return strings.Join(gone, ", ")
}

// serviceAt finds who takes what comes to a place, as the datapath does.
func serviceAt(state *lb.State, protocol lb.Protocol, at netip.AddrPort) *lb.Service {
	var best *lb.Service
	width := 1 << 17
	for i := range state.Services {
		s := &state.Services[i]
		if w, takes := lb.Takes(s.Protocol, s.Ports, protocol, at.Port()); takes && state.VIPs[s.VIP].Addr == at.Addr() && w < width {
			best, width = s, w
		}
	}
	return best
}
