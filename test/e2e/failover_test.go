package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// failoverVIPs are the usual two, each at one node at a time, which is n1 as long as it is there.
func failoverVIPs(more string) string {
	var b strings.Builder
	for _, vip := range []netip.Addr{vip4, vip6} {
		fmt.Fprintf(&b, "\n  - {address: '%s', announce: failover, prefer: [n1, n2]%s}", vip, more)
	}
	return b.String() + "\n"
}

// Virtual MACs as VRRP has them.
const virtualMAC = ", mac: '00:00:5e:00:01:50'"

// owners says which node has each VIP, as a node knows it.
func (n *node) vipOwners() (map[netip.Addr]string, error) {
	status, err := n.status()
	if err != nil {
		return nil, err
	}
	owners := make(map[netip.Addr]string)
	for _, v := range status.VIPs {
		owners[v.Address] = v.Owner
	}
	return owners, nil
}

// wantOwner waits until the given nodes say that one of them has both VIPs.
func wantOwner(t testing.TB, name string, nodes ...*node) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		for _, n := range nodes {
			if owners, err := n.vipOwners(); err != nil || owners[vip4] != name || owners[vip6] != name {
				return fmt.Errorf("%s says %v, %w; want %s", n.name, owners, err, name)
			}
		}
		return nil
	})
}

// wantNeighbour waits until the client knows both VIPs at a MAC.
func (c *cluster) wantNeighbour(t testing.TB, mac string) {
	t.Helper()
	for _, vip := range []netip.Addr{vip4, vip6} {
		nettest.Eventually(t, agreeWithin, func() error {
			if got := nettest.Neighbor(t, c.client, "eth0", vip); got != mac {
				return fmt.Errorf("the client knows %s at %s, want %s", vip, got, mac)
			}
			return nil
		})
	}
}

func (n *node) mac(t testing.TB) string {
	t.Helper()
	mac, err := n.host.MAC("eth0")
	check(t, err)
	return mac.String()
}

// A client that learnt where a VIP is finds it again at the next node, in time.
func TestAFailoverVIPIsTakenOverFromADeadNode(t *testing.T) {
	wantTakeovers(t, "", nil, 600*time.Millisecond, "crash", "lbd killed")
}

func TestAFailoverVIPWithAVirtualMACIsTakenOver(t *testing.T) {
	wantTakeovers(t, virtualMAC, nil, 600*time.Millisecond, "crash")
}

func TestAFailoverVIPIsTakenOverFasterByTunedNodes(t *testing.T) {
	wantTakeovers(t, "", tuned, 350*time.Millisecond, "crash")
}

// wantTakeovers lets the owner die in some ways.
func wantTakeovers(t *testing.T, more string, tuning []string, within time.Duration, ways ...string) {
	f := newFaulty(t, options{weights: []int{100, 100}, vips: failoverVIPs(more), tuning: tuning})
	for _, name := range ways {
		f.wantTakeover(t, name, deaths[name], more != "", within)
		if t.Failed() {
			return
		}
	}
}

// wantTakeover lets the owner die; within is for the full run.
func (f *faulty) wantTakeover(t *testing.T, name string, death fault, virtual bool, within time.Duration) {
	t.Helper()
	wantOwner(t, "n1", f.nodes...)
	took := f.loseOwner(t, death, virtual)
	t.Logf("%s: new connections after %s", name, ms(took))
	if limit := lasting(2*time.Second, within); took > limit {
		t.Errorf("%s: new connections after %s, want %s", name, ms(took), limit)
	}
}

// loseOwner lets n1 die, which has both VIPs, and returns how long new connections were lost.
func (f *faulty) loseOwner(t testing.TB, fault fault, virtual bool) (took time.Duration) {
	t.Helper()
	victim, heir := f.called("n1"), f.called("n2")
	f.callers.hold(t, heldFlows)
	began := time.Now()
	fault.begin(f, victim)
	list := f.callers.attempts(began, began.Add(watched))
	for _, a := range unanswered(list) {
		took = a.began.Add(newEvery).Sub(began)
	}
	wantOwner(t, "n2", heir)
	if !virtual {
		f.wantNeighbour(t, heir.mac(t))
	}
	late := began.Add(took + newEvery)
	var after []attempt
	for _, a := range list {
		if a.began.After(late) {
			after = append(after, a)
		}
	}
	wantServed(t, after)
	if fault.hostLives { // and with it what it has in its sockets
		f.callers.wantHeld(t)
	}
	f.wire.wantOneAcceptor(t)
	fault.end(f, victim)
	f.agree(t)
	wantOwner(t, "n1", f.nodes...)
	return took
}

// A planned move breaks nothing, however often: old connections stay where they are, new ones follow.
func TestMovingAFailoverVIPBreaksNothing(t *testing.T) {
	underLoad(t, options{weights: three, vips: failoverVIPs("")}, func(c *cluster) {
		c.moveVIPs(t, "n2", "n3", "n1", "n2")
		c.wantNeighbour(t, c.called("n2").mac(t))
		for _, vip := range []netip.Addr{vip4, vip6} {
			c.nodes[0].lbctl(t, fmt.Sprintf("vips move %s --auto", vip)).want(t, exitOK)
		}
		wantOwner(t, "n1", c.nodes...)
		t.Logf("drained in %s", c.drainOwner(t))
	}).wantUnharmed(t)
}

func TestMovingAVirtualMACBreaksNothing(t *testing.T) {
	underLoad(t, options{weights: three, vips: failoverVIPs(virtualMAC), attach: "generic"}, func(c *cluster) {
		c.moveVIPs(t, "n3", "n2")
		c.wantNeighbour(t, "00:00:5e:00:01:50")
	}).wantUnharmed(t)
}

// moveVIPs has both VIPs go from n1 to one node after the other.
func (c *cluster) moveVIPs(t testing.TB, way ...string) {
	t.Helper()
	wantOwner(t, "n1", c.nodes...)
	for i, to := range way {
		for _, vip := range []netip.Addr{vip4, vip6} {
			c.nodes[i%3].lbctl(t, fmt.Sprintf("vips move %s %s", vip, to)).want(t, exitOK)
		}
		wantOwner(t, to, c.nodes...)
		time.Sleep(500 * time.Millisecond)
	}
}

// Directors agree on the backend of every flow, so connections go on through whoever has the VIP, and
// the address by which backends behind NAT reply.
func TestMovingAFailoverVIPOfDirectorsBreaksNothing(t *testing.T) {
	for _, forward := range forwards {
		t.Run(forward, func(t *testing.T) {
			forwardUnderLoad(t, farmOptions{forward: forward, announce: "failover", gateway: forward == "nat", weights: three}, func(f *farm, _ *standardLoad) {
				vips := []netip.Addr{vip4, vip6}
				if f.opts.gateway {
					vips = append(vips, gateway4, gateway6)
				}
				for _, to := range []string{"n2", "n1"} {
					for _, vip := range vips {
						f.nodes[0].lbctl(t, fmt.Sprintf("vips move %s %s", vip, to)).want(t, exitOK)
					}
					wantOwner(t, to, f.nodes...)
					f.wantNeighbour(t, f.called(to).mac(t))
					time.Sleep(500 * time.Millisecond)
				}
			}).wantUnharmed(t)
		})
	}
}

// No connection of a director that died is lost when the heir knows its backends, and new ones wait no
// longer than where nodes serve themselves.
func TestAFailoverVIPOfDirectorsIsTakenOver(t *testing.T) {
	for _, setting := range []struct {
		name   string
		tuning []string
		within time.Duration
	}{{"default", nil, 600 * time.Millisecond}, {"tuned", tuned, 350 * time.Millisecond}} {
		for _, forward := range forwards {
			t.Run(setting.name+" "+forward, func(t *testing.T) {
				farm := newFarm(t, farmOptions{
					forward: forward, announce: "failover", gateway: forward == "nat", directors: 2, weights: three,
					tuning: setting.tuning, serving: true,
				})
				f := &faulty{cluster: farm.cluster, t: t, fell: make(map[*node]time.Time)}
				f.wire, f.callers = newWire(t, f.cluster), f.startCallers(t)
				f.wantTakeover(t, "crash", fault{
					begin:     func(f *faulty, n *node) { n.die(f.t, f.cluster) },
					end:       func(f *faulty, n *node) { n.revive(f.t, f.cluster) },
					hostLives: true, // the backends do
				}, false, setting.within)
			})
		}
	}
}

// drainOwner drains the node that has the VIPs, and takes that back.
func (c *cluster) drainOwner(t testing.TB) time.Duration {
	t.Helper()
	began := time.Now()
	c.nodes[1].admin("drain n1 --detach")
	wantOwner(t, "n2", c.nodes...)
	took := time.Since(began)
	time.Sleep(500 * time.Millisecond)
	c.nodes[2].admin("undrain n1")
	wantOwner(t, "n1", c.nodes...)
	return took
}

func TestAMoveToWhoCannotHaveTheVIPIsRefused(t *testing.T) {
	c := newMembers(t, options{weights: []int{100, 100}, vips: failoverVIPs(", preempt: false") + "  - address: 192.0.2.90\n"})
	for line, want := range map[string]string{
		"192.0.2.81 n2": "vip 192.0.2.81: no such VIP",
		"192.0.2.90 n2": "vip 192.0.2.90: multicast VIPs are on all nodes",
		"192.0.2.80 n9": "node n9: no such node is known",
	} {
		if out := c.nodes[0].lbctl(t, "vips move "+line); out.code != exitFailed || !strings.Contains(out.stderr, want) {
			t.Errorf("lbctl %s: code %d, %s; want %s", out.line, out.code, out.stderr, want)
		}
	}
	c.nodes[0].admin("drain n2 --detach")
	c.awaitMember(t, "n2", "draining")
	if out := c.nodes[0].lbctl(t, "vips move 192.0.2.80 n2"); out.code != exitFailed || !strings.Contains(out.stderr, "node n2: it drains") {
		t.Errorf("lbctl %s: code %d, %s", out.line, out.code, out.stderr)
	}
	// without preemption the heir keeps what it got
	c.nodes[0].admin("undrain n2")
	c.awaitMember(t, "n2", "active")
	c.nodes[0].admin("drain n1 --detach")
	wantOwner(t, "n2", c.nodes...)
	c.agree(t) // who has it decides to stay when all is settled
	c.nodes[0].admin("undrain n1")
	c.awaitMember(t, "n1", "active")
	c.agree(t)
	wantOwner(t, "n2", c.nodes...)
}

// Somebody who takes an address that is a VIP is seen, named as a problem, and answered.
func TestAnotherMachineThatClaimsAVIPIsSeen(t *testing.T) {
	c := newMembers(t, options{weights: []int{100, 100}, vips: failoverVIPs("")})
	wantOwner(t, "n1", c.nodes...)
	for i, vip := range []netip.Addr{vip4, vip6} {
		c.ping(t, vip, i+1, 56) // the client learns where they are
	}
	thief := nettest.Host(t, c.lab, "thief")
	check(t, c.lab.Connect(thief, "eth0", c.sw, netlab.LinkOptions{}))
	check(t, thief.Addr("eth0", netip.PrefixFrom(vip4, 24)))
	mac, err := thief.MAC("eth0")
	check(t, err)
	claim := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac...)
	claim = append(claim, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	claim = append(append(claim, mac...), vip4.AsSlice()...)
	claim = append(append(claim, 0, 0, 0, 0, 0, 0), vip4.AsSlice()...)
	nettest.Inject(t, thief, "eth0", append(claim, make([]byte, 60-len(claim))...))
	nettest.Eventually(t, agreeWithin, func() error {
		for _, n := range c.nodes {
			status, err := n.status()
			if err != nil {
				return err
			}
			if !hasProblem(status, "another machine claims 192.0.2.80") {
				return fmt.Errorf("%s: problems %q", n.name, status.Problems)
			}
			if len(n.told(0, "another machine claims 192.0.2.80")) != 1 {
				return fmt.Errorf("%s has no event, or more than one", n.name)
			}
		}
		return nil
	})
	c.wantNeighbour(t, c.called("n1").mac(t))
}

func hasProblem(s *control.Status, text string) bool {
	for _, p := range s.Problems {
		if strings.Contains(p, text) {
			return true
		}
	}
	return false
}
