package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/passage"
	"github.com/lbctl/lbctl/internal/probe"
)

// A dialler connects checks to VIPs at the backend that they are about. It is safe for concurrent use.
type dialler struct {
	passage *passage.Passage
	ways    *nexthop.Resolver

	mu    sync.Mutex
	own   []netip.Addr // of this node
	known map[probe.Subject]passage.Way
}

func newDialler(log *slog.Logger, ways *nexthop.Resolver) *dialler {
	return &dialler{passage: passage.New(log), ways: ways}
}

// use takes the backends of a configuration.
func (d *dialler) use(cfg *config.Config) {
	known := make(map[probe.Subject]passage.Way)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Forward == lb.ForwardLocal {
			continue
		}
		for _, b := range serversOf(s) {
			known[probe.Subject{Service: s.Name, Backend: b.Name}] = passage.Way{Backend: b.Address, Forward: s.Forward, Encap: s.Encap}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = known
	for i := range cfg.Nodes {
		if cfg.Nodes[i].Name == cfg.Node {
			d.own = cfg.Nodes[i].Addresses
		}
	}
}

// dial is a probe.Options.Dial.
func (d *dialler) dial(ctx context.Context, check probe.Check, network string) (net.Conn, error) {
	d.mu.Lock()
	way, known := d.known[probe.Subject{Service: check.Service, Backend: check.Backend}]
	own := d.own
	d.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("backend %s is not configured", check.Backend)
	}
	near := d.ways.Ways()[way.Backend]
	if near.Problem != "" {
		return nil, errors.New(near.Problem)
	}
	way.Hop, way.Source = near.Hop, sourceFor(check.Target.Addr(), near.Hop, own)
	return d.passage.Dial(ctx, network, check.Target, way)
}

// sourceFor is the address that a backend answers to: this machine's towards it, or, if the VIP is of
// the other family, one of those that the other nodes know.
func sourceFor(vip netip.Addr, hop *lb.NextHop, own []netip.Addr) netip.Addr {
	if hop != nil {
		own = append([]netip.Addr{hop.Source}, own...)
	}
	for _, addr := range own {
		if addr.Is4() == vip.Is4() {
			return addr
		}
	}
	return netip.Addr{}
}
