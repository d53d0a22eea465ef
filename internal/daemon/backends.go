package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/store"
)

// errAlone refuses what only a cluster keeps.
var errAlone = &control.Error{
	Code:    http.StatusConflict,
	Message: "backends are as the configuration says: drain, disable, weight and maxconn need cluster.membership in it",
}

// adminBackend carries out what an operator decides about a backend. All directors keep it, and act on
// it when they hear of it.
func (p *planner) adminBackend(ctx context.Context, r control.BackendRequest) (err error) {
	if p.store == nil {
		return errAlone
	}
	name := store.BackendName{Service: r.Service, Backend: r.Backend}
	var node string
	asked := p.within(ctx, func() { node, err = p.cfg.Node, p.allowed(r) })
	if asked != nil || err != nil {
		return errors.Join(asked, err)
	}
	switch {
	case r.Drain != nil:
		err = p.store.SetBackendDrain(name, *r.Drain)
	case r.Disable != nil:
		err = p.store.SetBackendDisable(name, *r.Disable)
	case r.MaxConn != nil, r.ResetMaxConn:
		err = p.store.SetBackendMaxConn(name, r.MaxConn)
	default:
		err = p.store.SetBackendWeight(name, r.Weight)
	}
	if err != nil {
		return err
	}
	p.events.add(control.Event{Kind: "backend", Node: node, What: "backend " + name.String() + " " + backendDecision(r), Why: "decided by hand"})
	return nil
}

// allowed says why a request is not to be carried out.
func (p *planner) allowed(r control.BackendRequest) error {
	i := slices.IndexFunc(p.cfg.Services, func(s config.Service) bool { return s.Name == r.Service })
	if i < 0 {
		return &control.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("service %s: no such service is known", r.Service)}
	}
	if !slices.ContainsFunc(p.cfg.Services[i].Backends, func(b config.Backend) bool { return b.Name == r.Backend }) {
		return &control.Error{Code: http.StatusNotFound, Message: fmt.Sprintf("service %s: backend %s: no such backend is known", r.Service, r.Backend)}
	}
	ends := r.Drain != nil && *r.Drain || r.Disable != nil && *r.Disable || r.Weight != nil && *r.Weight == 0
	if ends && !r.Force && !p.othersTake(r.Service, r.Backend) {
		return control.ErrLastBackend
	}
	return nil
}

// othersTake says whether a backend other than that one gets new flows.
func (p *planner) othersTake(service, backend string) bool {
	if p.state == nil {
		return false
	}
	for i := range p.state.Services {
		s := &p.state.Services[i]
		if s.Name != service || s.Choice == nil {
			continue
		}
		return slices.ContainsFunc(s.Choice.Current, func(place int16) bool {
			return place != lb.NoBackend && s.Backends[place].Name != backend
		})
	}
	return false
}

// describeBackends adds what the services that forward send to, and what is wrong with it.
func describeBackends(s *control.Status, cfg *config.Config, state *lb.State, f *forwarder, admins map[store.BackendName]store.BackendAdmin) {
	for i := range cfg.Services {
		service := &cfg.Services[i]
		output, ok := f.outputs[service.Name]
		if !ok {
			continue
		}
		weights, most := make(map[string]int), make(map[string]int)
		for i, b := range service.Backends {
			most[b.Name] = maxConnOf(service, &service.Backends[i], admins)
			weights[b.Name] = b.Weight
			if admin := admins[store.BackendName{Service: service.Name, Backend: b.Name}]; admin.Weight != nil {
				weights[b.Name] = *admin.Weight
			}
		}
		hops := hopsOf(state, service.Name)
		var all []control.Backend
		for place, b := range output.Places {
			if b.Name == "" {
				continue
			}
			entry := backendOf(&b)
			entry.Service, entry.Weight = service.Name, weights[b.Name]
			if flows := f.flows[service.Name]; place < len(flows) {
				entry.Flows = flows[place]
			}
			if b.State == balance.StateDrained && (b.Slots+b.Leaving+entry.Flows > 0 || output.Moving > 0) {
				entry.State = backendDraining
			}
			if b.State == balance.StateFailing {
				entry.Why = f.attempts.back(entry.Service, entry.Name, entry.Why)
			}
			if loads := f.loads[service.Name]; place < len(loads) {
				entry.Connections, entry.MaxConn = &loads[place], most[b.Name]
			}
			if place < len(hops) {
				entry.Hop = hopOf(hops[place].Hop)
			}
			all = append(all, entry)
		}
		for _, b := range service.Backends {
			if b.Down {
				all = append(all, control.Backend{
					Service: service.Name, Name: b.Name, Address: b.Address, State: backendOut, Why: "by the configuration", Weight: b.Weight,
				})
			}
		}
		s.Backends = append(s.Backends, all...)
		s.Problems = append(s.Problems, backendProblems(service.Name, all)...)
	}
}

// hopsOf are the backends of a service as the datapath has them.
func hopsOf(state *lb.State, service string) []lb.Backend {
	if state == nil {
		return nil
	}
	for i := range state.Services {
		if state.Services[i].Name == service {
			return state.Services[i].Backends // all VIPs have the same
		}
	}
	return nil
}

func hopOf(h *lb.NextHop) *control.Hop {
	if h == nil {
		return nil
	}
	return &control.Hop{Interface: h.Interface, MAC: h.MAC.String(), Source: h.Source, MTU: h.MTU}
}

func backendOf(b *balance.Place) control.Backend {
	return control.Backend{
		Name: b.Name, Address: b.Addr, Port: b.Port, State: b.State.String(), Why: b.Why, Effective: b.Weight,
		Share: float64(b.Slots) / lb.Slots, Leaving: float64(b.Leaving) / lb.Slots,
	}
}

// States of backends that those of balance do not tell apart, or do not know.
const (
	backendDraining = "draining" // of weight 0, and may have flows: those of a slot that moves are not all known
	backendOut      = "out"      // the configuration says that it is down
)

// listed is how many backends of a service are named each by itself when they are down.
const listed = 4

// backendProblems says what is wrong with the backends of a service, the worst first.
func backendProblems(service string, all []control.Backend) (problems []string) {
	usable := func(b control.Backend) bool { return b.Share > 0 }
	if !slices.ContainsFunc(all, usable) {
		problems = append(problems, fmt.Sprintf("service %s: no backend takes new flows", service))
	}
	var down []control.Backend
	for _, b := range all {
		switch b.State {
		case balance.StateDown.String():
			down = append(down, b)
		case balance.StateFailing.String():
			problems = append(problems, fmt.Sprintf("service %s: backend %s is failing: %s", service, b.Name, b.Why))
		}
	}
	if len(down) > listed {
		return append(problems, fmt.Sprintf("service %s: %d of %d backends are down, %s among them: %s",
			service, len(down), len(all), down[0].Name, down[0].Why))
	}
	for _, b := range down {
		problems = append(problems, fmt.Sprintf("service %s: backend %s is down: %s", service, b.Name, b.Why))
	}
	return problems
}

// backendsChanged tells which backends of a service are in another state than before. That they are up
// when a service begins is no news.
func (p *planner) backendsChanged(service string, before, after []balance.Place) {
	known := make(map[string]balance.State)
	for i := range before {
		known[before[i].Name] = before[i].State
	}
	for i := range after {
		b := &after[i]
		was, ok := known[b.Name]
		if b.Name == "" || was == b.State && (ok || before == nil) {
			continue
		}
		name := store.BackendName{Service: service, Backend: b.Name}
		p.opts.Log.Info("backend", "service", service, "backend", b.Name, "state", b.State.String(), "reason", b.Why)
		p.events.add(control.Event{Kind: "backend", Node: p.cfg.Node, What: fmt.Sprintf("backend %s is %s", name, b.State), Why: b.Why})
	}
}

func backendDecision(r control.BackendRequest) string {
	switch {
	case r.Drain != nil && *r.Drain:
		return "drains"
	case r.Drain != nil:
		return "takes new flows again"
	case r.Disable != nil && *r.Disable:
		return "is disabled"
	case r.Disable != nil:
		return "is enabled"
	case r.Weight != nil:
		return fmt.Sprintf("has weight %d", *r.Weight)
	case r.MaxConn != nil && *r.MaxConn == 0:
		return "has any number of connections"
	case r.MaxConn != nil:
		return fmt.Sprintf("has at most %d connections", *r.MaxConn)
	case r.ResetMaxConn:
		return "has the maxconn of its configuration"
	}
	return "has the weight of its configuration"
}
