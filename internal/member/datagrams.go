package member

import (
	"context"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/sockets"
)

// hush tells the machine which buckets have no UDP flow left that was noted when they were given up:
// their owner decides about all of it from then on.
func (m *Member) hush(ctx context.Context, places []Place, keys flowhash.Keys) {
	kept := make(map[string]ownership.Set)
	if m.within(ctx, func() {
		for domain := range m.wishes.Domains {
			if set := m.machine.Table(domain).UDPKept; !set.Empty() {
				kept[domain] = set
			}
		}
	}) != nil || len(kept) == 0 {
		return
	}
	flows, err := m.opts.UDPFlows()
	if err != nil {
		m.opts.Log.Warn("noted flows of UDP are not counted; they stay where they are", "err", err)
		return
	}
	var alive []sockets.Connection
	for _, f := range flows {
		if f.Silent <= m.opts.Machine.UDPIdle {
			alive = append(alive, sockets.Connection{Protocol: lb.ProtocolUDP, Local: f.Local, Remote: f.Remote})
		}
	}
	busy := busyBuckets(alive, places, keys)
	_ = m.within(ctx, func() {
		for domain, set := range kept {
			if quiet := set.Without(busy[domain]); !quiet.Empty() {
				m.handle(ownership.Quiet{Domain: domain, Set: quiet})
			}
		}
	})
}
