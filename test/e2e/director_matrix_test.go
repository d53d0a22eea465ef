package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/nettest"
)

// forwards are the ways of forwarding that are tested alike.
var forwards = []string{"dr", "tunnel", "nat"}

// ways are the same with what they may differ in. VIPs are of both families, so tunnels of one carry
// packets of either.
var ways = []struct {
	name, forward, encap string
	six                  func(backend int) bool
}{
	{name: "dr", forward: "dr", six: second},
	{name: "tunnel in IPv4", forward: "tunnel"},
	{name: "tunnel in IPv6", forward: "tunnel", six: func(int) bool { return true }},
	{name: "gue", forward: "tunnel", encap: "gue", six: second},
	{name: "nat", forward: "nat"},
}

func second(backend int) bool { return backend == 1 }

// Whatever brings packets to the directors, and however those bring them to the backends, a client gets
// one answer to everything, by the backend that the weights say, and whole however narrow the way is.
func TestEveryWayToBackends(t *testing.T) {
	for _, way := range ways {
		for _, announce := range []string{"multicast", "failover", "none"} {
			t.Run(way.name+" by "+announce, func(t *testing.T) {
				t.Parallel()
				f := newFarm(t, farmOptions{
					forward: way.forward, encap: way.encap, six: way.six, announce: announce,
					directors: 2, weights: []int{100, 100, 200}, tuning: unhurried,
				})
				f.wantAnswers(t)
				for i, n := range f.nodes {
					if (n.counted(t, "forwarded") > 5000) != (announce != "failover" || i == 0) {
						t.Errorf("%s forwarded %d packets", n.name, n.counted(t, "forwarded"))
					}
				}
				f.wantTunnels(t)
			})
		}
	}
}

// bring makes the way of the clients to the VIPs, and back: of one on the link and one that is far away.
// With announce: none somebody else brings the packets, here those of each family to one director.
func (f *farm) bring(t *testing.T) *path {
	t.Helper()
	p := f.newPath(t)
	for i, n := range f.nodes {
		n.routeFar()
		if f.opts.announce == "none" {
			mac, err := n.host.MAC("eth0")
			check(t, err)
			vip := []netip.Addr{vip4, vip6}[i]
			check(t, f.client.Neighbour("eth0", vip, mac))
			check(t, p.near.Neighbour("eth0", vip, mac))
		}
	}
	for i, b := range f.backends {
		if f.opts.sourceNAT {
			continue // what they answer is for the VIP
		}
		if f.opts.forward == "nat" {
			f.replyBy(b, i, far4, far6)
		} else {
			b.routeFar()
		}
	}
	return p
}

// wantAnswers has all backends serve, and the clients ask for everything that there is.
func (f *farm) wantAnswers(t *testing.T) {
	t.Helper()
	p := f.bring(t)
	for _, b := range f.backends {
		b.serve()
		b.send(transfer)
	}
	f.wantConnections(t)
	f.wantDatagrams(t)
	f.wantPings(t)
	f.wantTransfers(t, p)
}

func (f *farm) wantConnections(t *testing.T) {
	t.Helper()
	const total = 5000 // of each family
	tap := newTap(t, f.client)
	for _, vip := range []netip.Addr{vip4, vip6} {
		answers := f.connections(t, vip, 20000, total)
		f.wantShares(t, answers, 0.1)
		t.Logf("%s: %v", vip, answers)
	}
	if handshakes, doubled := tap.duplicates(); handshakes != 2*total || doubled != 0 || tap.resent() != 0 {
		t.Errorf("%d handshakes, %d answered twice, %d SYNs sent again; want %d, 0 and 0", handshakes, doubled, tap.resent(), 2*total)
	}
}

// wantDatagrams also sends some of 8,000 bytes, which are six fragments that follow the first one.
func (f *farm) wantDatagrams(t *testing.T) {
	t.Helper()
	const flows = 100
	for _, vip := range []netip.Addr{vip4, vip6} {
		// the first fragments that are too large for the tunnel of each backend are lost, and the client
		// learns from that
		for i := range 20 {
			nettest.Eventually(t, 20*time.Second, func() error {
				_, err := f.question(vip, 31000+i, 8000, time.Second)
				return err
			})
		}
	}
	tap := newTap(t, f.client)
	for _, vip := range []netip.Addr{vip4, vip6} {
		for _, size := range []int{100, 8000} {
			answers := make(map[string]int)
			for i := range flows {
				answers[f.datagram(t, vip, 30000+i, size)]++
			}
			if len(answers) != len(f.backends) {
				t.Errorf("%s, %d bytes: answered by %v, want all", vip, size, answers)
			}
		}
	}
	time.Sleep(200 * time.Millisecond) // for answers that should not come
	tap.mu.Lock()
	defer tap.mu.Unlock()
	for i := range flows {
		if n := tap.udp[uint16(30000+i)]; n != 4 {
			t.Errorf("port %d: %d datagrams in answer to 4", 30000+i, n)
		}
	}
}

// wantPings are answered by a director: the backends' ability to do so says nothing about the VIP.
func (f *farm) wantPings(t *testing.T) {
	t.Helper()
	const pings = 50 // of each family
	tap := newTap(t, f.client)
	for _, vip := range []netip.Addr{vip4, vip6} {
		for i := range pings {
			f.ping(t, vip, i, 56)
		}
	}
	time.Sleep(100 * time.Millisecond) // for answers that should not come
	tap.mu.Lock()
	defer tap.mu.Unlock()
	for id, n := range tap.echoes {
		if n != 1 {
			t.Errorf("ping %s: %d replies", id, n)
		}
	}
	if len(tap.echoes) != 2*pings {
		t.Errorf("%d pings answered, want %d", len(tap.echoes), 2*pings)
	}
}

const transfer = 300_000 // bytes

// wantTransfers has both clients send and receive what needs to know how narrow the way is: the client
// on the link is told, by the VIP, what fits into a tunnel. The other one is behind a router that tells
// the VIP, which a director has; the backend that sends must hear it.
func (f *farm) wantTransfers(t *testing.T, p *path) {
	t.Helper()
	const each = 10
	far := &cluster{client: p.far}
	for _, vip := range []netip.Addr{vip4, vip6} {
		for i := range each { // before the client finds out by itself
			if got := p.receive(t, vip, 41000+i); got != transfer {
				t.Fatalf("%s, transfer %d: %d bytes, want %d", vip, i, got, transfer)
			}
		}
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		source := far4
		if vip.Is6() {
			source = far6
		}
		for i := range each {
			f.echo(t, "tcp", at(clientAddr(vip), 40000+i), at(vip, port), transfer)
			far.echo(t, "tcp", at(source, 40000+i), at(vip, port), transfer)
		}
	}
	for _, b := range f.backends {
		to := []netip.Addr{far4, far6}
		if f.opts.sourceNAT {
			to = []netip.Addr{vip4, vip6}
		}
		if b.pathMTUs(t, to) == 0 {
			t.Errorf("%s was told of no narrow path", b.name)
		}
	}
	told := uint64(0)
	for _, n := range f.nodes {
		told += n.counted(t, "too-big-answered")
	}
	if (told > 0) != (f.opts.forward == "tunnel") {
		t.Errorf("the client was told %d times that a packet is too big", told)
	}
}

// wantTunnels fails the test when a backend of a tunnel was sent what its lbd does not take.
func (f *farm) wantTunnels(t *testing.T) {
	t.Helper()
	if f.opts.forward != "tunnel" {
		return
	}
	for _, b := range f.backends {
		status, err := b.status()
		check(t, err)
		unwrapped := uint64(0)
		for _, counted := range status.RealServer.Tunnels {
			if counted.Verdict == "drop" || counted.Reason == "stranger" {
				t.Errorf("%s: %s: %d packets", b.name, counted.Reason, counted.Packets)
			}
			if counted.Reason == "unwrapped" {
				unwrapped = counted.Packets
			}
		}
		if unwrapped < 5000 {
			t.Errorf("%s: %d packets came out of tunnels", b.name, unwrapped)
		}
	}
}

// pathMTUs returns how many destinations a machine knows a smaller MTU to, as an ICMP error said.
func (n *node) pathMTUs(t *testing.T, to []netip.Addr) (known int) {
	t.Helper()
	check(t, n.host.Do(func() error {
		for _, dst := range to {
			routes, err := netlink.RouteGet(net.IP(dst.AsSlice()))
			if err != nil {
				return fmt.Errorf("route to %s: %w", dst, err)
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
