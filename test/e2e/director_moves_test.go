package e2e

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/nettest"
)

// forwardUnderLoad does something to a farm and returns what the client of the standard load went
// through.
func forwardUnderLoad(t *testing.T, opts farmOptions, do func(f *farm, load *standardLoad)) report {
	t.Helper()
	if opts.directors == 0 {
		opts.directors = 2
	}
	opts.tuning = unhurried
	opts.serving = true
	f := newFarm(t, opts)
	f.load.startClient(t, f.client, standardAmount())
	time.Sleep(time.Second / 2)
	do(f, f.load)
	time.Sleep(time.Second / 2)
	return f.load.stop(t)
}

// Whatever operators do to backends, one after the other and at once, on one file and by hand: flows stay
// where they are as long as their backend lives.
func TestBackendsThatChangeBreakNothing(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			r := forwardUnderLoad(t, farmOptions{forward: forward, weights: four, spare: 1}, func(f *farm, _ *standardLoad) {
				f.admin(t, "drain", "b2", "--detach")
				f.awaitState(t, "b2", "draining")
				time.Sleep(2500 * time.Millisecond) // lines on the connections that b2 still has
				noted := parse[[]map[string]any](t, f.nodes[0].lbctl(t, "flows -o json"))
				if len(noted) == 0 {
					t.Error("no flow is remembered, although there are some of b2's")
				}
				f.admin(t, "undrain", "b2", "")
				f.awaitState(t, "b2", "up")
				f.reweigh(t, 50, 0, 200, 100) // less, drained, more and new
				f.awaitShares(t)
				f.reweigh(t, 100, 100, 100) // and back, without the new one
				for i := range 6 {
					f.admin(t, "weight", f.backends[i%3].name, fmt.Sprint(20+73*i%200))
					time.Sleep(200 * time.Millisecond) // one on top of the other
				}
				for _, b := range f.backends[:3] {
					f.admin(t, "weight", b.name, "config")
				}
			})
			r.wantUnharmed(t)
			if r.PerNode["b4"] == 0 {
				t.Errorf("the new backend got nothing: %v", r.PerNode)
			}
		})
	}
}

// often notices a server that died within a second.
const often = ", checks: [{type: tcp, port: 8080, interval: 250ms, timeout: 250ms, rise: 1, fall: 2}]"

// The connections that the killed one had cannot be kept, and until its check has noticed it may be
// asked for more. Nobody else's connections are touched: also those that others took in its place, when
// it comes back, and goes, and comes back.
func TestOnlyTheConnectionsOfAKilledBackendBreak(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			r := forwardUnderLoad(t, farmOptions{forward: forward, weights: three, check: often}, func(f *farm, load *standardLoad) {
				b2 := f.backends[1]
				var instead standardLoad
				for i := range 3 {
					load.servers["b2"].kill()
					start := time.Now()
					f.awaitState(t, "b2", "down")
					t.Logf("down everywhere after %s", time.Since(start).Round(time.Millisecond))
					if i == 0 {
						instead.startClient(t, f.client, clientOptions{Held: 300, Every: 500 * time.Millisecond})
					}
					load.servers["b2"] = startSide(t, b2.host, "server", serverOptions{Name: "b2", VIPs: b2.answersFor(), Port: port})
					f.awaitState(t, "b2", "up")
				}
				time.Sleep(time.Second)
				if r := instead.stop(t); r.Broken != 0 || r.Exchanges < 2*r.Held {
					t.Errorf("of %d connections in its place %d broke, %d lines were exchanged\n%q", r.Held, r.Broken, r.Exchanges, r.Notes)
				}
			})
			for name, n := range r.BrokenOf {
				if name != "b2" && name != "" { // "" is a connection that nobody answered
					t.Errorf("%d connections of %s broke\n%q", n, name, r.Notes)
				}
			}
			if r.BrokenOf["b2"] == 0 || r.DuplicateSynAcks != 0 {
				t.Errorf("broken: %v, answered twice: %d", r.BrokenOf, r.DuplicateSynAcks)
			}
		})
	}
}

// Directors have equal tables: a flow of the one that died is forwarded by another to the same backend,
// and by itself when it is back. It is also the one by which backends behind NAT reply.
func TestADirectorThatDiesBreaksNoConnection(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			forwardUnderLoad(t, farmOptions{forward: forward, gateway: forward == "nat", directors: 3, weights: three}, func(f *farm, _ *standardLoad) {
				f.firstDirectorDies(t)
			}).wantUnbroken(t)
		})
	}
}

// firstDirectorDies, is missed by the others, and comes back.
func (f *farm) firstDirectorDies(t *testing.T) {
	t.Helper()
	n := f.nodes[0]
	n.die(t, f.cluster)
	f.awaitMember(t, n.name, "down")
	f.agree(t, f.nodes[1:]...)
	time.Sleep(time.Second) // clients go on with the others
	n.revive(t, f.cluster)
	f.agree(t)
}

// die is the end of a machine that leaves no word: its lbd and its links are gone.
func (n *node) die(t testing.TB, c *cluster) {
	t.Helper()
	nettest.SetFaults(t, c.sw, apart(n)...)
	n.stop(syscall.SIGKILL)
}

func (n *node) revive(t testing.TB, c *cluster) {
	t.Helper()
	nettest.SetFaults(t, c.sw)
	n.start()
}

// While a bucket goes from one director to another both forward its packets for a moment, to the same
// backend: a datagram may come twice, but nothing is lost.
func TestADirectorThatIsDrainedBreaksNothing(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			r := forwardUnderLoad(t, farmOptions{forward: forward, gateway: forward == "nat", weights: three}, func(f *farm, _ *standardLoad) {
				f.drain(t, f.nodes[1], "n1")
				time.Sleep(time.Second)
				f.undrain(t, f.nodes[1], "n1")
			})
			r.DatagramsDoubled = 0
			r.wantUnharmed(t)
		})
	}
}

// With announce: none somebody else, a router say, brings the packets. It may bring the next one of a
// connection to another director: their tables are equal.
func TestWhoBringsThePacketsMayTurnToAnotherDirector(t *testing.T) {
	f := newFarm(t, farmOptions{forward: "dr", directors: 2, weights: []int{100, 100, 100}, announce: "none", tuning: unhurried})
	turnTo := func(n *node) {
		t.Helper()
		mac, err := n.host.MAC("eth0")
		check(t, err)
		for _, vip := range []netip.Addr{vip4, vip6} {
			check(t, f.client.Neighbour("eth0", vip, mac))
		}
	}
	turnTo(f.nodes[0])
	load := f.servers().startStandardLoad(t)
	for i := range 6 {
		time.Sleep(500 * time.Millisecond)
		turnTo(f.nodes[(i+1)%2])
	}
	time.Sleep(time.Second)
	load.stop(t).wantUnharmed(t)
	for _, n := range f.nodes {
		if n.counted(t, "forwarded") == 0 {
			t.Errorf("%s forwarded nothing", n.name)
		}
	}
}
