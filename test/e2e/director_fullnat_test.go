package e2e

import (
	"net/netip"
	"testing"
	"time"
)

// fullNAT is a farm whose backends know nothing of routes: they answer to the VIP, and all directors hear it,
// or the one that has the VIP.
func fullNAT(announce string) farmOptions {
	return farmOptions{
		forward: "nat", sourceNAT: true, announce: announce, directors: 2, weights: []int{100, 100, 200}, tuning: unhurried,
	}
}

func TestFullNATAnswersOnceAndWhole(t *testing.T) {
	for _, announce := range []string{"multicast", "failover"} {
		t.Run(announce, func(t *testing.T) {
			t.Parallel()
			f := newFarm(t, fullNAT(announce))
			f.wantAnswers(t)
			f.wantBackendsAsClients(t)
		})
	}
}

// wantBackendsAsClients has each backend connect to the VIP: it is answered by all, itself among them.
func (f *farm) wantBackendsAsClients(t *testing.T) {
	t.Helper()
	const each = 60
	for _, b := range f.backends {
		inside := &cluster{client: b.host}
		for _, vip := range []netip.Addr{vip4, vip6} {
			answers := make(map[string]int)
			for i := range each {
				from := b.asked[0]
				if vip.Is6() {
					from = b.asked[1]
				}
				name, _, err := inside.connectFrom(netip.AddrPortFrom(from, uint16(50000+i)), vip)
				if err != nil {
					t.Fatalf("%s to %s: %v", b.name, vip, err)
				}
				answers[name]++
			}
			if len(answers) != len(f.backends) || answers[b.name] == 0 {
				t.Errorf("%s to %s: answered by %v", b.name, vip, answers)
			}
		}
	}
}

func TestBackendsOfFullNATThatChangeBreakNothing(t *testing.T) {
	opts := fullNAT("multicast")
	opts.weights, opts.spare = four, 1
	r := forwardUnderLoad(t, opts, func(f *farm, _ *standardLoad) {
		f.admin(t, "drain", "b2", "--detach")
		f.awaitState(t, "b2", "draining")
		if noted := parse[[]map[string]any](t, f.nodes[0].lbctl(t, "flows -o json")); len(noted) == 0 {
			t.Error("no flow is remembered")
		}
		f.reweigh(t, 50, 0, 200, 100)
		time.Sleep(time.Second)
		f.admin(t, "undrain", "b2", "")
		f.reweigh(t, 100, 100, 100)
		f.awaitState(t, "b2", "up")
	})
	r.wantUnharmed(t)
	if r.PerNode["b4"] == 0 {
		t.Errorf("the new backend got nothing: %v", r.PerNode)
	}
}

// What one director gave a port to, the others know.
func TestADirectorOfFullNATThatGoesBreaksNothing(t *testing.T) {
	t.Run("drained", func(t *testing.T) {
		r := forwardUnderLoad(t, fullNAT("multicast"), func(f *farm, _ *standardLoad) {
			f.drain(t, f.nodes[1], "n1")
			time.Sleep(time.Second)
			f.undrain(t, f.nodes[1], "n1")
		})
		r.wantOldUnbroken(t)
	})
	t.Run("dead", func(t *testing.T) {
		opts := fullNAT("multicast")
		opts.directors = 3
		forwardUnderLoad(t, opts, func(f *farm, _ *standardLoad) {
			f.firstDirectorDies(t)
		}).wantOldUnbroken(t)
	})
}

// wantOldUnbroken leaves out what was being opened just then: nobody else knows its port yet.
func (r report) wantOldUnbroken(t *testing.T) {
	t.Helper()
	r.want(t, map[string]int{"established connections that broke": r.BrokenHeld, "SYNs that two nodes answered": r.DuplicateSynAcks})
	if r.Broken > r.Made/20 || r.Exchanges < r.Held {
		t.Errorf("%d of %d connections broke: %s", r.Broken, r.Made, r)
	}
	t.Logf("%d of %d new connections broke, none of %d older ones", r.Broken, r.Made, r.Held)
}
