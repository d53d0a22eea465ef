package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
	"github.com/lbctl/lbctl/internal/store"
)

// patience is how long a service waits for the ways to its backends before it goes on with those that
// are known.
const patience = time.Second

// A forwarder decides what the services that forward send to. But for its resolver, it belongs to the
// planner's goroutine.
type forwarder struct {
	started time.Time // services count from here
	ways    *nexthop.Resolver
	dialler *dialler
	stirred chan struct{} // a way changed, or a director found out something
	due     <-chan time.Time

	recalled map[string]datapath.Recalled // what an lbd before this one left, until the first decision
	services map[string]balanced
	seen     map[string]*balance.Seen // what the datapath remembers, for the next decision
	flows    map[string][]int         // of each place, when somebody looked last
	loads    map[string][]int         // connections of each place, of services that remember their flows
	remember map[string]bool          // services that do
	any      atomic.Bool              // one does
	orderers map[string]*balance.Orderer
	looks    chan *flowsLook  // that are done
	looking  bool             // one goes on
	lookedAt time.Duration    // at flows, to decide
	can      map[flowsAt]bool // be taken of what other directors remember
	unnoted  uint64           // how often there was no room for a flow, at the last look
	attempts attemptWatch
	waiting  map[string]time.Time // services that never had an output, and until when they wait
	outputs  map[string]balance.Output
	targets  desired.Targets
	decided  chan struct{} // is closed once each service has had an output
	stale    bool          // an input changed since the last decision
	applied  bool          // the datapath does what outputs say
}

// A balanced is a service that forwards. With another protocol, it has other flows.
type balanced struct {
	*balance.Service
	protocol lb.Protocol
}

func newForwarder(log *slog.Logger) *forwarder {
	f := &forwarder{
		started: time.Now(), stirred: make(chan struct{}, 1), services: make(map[string]balanced), waiting: make(map[string]time.Time),
		outputs: make(map[string]balance.Output), targets: make(desired.Targets), decided: make(chan struct{}),
		looks: make(chan *flowsLook), remember: make(map[string]bool), orderers: make(map[string]*balance.Orderer),
	}
	f.ways = nexthop.New(log, f.stir)
	f.dialler = newDialler(log, f.ways)
	return f
}

// stir has the planner think again. It may be called from any goroutine.
func (f *forwarder) stir() {
	select {
	case f.stirred <- struct{}{}:
	default: // it will see this, too
	}
}

// use makes a configuration the one in force. What only the one before had stays until this one is
// applied: the way back would be another beginning for it.
func (f *forwarder) use(cfg *config.Config) {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if known := f.services[s.Name]; s.Forward != lb.ForwardLocal && (known.Service == nil || known.protocol != s.Protocol) {
			f.services[s.Name], f.waiting[s.Name] = balanced{f.begin(s), s.Protocol}, time.Now().Add(patience)
		}
	}
	f.stale = true
	f.resolve(cfg)
	f.dialler.use(cfg)
}

// begin makes a service that goes on where an lbd before this one left it, if it was the same.
func (f *forwarder) begin(s *config.Service) *balance.Service {
	service := balance.New()
	left, ok := f.recalled[s.Name]
	rules := balance.Rules{TCPIdle: left.TCPIdle, UDPIdle: left.UDPIdle}
	f.remember[s.Name] = left.Scheduled
	if now := rulesOf(s); ok && (rules.TCPIdle == 0) == (now.TCPIdle == 0) && (rules.UDPIdle == 0) == (now.UDPIdle == 0) {
		service.Restore(f.now(), rules, left.Backends, left.Choice)
	}
	return service
}

// now is the time by the clock of services.
func (f *forwarder) now() time.Duration { return time.Since(f.started) }

// settle forgets what a configuration that is applied does not have.
func (f *forwarder) settle(cfg *config.Config) {
	forward := make(map[string]bool)
	for i := range cfg.Services {
		forward[cfg.Services[i].Name] = cfg.Services[i].Forward != lb.ForwardLocal
	}
	for name := range f.services {
		if !forward[name] {
			delete(f.services, name)
			delete(f.waiting, name)
			delete(f.outputs, name)
			delete(f.targets, name)
			delete(f.seen, name)
			delete(f.remember, name)
			delete(f.orderers, name)
		}
	}
}

// resolve asks for the ways to all backends, to those too that are not configured any more and keep
// their flows.
func (f *forwarder) resolve(cfg *config.Config) {
	var addresses []netip.Addr
	for i := range cfg.Services {
		for _, b := range serversOf(&cfg.Services[i]) {
			addresses = append(addresses, b.Address)
		}
	}
	for _, output := range f.outputs {
		for i := range output.Places {
			if p := &output.Places[i]; p.Name != "" {
				addresses = append(addresses, p.Addr)
			}
		}
	}
	f.ways.Set(addresses)
}

// rethink notes that an input changed, and returns when to apply what follows: at once, unless nothing
// can.
func (f *forwarder) rethink(again <-chan time.Time) <-chan time.Time {
	f.stale = true
	if len(f.services) == 0 {
		return again
	}
	return time.After(0)
}

// ready says whether each service has had an output, at the start. Until then the datapath is left as it
// is: an lbd before this one may have set it up.
func (f *forwarder) ready() bool {
	select {
	case <-f.decided:
		return true
	default:
		return false
	}
}

// forward decides anew what all services send to, if anything changed that bears on it.
func (p *planner) forward() {
	f := p.forwarder
	if !f.stale {
		return
	}
	now := time.Now()
	f.stale, f.due, f.recalled = false, nil, nil
	ways, admins := f.ways.Ways(), p.backendAdmins()
	votes := p.verdicts(ways)
	next := time.Duration(0)
	for i := range p.cfg.Services {
		s := &p.cfg.Services[i]
		service, ok := f.services[s.Name]
		if !ok || s.Forward == lb.ForwardLocal {
			continue
		}
		if until, waits := f.waiting[s.Name]; waits && now.Before(until) && pending(s, ways) {
			next = sooner(next, until.Sub(now))
			continue
		}
		delete(f.waiting, s.Name)
		output := service.Update(now.Sub(f.started), balance.Input{
			Rules: rulesOf(s), Backends: backendsOf(s, ways, admins, votes), Applied: f.applied, Seen: f.seen[s.Name],
		})
		if output.Next > 0 {
			next = sooner(next, output.Next-now.Sub(f.started))
		}
		p.backendsChanged(s.Name, f.outputs[s.Name].Places, output.Places)
		target := targetOf(&output, ways, watchedOf(s))
		weigh(target.Backends, s, output.Places, admins)
		target.Schedule = f.schedule(s, output.Places, admins)
		f.outputs[s.Name], f.targets[s.Name] = output, target
	}
	f.applied, f.seen = false, nil
	f.any.Store(len(f.remember) > 0)
	f.resolve(p.cfg)
	if next > 0 {
		f.due = time.After(next)
	}
	if len(f.waiting) == 0 && !f.ready() {
		close(f.decided)
	}
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// pending says whether it may be a moment until a way is known.
func pending(s *config.Service, ways map[netip.Addr]nexthop.Way) bool {
	return slices.ContainsFunc(serversOf(s), func(b *config.Backend) bool {
		way, known := ways[b.Address]
		return !known || way.Pending && way.Hop == nil
	})
}

// serversOf are the backends that take part, and the one that says sorry.
func serversOf(s *config.Service) []*config.Backend {
	var servers []*config.Backend
	for i := range s.Backends {
		if b := &s.Backends[i]; !b.Down {
			servers = append(servers, b)
		}
	}
	if s.Sorry != nil {
		servers = append(servers, s.Sorry)
	}
	return servers
}

func rulesOf(s *config.Service) balance.Rules {
	rules := balance.Rules{MinBackends: s.MinBackends}
	rules.TCPIdle, rules.UDPIdle = s.Idle()
	return rules
}

// backendAdmins is what people decided. Without membership, nobody can.
func (p *planner) backendAdmins() map[store.BackendName]store.BackendAdmin {
	if p.store == nil {
		return nil
	}
	return p.store.BackendAdmins()
}

// backendsOf is all that bears on what the backends of a service get.
func backendsOf(
	s *config.Service, ways map[netip.Addr]nexthop.Way, admins map[store.BackendName]store.BackendAdmin, votes map[probe.Subject]health.Vote,
) []balance.Backend {
	var all []balance.Backend
	for _, b := range serversOf(s) {
		admin := admins[store.BackendName{Service: s.Name, Backend: b.Name}]
		vote := votes[probe.Subject{Service: s.Name, Backend: b.Name}]
		backend := inputOf(s, b, ways[b.Address], admin, health.Verdict{
			Weight: vote.Weight(decidedWeight(b, admin)), Healthy: vote.Healthy, Reason: vote.Reason,
		})
		backend.Failing, backend.Tried = vote.Failing, vote.Tried
		all = append(all, backend)
	}
	return all
}

// decidedWeight is what people want a backend to have.
func decidedWeight(b *config.Backend, admin store.BackendAdmin) int {
	switch {
	case admin.Drain:
		return 0
	case admin.Weight != nil:
		return *admin.Weight
	}
	return b.Weight
}

func inputOf(s *config.Service, b *config.Backend, way nexthop.Way, admin store.BackendAdmin, said health.Verdict) balance.Backend {
	backend := balance.Backend{
		Name: b.Name, Addr: b.Address, Port: b.Port, Weight: said.Weight, Disabled: admin.Disable,
		Reachable: way.Hop != nil, Healthy: said.Healthy, Why: said.Reason, SlowStart: b.SlowStart,
	}
	switch {
	case b == s.Sorry:
		backend.Tier = balance.TierSorry
	case b.Backup:
		backend.Tier = balance.TierBackup
	}
	switch {
	case admin.Disable:
		backend.Why = "disabled by hand"
	case s.Forward == lb.ForwardDR && way.Gateway.IsValid():
		backend.Reachable, backend.Why = false, fmt.Sprintf("it is behind %s: forward %q reaches its own link only", way.Gateway, s.Forward)
	case way.Hop == nil && way.Problem != "":
		backend.Why = way.Problem
	case way.Hop == nil:
		backend.Why = "no neighbour answers for it yet"
	case !said.Healthy:
	case admin.Drain:
		backend.Why = "drained by hand"
	case admin.Weight != nil && backend.Why == "":
		backend.Why = fmt.Sprintf("weight %d by hand", *admin.Weight)
	}
	return backend
}

// targetOf gives each place its way. One that is dead has none, so that nothing which the datapath
// remembers of it counts.
func targetOf(output *balance.Output, ways map[netip.Addr]nexthop.Way, watched map[netip.AddrPort]string) desired.Target {
	target := desired.Target{Choice: output.Choice, Backends: make([]lb.Backend, len(output.Places))}
	for i := range output.Places {
		place := &output.Places[i]
		target.Backends[i] = place.Backend
		_, target.Backends[i].Watched = watched[netip.AddrPortFrom(place.Addr, place.Port)]
		if !place.Dead {
			target.Backends[i].Hop = ways[place.Addr].Hop
		}
	}
	return target
}
