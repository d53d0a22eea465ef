package member

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
)

const (
	knockEvery = 250 * time.Millisecond
	knockTime  = 300 * time.Millisecond // for an answer on a LAN, an ARP request included
	// knocks without an answer in a row, before a machine counts as gone. A wrong answer costs its
	// clients a reset.
	knocks = 2
)

// knock asks the machines of silent peers whether they are there. The kernel of one that lost its
// lbd alone refuses a connection to the gossip port, and goes on with the flows that it has; one that
// does not answer has none that could be kept.
func (m *Member) knock(ctx context.Context) error {
	tick := time.NewTicker(knockEvery)
	defer tick.Stop()
	unanswered := make(map[string]int)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var silent map[string]netip.AddrPort
		if m.within(ctx, func() { silent = m.silent() }) != nil {
			return nil
		}
		m.heardAgain(ctx, unanswered, silent)
		answers := knockAll(ctx, silent)
		for name, answered := range answers {
			if answered {
				unanswered[name] = 0
			} else {
				unanswered[name]++
			}
		}
		_ = m.within(ctx, func() {
			for name := range answers {
				m.handle(ownership.HostAnswers{Peer: name, Answers: unanswered[name] < knocks})
			}
		})
	}
}

// heardAgain forgets what was counted of those who are not silent any more: their machines are there.
func (m *Member) heardAgain(ctx context.Context, unanswered map[string]int, silent map[string]netip.AddrPort) {
	for name, missed := range unanswered {
		if _, still := silent[name]; still {
			continue
		}
		delete(unanswered, name)
		if missed >= knocks {
			_ = m.within(ctx, func() { m.handle(ownership.HostAnswers{Peer: name, Answers: true}) })
		}
	}
}

// silent returns where the peers are that neither gossip nor heartbeats bring.
func (m *Member) silent() map[string]netip.AddrPort {
	return silentPeers(m.cluster.Peers(), m.opts.Nodes, m.opts.Machine.Name, m.opts.Cluster.Bind.Port(), m.sights)
}

// silentPeers are those that were heard once, and those of the configuration that never were: a process
// before us may have known them.
func silentPeers(
	gossip []cluster.Peer, nodes []lb.Node, self string, port uint16, seen map[string]sighting,
) map[string]netip.AddrPort {
	silent := make(map[string]netip.AddrPort)
	for _, n := range nodes {
		if s, known := seen[n.Name]; n.Name != self && len(n.Addrs) > 0 && (s.silent || !known) {
			silent[n.Name] = netip.AddrPortFrom(n.Addrs[0], port)
		}
	}
	for _, p := range gossip {
		if seen[p.Name].silent && p.Addr.IsValid() {
			silent[p.Name] = p.Addr // where it was
		}
	}
	return silent
}

func knockAll(ctx context.Context, at map[string]netip.AddrPort) map[string]bool {
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := make(map[string]bool, len(at))
	for name, addr := range at {
		wg.Go(func() {
			answered := hostAnswers(ctx, addr)
			mu.Lock()
			defer mu.Unlock()
			answers[name] = answered
		})
	}
	wg.Wait()
	return answers
}

// hostAnswers says whether there is a TCP stack at an address.
func hostAnswers(ctx context.Context, addr netip.AddrPort) bool {
	dialer := net.Dialer{Timeout: knockTime}
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err == nil {
		conn.Close()
		return true
	}
	return errors.Is(err, unix.ECONNREFUSED)
}
