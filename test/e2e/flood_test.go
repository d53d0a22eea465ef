package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

// kindsOfFloods by turns are the worst: what one kind leaves the next one finds.
var kindsOfFloods = []string{"syn", "ack", "udp"}

// floodRate leaves the machine time for the rest of the test. A frame to all is one for each of the seven
// hosts, and a director that forwards it makes another.
const floodRate = 8000

// besideFlood is a load of people while there is a flood at some addresses, and what else is done.
func (f *farm) besideFlood(t *testing.T, from *netlab.Host, opts floodOptions, do func()) report {
	t.Helper()
	load := &standardLoad{servers: f.load.servers}
	load.startClient(t, f.client, clientOptions{Held: 500, Every: time.Second, Rate: 100, Flows: 20})
	flood := startFlood(t, from, opts)
	do()
	what := finish[flooded](t, flood)
	t.Logf("flood: %s, %d refused here", what, what.Refused)
	if what.Sent < 1000 {
		t.Error("that is no flood")
	}
	return load.stop(t)
}

// wantThrough fails the test when the flood broke anything that was established, or kept out more than
// a hundredth of the new connections that came through beside a flood of the same rate that nobody took.
func (r report) wantThrough(t *testing.T, floor report) {
	t.Helper()
	lost := func(r report) float64 {
		return float64(r.SynRetransmits+r.Broken-r.BrokenHeld) / float64(r.Made)
	}
	t.Logf("new connections whose first SYN was lost, or that broke: %.2f %% of %d beside a flood that nobody takes, %.2f %% of %d beside this one; established ones that broke: %d and %d of %d",
		100*lost(floor), floor.Made, 100*lost(r), r.Made, floor.BrokenHeld, r.BrokenHeld, r.Held)
	if r.BrokenHeld != 0 || r.DuplicateSynAcks != 0 {
		t.Errorf("%d established connections broke, %d SYNs were answered by two\n%s", r.BrokenHeld, r.DuplicateSynAcks, strings.Join(r.Notes, "\n"))
	}
	if r.Made < 100 || lost(r) > lost(floor)+0.01 {
		t.Errorf("more than 1 %% of %d new connections lost their first SYN, or broke\n%s", r.Made, strings.Join(r.Notes, "\n"))
	}
}

// flooders are the clients from made-up sources that a director remembers.
func (n *node) flooders(t *testing.T) (all, madeUp int) {
	t.Helper()
	for _, flow := range parse[[]struct{ Client string }](t, n.lbctl(t, "flows -o json")) {
		all++
		if strings.HasPrefix(flow.Client, "10.") || strings.HasPrefix(flow.Client, "[2001:db8:f:") {
			madeUp++
		}
	}
	return all, madeUp
}

// While slots change their backends, and buckets their director, packets leave something behind. A flood
// does, too, and must neither fill what there is nor push out what is alive.
func TestFloodsBreakNothing(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			f := newFarm(t, farmOptions{forward: forward, directors: 2, weights: []int{100, 100, 100}, tuning: unhurried, serving: true})
			from := f.flooder(t)
			opts := floodOptions{Kinds: kindsOfFloods, To: atVIPs(false), Rate: floodRate, Most: 1_000_000}
			floor := f.besideFlood(t, from, opts, func() { time.Sleep(2 * time.Second) })
			opts.To = atVIPs(true)
			r := f.besideFlood(t, from, opts, func() {
				time.Sleep(time.Second)
				f.admin(t, "drain", "b2", "--detach")
				f.awaitState(t, "b2", "draining")
				time.Sleep(time.Second)
				f.drain(t, f.nodes[0], "n2")
				f.undrain(t, f.nodes[0], "n2")
				for _, n := range f.nodes {
					all, madeUp := n.flooders(t)
					t.Logf("%s remembers %d flows, %d of the flood", n.name, all, madeUp)
					if all == 0 || madeUp > 10 {
						t.Errorf("%s remembers %d flows, %d of the flood: want some, next to none", n.name, all, madeUp)
					}
				}
				f.admin(t, "undrain", "b2", "")
				f.awaitState(t, "b2", "up")
				time.Sleep(time.Second)
			})
			r.wantThrough(t, floor)
			for _, n := range f.nodes {
				if got := n.counted(t, "forwarded"); got < 1000 {
					t.Errorf("%s forwarded %d frames: that is no flood", n.name, got)
				}
			}
		})
	}
}

// Nothing on this side proves a source that sends twice. What it leaves fills no backend, takes no port of
// full NAT, and keeps nobody out.
func TestFloodsOfPairsFillNothing(t *testing.T) {
	const most = 400 // of 500 connections that are held, and some more, at three backends
	scheduled := farmOptions{forward: "dr", directors: 2, weights: three, tuning: unhurried, serving: true, check: ", scheduler: round-robin"}
	sourced := fullNAT("multicast")
	sourced.serving = true
	for name, opts := range map[string]farmOptions{"round-robin": scheduled, "full NAT": sourced} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t, opts)
			from := f.flooder(t)
			if name == "round-robin" {
				for _, b := range f.backends {
					f.admin(t, "maxconn", b.name, strconv.Itoa(most))
				}
			}
			flood := floodOptions{Kinds: []string{"syn+ack", "udp+udp"}, To: atVIPs(false), Rate: floodRate, Most: 1_000_000}
			floor := f.besideFlood(t, from, flood, func() { time.Sleep(2 * time.Second) })
			flood.To = atVIPs(true)
			r := f.besideFlood(t, from, flood, func() { time.Sleep(4 * time.Second) })
			r.wantThrough(t, floor)
			for _, n := range f.nodes {
				all, madeUp := n.flooders(t)
				t.Logf("%s remembers %d flows, %d of the flood", n.name, all, madeUp)
				for _, reason := range []string{"full", "no-port"} {
					if got := n.counted(t, reason); got != 0 {
						t.Errorf("%s dropped %d frames: %s", n.name, got, reason)
					}
				}
				if got := n.counted(t, "forwarded"); got < 1000 {
					t.Errorf("%s forwarded %d frames: that is no flood", n.name, got)
				}
			}
		})
	}
}

// As fast as one processor sends. What is lost then is lost on the way: the machine has other work, and
// queues end; the same is lost beside a flood that no director takes. What is established goes on.
func TestFloodAtFullSpeed(t *testing.T) {
	f := newFarm(t, farmOptions{forward: "dr", directors: 2, weights: []int{100, 100, 100}, tuning: unhurried, serving: true})
	from := f.flooder(t)
	var lost [2]float64
	for i, served := range []bool{false, true} {
		r := f.besideFlood(t, from, floodOptions{Kinds: kindsOfFloods, To: atVIPs(served), Most: 2_000_000}, func() {
			if served {
				f.admin(t, "drain", "b2", "--detach")
			}
			time.Sleep(2 * time.Second)
		})
		if r.BrokenHeld != 0 || r.DuplicateSynAcks != 0 {
			t.Errorf("served %v: %d established connections broke, %d SYNs were answered by two\n%s", served, r.BrokenHeld, r.DuplicateSynAcks, strings.Join(r.Notes, "\n"))
		}
		lost[i] = 100 * float64(r.SynRetransmits+r.Broken-r.BrokenHeld) / float64(max(r.Made, 1))
	}
	var forwarded uint64
	for _, n := range f.nodes {
		forwarded += n.counted(t, "forwarded")
		if all, madeUp := n.flooders(t); madeUp > 10 {
			t.Errorf("%s remembers %d flows, %d of the flood", n.name, all, madeUp)
		}
	}
	t.Logf("SYNs sent again, or connections that broke, of 100 new ones: %.1f where nobody takes the flood, %.1f where directors do; they forwarded %d frames", lost[0], lost[1], forwarded)
}
