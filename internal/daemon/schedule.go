package daemon

import (
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/balance"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/store"
)

// remembers says whether a service has to know where each of its flows is, by its configuration and by
// what people decided.
func remembers(s *config.Service, admins map[store.BackendName]store.BackendAdmin) bool {
	limited := func(b config.Backend) bool { return maxConnOf(s, &b, admins) > 0 }
	return s.Scheduler != lb.SchedulerMaglev || s.Affinity > 0 || slices.ContainsFunc(s.Backends, limited)
}

// handshake is how long most clients take from a SYN to the next segment.
const handshake = 500 * time.Millisecond

// opening is for how long a connection may be opening at a place that other directors cannot know. It may be called
// from any goroutine.
func (f *forwarder) opening() time.Duration {
	if f.any.Load() {
		return handshake
	}
	return 0
}

// maxConnOf is how many connections people want a backend to have at most.
func maxConnOf(s *config.Service, b *config.Backend, admins map[store.BackendName]store.BackendAdmin) int {
	if admin := admins[store.BackendName{Service: s.Name, Backend: b.Name}]; admin.MaxConn != nil {
		return *admin.MaxConn
	}
	return b.MaxConn
}

// schedule adds to a target how the new flows of a service find their backends, if it remembers them. One
// that did goes on until all flows are where their slots say: else they would be torn from where they are.
func (f *forwarder) schedule(s *config.Service, places []balance.Place, admins map[store.BackendName]store.BackendAdmin) *lb.Schedule {
	if remembers(s, admins) {
		f.remember[s.Name] = true
	}
	if !f.remember[s.Name] {
		return nil
	}
	schedule := &lb.Schedule{Scheduler: s.Scheduler, Overflow: s.Overflow, Affinity: s.Affinity, Sorry: lb.NoBackend}
	orderer := f.orderers[s.Name]
	if orderer == nil {
		orderer = new(balance.Orderer)
		f.orderers[s.Name] = orderer
	}
	schedule.Order = orderer.Order(places, s.Scheduler)
	if s.Sorry != nil {
		says := func(p balance.Place) bool { return p.Name == s.Sorry.Name && !p.Dead }
		schedule.Sorry = int16(slices.IndexFunc(places, says)) // lb.NoBackend if there is none
	}
	return schedule
}

// weigh tells the backends of a target what bears on who gets a new flow.
func weigh(backends []lb.Backend, s *config.Service, places []balance.Place, admins map[store.BackendName]store.BackendAdmin) {
	most := make(map[string]int)
	for i := range s.Backends {
		most[s.Backends[i].Name] = maxConnOf(s, &s.Backends[i], admins)
	}
	for i := range places {
		if p := &places[i]; !p.Dead {
			backends[i].Weight, backends[i].MaxConn = p.Weight, most[p.Name]
		}
	}
}

// forgetful ends the memory of services that need none any more and have no flow left that is elsewhere
// than its slot says.
func (f *forwarder) forgetful(services []config.Service, admins map[store.BackendName]store.BackendAdmin, elsewhere map[string]bool) (changed bool) {
	for i := range services {
		s := &services[i]
		if f.remember[s.Name] && !elsewhere[s.Name] && !remembers(s, admins) {
			delete(f.remember, s.Name)
			changed = true
		}
	}
	return changed
}
