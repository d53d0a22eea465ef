package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/nettest"
)

// remembering are the schedulers that choose a backend for each flow.
var remembering = []string{"round-robin", "least-conn"}

// What is remembered of flows is enough for all that operators do to backends.
func TestSchedulersBreakNothing(t *testing.T) {
	for _, scheduler := range remembering {
		t.Run(scheduler, func(t *testing.T) {
			r := forwardUnderLoad(t, farmOptions{forward: "dr", weights: four, spare: 1, check: ", scheduler: " + scheduler}, func(f *farm, _ *standardLoad) {
				f.admin(t, "drain", "b2", "--detach")
				f.awaitState(t, "b2", "draining")
				f.reweigh(t, 100, 100, 100, 100) // one is new
				f.admin(t, "undrain", "b2", "")
				f.awaitState(t, "b2", "up")
				f.reweigh(t, 100, 200, 100)
				time.Sleep(time.Second)
			})
			r.DatagramsDoubled = 0 // as with any scheduler
			r.wantUnharmed(t)
			if r.PerNode["b4"] == 0 {
				t.Errorf("the new backend got nothing: %v", r.PerNode)
			}
		})
	}
}

// Another director goes on with the flows it heard of. What opens just then is where it would have sent it, too.
func TestWhatSchedulersChoseStaysWhenADirectorGoes(t *testing.T) {
	for _, scheduler := range remembering {
		t.Run(scheduler, func(t *testing.T) {
			r := forwardUnderLoad(t, farmOptions{forward: "dr", weights: four, check: ", scheduler: " + scheduler}, func(f *farm, _ *standardLoad) {
				f.drain(t, f.nodes[1], "n1")
				f.undrain(t, f.nodes[1], "n1")
			})
			r.wantUnbroken(t)
		})
	}
}

// A call is a connection that is open, and the name of its server.
type call struct {
	net.Conn
	server string
}

// call opens a connection from the client.
func (f *farm) call(t *testing.T, vip netip.Addr) call {
	t.Helper()
	var conn net.Conn
	check(t, f.client.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(vip, port).String(), patience)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	line, err := bufio.NewReader(conn).ReadString('\n')
	check(t, err)
	return call{conn, line[:len(line)-1]}
}

// newServedFarm is a farm whose backends answer with their names.
func newServedFarm(t *testing.T, opts farmOptions) *farm {
	t.Helper()
	opts.forward, opts.tuning = "dr", unhurried
	f := newFarm(t, opts)
	for _, b := range f.backends {
		b.serve()
	}
	return f
}

// Every third connection stays, the others are short. By turns, one backend gets all that stay.
func TestLeastConnBeatsRoundRobinOnSkewedLoad(t *testing.T) {
	const stays = 20
	most := make(map[string]int)
	for _, scheduler := range remembering {
		t.Run(scheduler, func(t *testing.T) {
			f := newServedFarm(t, farmOptions{directors: 1, weights: three, check: ", scheduler: " + scheduler})
			open := make(map[string]int)
			for range stays {
				c := f.call(t, vip4)
				open[c.server]++
				most[scheduler] = max(most[scheduler], open[c.server])
				for range len(f.backends) - 1 {
					f.call(t, vip4).Close()
				}
			}
			t.Logf("open connections: %v", open)
		})
	}
	even := stays/len(three) + 1
	if most["least-conn"] > even+1 || most["round-robin"] < 2*even {
		t.Errorf("the busiest backend has %d connections by turns and %d with least-conn, of %d", most["round-robin"], most["least-conn"], stays)
	}
}

// All directors together keep to it, as far as they heard of each other's.
func TestBackendsGetNoMoreConnectionsThanTheyMay(t *testing.T) {
	f := newServedFarm(t, farmOptions{directors: 2, weights: three})
	const most, calls = 6, 30
	f.admin(t, "maxconn", "b1", fmt.Sprint(most))
	f.admin(t, "maxconn", "b2", fmt.Sprint(most))
	f.awaitBackend(t, "b2", func(all map[string]control.Backend) error {
		if all["b1"].MaxConn != most || all["b2"].MaxConn != most || all["b1"].Connections == nil {
			return fmt.Errorf("it may have any number of connections")
		}
		return nil
	})
	open := make(map[string]int)
	var last []call
	for i := range calls {
		c := f.call(t, []netip.Addr{vip4, vip6}[i%2])
		open[c.server]++
		last = append(last, c)
		f.awaitConnections(t, open)
	}
	t.Logf("open connections: %v", open)
	if open["b1"] != most || open["b2"] != most || open["b3"] != calls-2*most {
		t.Errorf("open connections: %v; b1 and b2 may have %d", open, most)
	}
	for _, c := range last {
		c.Close()
	}
	f.awaitConnections(t, map[string]int{})
}

// awaitConnections waits until all directors know of so many, by backend.
func (f *farm) awaitConnections(t *testing.T, open map[string]int) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		for _, n := range f.nodes {
			for name, b := range n.backendsOf(t, "web") {
				if b.Connections == nil || *b.Connections != open[name] {
					return fmt.Errorf("%s: %s has %v connections, want %d", n.name, name, b.Connections, open[name])
				}
			}
		}
		return nil
	})
}

// A client stays where it is, whichever director its connections meet.
func TestAClientKeepsItsBackend(t *testing.T) {
	f := newServedFarm(t, farmOptions{directors: 2, weights: three, check: ", scheduler: round-robin, affinity: 1m"})
	first := f.call(t, vip4)
	f.awaitConnections(t, map[string]int{first.server: 1})
	for range 30 {
		if c := f.call(t, vip4); c.server != first.server {
			t.Fatalf("it goes to %s, and was at %s", c.server, first.server)
		}
	}
	for _, n := range f.nodes {
		if n.counted(t, "forwarded") == 0 {
			t.Errorf("%s forwarded nothing", n.name)
		}
	}
}
