package member

import (
	"context"
	"maps"
	"time"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

// A Status is what people want to know.
type Status struct {
	Machine ownership.Status
	Lease   time.Duration // that is left; ownership.Forever without peers
	Facts   map[string]Facts
	Admins  map[string]store.NodeAdmin
	Gossip  cluster.Status
	Links   []heartbeat.Link
	Heard   [][]heartbeat.Peer // by link
}

// Status returns what is known now.
func (m *Member) Status(ctx context.Context) (Status, error) {
	s := Status{Admins: m.opts.Store.Admins(), Gossip: m.cluster.Status()}
	for _, link := range m.links {
		s.Links = append(s.Links, link.Link())
		s.Heard = append(s.Heard, link.Peers())
	}
	err := m.within(ctx, func() {
		m.machineMu.Lock()
		defer m.machineMu.Unlock()
		s.Machine = m.machine.Status(datapath.Monotonic())
		// the machine knows what should be, and the kernel follows
		s.Machine.Settled = s.Machine.Settled && m.work.applied()
	})
	s.Lease = s.Machine.Lease
	if s.Lease != ownership.Forever {
		s.Lease -= datapath.Monotonic()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Facts = maps.Clone(m.facts)
	s.Facts[m.opts.Machine.Name] = m.own
	return s, err
}

// Forget drops what is known of a peer that is gone for good.
func (m *Member) Forget(name string) error { return m.cluster.Forget(name) }
