package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// forwards are the ways of forwarding that are tested alike.
var forwards = []string{"dr", "tunnel", "nat"}

// Each connection is made once and answered by one backend, from the VIP, whichever director had its
// bucket; shares follow the weights.
func TestDirectorsForwardEveryConnectionToABackend(t *testing.T) {
	const total = 5000 // of each family
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			f := newFarm(t, farmOptions{forward: forward, directors: 2, weights: []int{100, 100, 200}})
			for _, b := range f.backends {
				b.serve()
			}
			tap := newTap(t, f.client)
			for _, vip := range []netip.Addr{vip4, vip6} {
				answers := f.connections(t, vip, 20000, total)
				f.wantShares(t, answers, 0.1)
				t.Logf("%s %s: %v", forward, vip, answers)
			}
			if handshakes, doubled := tap.duplicates(); handshakes != 2*total || doubled != 0 || tap.resent() != 0 {
				t.Errorf("%d handshakes, %d answered twice, %d SYNs sent again; want %d, 0 and 0", handshakes, doubled, tap.resent(), 2*total)
			}
			for _, n := range f.nodes {
				if n.counted(t, "forwarded") < total/2 {
					t.Errorf("%s forwarded %d packets: too few", n.name, n.counted(t, "forwarded"))
				}
			}
		})
	}
}

// datagramSizes are those that go through: 8,000 bytes are six fragments. The first ones that are too
// large for a tunnel are lost, and the client learns from that.
var datagramSizes = map[string][]int{"dr": {100, 8000}, "tunnel": {100, 1400}, "nat": {100, 8000}}

// Fragments follow the first one, and a director answers ping by itself: the backends' ability to do so
// says nothing about the VIP.
func TestDatagramsReachOneBackendAndPingsADirector(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			f := newFarm(t, farmOptions{forward: forward, directors: 2, weights: []int{100, 100, 100}})
			for _, b := range f.backends {
				b.serve()
			}
			tap := newTap(t, f.client)
			for _, vip := range []netip.Addr{vip4, vip6} {
				for _, size := range datagramSizes[forward] {
					answers := make(map[string]int)
					for i := range 200 {
						answers[f.datagram(t, vip, 30000+i, size)]++
					}
					if len(answers) != 3 {
						t.Errorf("%s, %d bytes: answered by %v, want all three", vip, size, answers)
					}
				}
				for i := range 100 {
					f.ping(t, vip, i, 56)
				}
			}
			time.Sleep(200 * time.Millisecond) // for answers that should not come
			tap.mu.Lock()
			defer tap.mu.Unlock()
			for p, n := range tap.udp {
				if p >= 30000 && p < 30200 && n != 4 {
					t.Errorf("port %d: %d datagrams in answer to 4", p, n)
				}
			}
			for id, n := range tap.echoes {
				if n != 1 {
					t.Errorf("ping %s: %d replies", id, n)
				}
			}
			if len(tap.echoes) != 200 {
				t.Errorf("%d pings answered, want 200", len(tap.echoes))
			}
		})
	}
}

// What is large comes whole, both ways: through a tunnel once the client has been told, by the VIP, what
// fits into it.
func TestLargeTransfersComeWhole(t *testing.T) {
	const transfers, size = 10, 200_000
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			f := newFarm(t, farmOptions{forward: forward, directors: 2, weights: []int{100, 100, 100}})
			for _, b := range f.backends {
				b.serve()
			}
			for _, vip := range []netip.Addr{vip4, vip6} {
				for i := range transfers {
					f.echo(t, "tcp", at(clientAddr(vip), 20000+i), at(vip, port), size)
				}
			}
			told := uint64(0)
			for _, n := range f.nodes {
				told += n.counted(t, "too-big-answered")
			}
			if (told > 0) != (forward == "tunnel") {
				t.Errorf("the client was told %d times that a packet is too big", told)
			}
		})
	}
}

// The router before the narrow link tells the VIP, which a director has: the backend that sends must
// hear it.
func TestPathMTUErrorsReachTheBackendThatSends(t *testing.T) {
	const transfers, size = 12, 200_000
	for _, forward := range forwards {
		if forward == "nat" {
			continue // the backends' way back is a director, which such an error does not have to pass
		}
		t.Run(forward, func(t *testing.T) {
			f := newFarm(t, farmOptions{forward: forward, directors: 2, weights: []int{100, 100, 100}})
			all := f.servers()
			for _, b := range f.backends {
				b.send(size)
			}
			all.nodes = append(all.nodes[:3:3], f.nodes...) // that know the way back
			p := all.farClient(t)
			for _, vip := range []netip.Addr{vip4, vip6} {
				for i := range transfers {
					if got := p.receive(t, vip, 20000+i); got != size {
						t.Errorf("%s, transfer %d: %d bytes, want %d", vip, i, got, size)
					}
				}
			}
			for _, b := range f.backends {
				if b.pathMTUs(t) == 0 {
					t.Errorf("%s was told of no narrow path", b.name)
				}
			}
		})
	}
}

// pathMTUs returns how many destinations a machine knows a smaller MTU to, as an ICMP error said.
func (n *node) pathMTUs(t *testing.T) (known int) {
	t.Helper()
	check(t, n.host.Do(func() error {
		for _, dst := range []string{"203.0.113.9", "2001:db8:2::9"} {
			routes, err := netlink.RouteGet(net.ParseIP(dst))
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.MTU == narrow {
					known++
				}
			}
		}
		return nil
	}))
	return known
}
