package member

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/sockets"
)

// A Place is a service at one VIP: which connections are its own, and what bucket each is in.
type Place struct {
	VIP      netip.Addr
	Protocol lb.Protocol // ProtocolAny takes what no other place of the VIP names
	Ports    []lb.PortRange
	Hash     lb.HashFields
	Domain   string
}

// count looks at the connections to the VIPs. Buckets that are marked for the sake of connections
// that are over need the mark no longer.
func (m *Member) count(ctx context.Context) {
	var places []Place
	var seed [32]byte
	var marked map[string]ownership.Set
	if m.within(ctx, func() { places, seed, marked = m.wishes.Places, m.wishes.Seed, m.marked() }) != nil {
		return
	}
	connections, err := sockets.Connections(sockets.Filter{Local: vipsOf(places)})
	if err != nil {
		m.opts.Log.Warn("connections are not counted; buckets stay marked", "err", err)
		return
	}
	busy := busyBuckets(connections, places, flowhash.NewKeys(seed))
	tcp := 0
	for _, c := range connections {
		if c.Protocol == lb.ProtocolTCP {
			tcp++
		}
	}
	m.mu.Lock()
	m.own.Connections = tcp
	m.mu.Unlock()
	_ = m.within(ctx, func() { m.counted(busy, marked) })
	m.hush(ctx, places, flowhash.NewKeys(seed))
	m.kill(places)
}

// kill closes what connections are left when an operator's patience is over.
func (m *Member) kill(places []Place) {
	admin := m.opts.Store.Admins()[m.opts.Machine.Name]
	if !admin.Drain || admin.KillAt.IsZero() || time.Now().Before(admin.KillAt) {
		return
	}
	closed, err := sockets.Destroy(sockets.Filter{Local: vipsOf(places)}, nil)
	if err != nil {
		m.opts.Log.Error("connections are not closed", "err", err)
	}
	if closed > 0 {
		m.opts.Log.Warn("connections closed: the drain took too long", "connections", closed)
	}
}

// inherit tells the machine that this node may have connections everywhere, from before its life. Where
// it has none is found when they are counted: by then the kernel takes no new ones for that life.
func (m *Member) inherit() {
	var all ownership.Set
	for b := range m.opts.Machine.Buckets {
		all.Add(b)
	}
	for _, domain := range slices.Sorted(maps.Keys(m.wishes.Domains)) {
		m.handle(ownership.Inherited{Domain: domain, Set: all})
	}
}

// marked returns the buckets that were given up, by domain.
func (m *Member) marked() map[string]ownership.Set {
	marked := make(map[string]ownership.Set)
	for domain := range m.wishes.Domains {
		marked[domain] = m.machine.Table(domain).MaybeLocal
	}
	return marked
}

// counted tells the machine which of the buckets that were marked before the connections were listed
// have none, and where connections are that came while another node handed buckets over, but in vain.
func (m *Member) counted(busy, marked map[string]ownership.Set) {
	for domain := range m.wishes.Domains {
		view := m.machine.Table(domain)
		if idle := marked[domain].And(view.MaybeLocal).Without(busy[domain]); !idle.Empty() {
			m.handle(ownership.Drained{Domain: domain, Set: idle})
		}
		var stray ownership.Set
		for b := range busy[domain].Without(view.MaybeLocal).All() {
			if view.Verbs[b] == ownership.Ignore {
				stray.Add(b)
			}
		}
		if !stray.Empty() {
			m.handle(ownership.Inherited{Domain: domain, Set: stray})
		}
	}
}

func vipsOf(places []Place) []netip.AddrPort {
	var all []netip.AddrPort
	for i := range places {
		all = append(all, netip.AddrPortFrom(places[i].VIP, 0))
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// busyBuckets returns the buckets that connections are in, by domain.
func busyBuckets(connections []sockets.Connection, places []Place, keys flowhash.Keys) map[string]ownership.Set {
	busy := make(map[string]ownership.Set)
	for _, c := range connections {
		p := placeOf(places, c)
		if p == nil {
			continue
		}
		mask := flowhash.NewMask(p.Hash, c.Remote.Addr().Is4())
		set := busy[p.Domain]
		set.Add(flowhash.Bucket(keys.Sum(mask, c.Remote.Addr(), c.Remote.Port(), c.Local.Port())))
		busy[p.Domain] = set
	}
	return busy
}

// placeOf finds the service of a connection: the narrowest range of ports wins, as in the datapath.
func placeOf(places []Place, c sockets.Connection) *Place {
	var best *Place
	width := 1 << 17
	for i := range places {
		p := &places[i]
		if w, takes := lb.Takes(p.Protocol, p.Ports, c.Protocol, c.Local.Port()); takes && p.VIP == c.Local.Addr() && w < width {
			best, width = p, w
		}
	}
	return best
}
