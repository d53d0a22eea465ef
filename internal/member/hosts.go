package member

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
		for name := range unanswered {
			if _, still := silent[name]; !still {
				delete(unanswered, name)
			}
		}
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

// silent returns where the peers are that neither gossip nor heartbeats bring.
func (m *Member) silent() map[string]netip.AddrPort {
	silent := make(map[string]netip.AddrPort)
	for _, p := range m.cluster.Peers() {
		if m.sights[p.Name].silent && p.Addr.IsValid() {
			silent[p.Name] = p.Addr
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
