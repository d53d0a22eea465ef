package member

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

// Wishes are what this node wants of the cluster, as its configuration and its checks say.
type Wishes struct {
	Weight   int                       // of the configuration
	Domains  map[string]health.Service // what checks and agents say, of each domain that is served
	MinNodes map[string]int            // healthy nodes below which a domain's health is ignored
	Wholes   map[string]Whole          // domains that one node has as a whole
	Places   []Place                   // where flows of the domains end
	Seed     [32]byte                  // of the flow hash
	Ready    bool                      // everything is installed
}

// A Whole is a domain of a VIP that one node at a time announces.
type Whole struct {
	VIP      netip.Addr
	Priority int  // 0..ownership.MaxPriority
	Stay     bool // who has it keeps it when one of a higher priority comes
}

// Wish replaces what this node wants.
func (m *Member) Wish(ctx context.Context, w Wishes) error {
	return m.within(ctx, func() {
		m.wishes = w
		m.wish()
	})
}

// wish tells the machine what this node wants, after what operators decided about it.
func (m *Member) wish() {
	domains, sick := m.wishes.weights(m.opts.Store.Admins()[m.opts.Machine.Name], m.opts.Store.VIPMoves())
	m.mu.Lock()
	m.own.Sick = sick
	m.mu.Unlock()
	if !maps.Equal(domains, m.wished) {
		m.wished = domains
		m.handle(ownership.Weights{Domains: domains})
	}
	m.present()
}

// present says that this node is ready, once everything is installed and the kernel takes no flow any
// more that a life before this process would have taken.
func (m *Member) present() {
	if m.ready || !m.wishes.Ready || !m.work.cleared() {
		return
	}
	m.ready = true
	m.handle(ownership.Ready{})
}

// weights returns what the node wants of each domain, after what operators decided, and what its checks
// find wrong.
func (w *Wishes) weights(
	admin store.NodeAdmin, moves map[netip.Addr]store.VIPMove,
) (domains map[string]ownership.Weight, sick []string) {
	domains = make(map[string]ownership.Weight, len(w.Domains))
	wrong := make(map[string]bool)
	for name, service := range w.Domains {
		service.Weight = w.Weight
		if admin.Weight != nil {
			service.Weight = *admin.Weight
		}
		if admin.Drain || admin.Removed {
			service.Admin = health.AdminDrain
		}
		verdict := service.Verdict()
		domains[name] = ownership.Weight{
			Weight: verdict.Weight, Healthy: verdict.Healthy, MinNodes: max(1, w.MinNodes[name]), Whole: w.whole(name, moves),
		}
		if !verdict.Healthy {
			service.Admin = health.AdminReady // what people decided is no sickness
			wrong[name+": "+service.Verdict().Reason] = true
		}
	}
	return domains, slices.Sorted(maps.Keys(wrong))
}

// whole adds what people decided about a VIP to what its domain is.
func (w *Wishes) whole(domain string, moves map[netip.Addr]store.VIPMove) ownership.Whole {
	whole, is := w.Wholes[domain]
	if !is {
		return ownership.Whole{}
	}
	move := moves[whole.VIP]
	return ownership.Whole{
		Is: true, Priority: whole.Priority, Stay: whole.Stay,
		Choice: ownership.Choice{Number: uint64(move.Stamp), Node: move.Node},
	}
}

// Reconfigure tells the machine of another configuration.
func (m *Member) Reconfigure(ctx context.Context, r ownership.Reconfigured, nodes []lb.Node) error {
	return m.within(ctx, func() {
		m.opts.Nodes = nodes
		m.handle(r)
	})
}
