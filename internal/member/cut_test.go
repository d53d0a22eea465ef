package member_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/ownership"
)

func TestTheSideThatSeesTheWitnessGoesOn(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, func(c *child) {
		c.Policy, c.Witnesses = ownership.PolicyWitness, []netip.Addr{witness, netip.MustParseAddr("192.0.2.253")} // nobody
	})
	l.form(t)
	n2 := l.nodes[1]
	for range 2 {
		begin := datapath.Monotonic()
		nettest.SetFaults(t, l.sw, nettest.Fault{From: n2.port()}, nettest.Fault{To: n2.port()})
		took := l.shared(t, 15*time.Second, "n1") - begin
		nettest.SetFaults(t, l.sw)
		l.shared(t, 15*time.Second, "n1", "n2")
		t.Logf("n1 has everything after %s", took.Round(time.Millisecond))
	}
	l.neverTwo(t, 0)

	// Without the witness nobody goes on, however well the nodes see each other.
	nettest.SetFaults(t, l.sw, nettest.Fault{From: "w-eth0"})
	nettest.Eventually(t, 5*time.Second, func() error {
		if shares := l.shares("nodes"); len(shares) > 0 {
			return fmt.Errorf("%v", shares)
		}
		return nil
	})
	nettest.SetFaults(t, l.sw)
	l.shared(t, 15*time.Second, "n1", "n2")
	l.neverTwo(t, 0)
}

// Nodes that start while no gossip comes through hear each other's heartbeats. Neither can know what the
// other has.
func TestAStartWithoutGossipMakesNoTwoOwners(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	nettest.SetFaults(t, l.sw, nettest.Fault{Port: 7946})
	for _, p := range l.nodes {
		p.start(t)
	}
	time.Sleep(absence + 2*time.Second) // the boot timeout of these members: nothing may happen until then, or at its end
	if shares := l.shares("nodes"); len(shares) > 0 {
		t.Errorf("without gossip: %v", shares)
	}
	if nettest.Lost(t, l.sw) == 0 {
		t.Error("nothing was lost")
	}
	nettest.SetFaults(t, l.sw)
	l.shared(t, 30*time.Second, "n1", "n2")
	l.neverTwo(t, 0)
}

func TestACutOfGossipOrHeartbeatsAloneMovesNothing(t *testing.T) {
	gossip, heartbeats := nettest.Fault{Port: 7946}, nettest.Fault{Ethertype: heartbeat.EtherType}
	for _, c := range []struct {
		name   string
		policy ownership.Policy
		fault  nettest.Fault
	}{
		{"any, gossip", ownership.PolicyAny, gossip},
		{"any, heartbeats", ownership.PolicyAny, heartbeats},
		{"majority, gossip", ownership.PolicyMajority, gossip},
		{"majority, heartbeats", ownership.PolicyMajority, heartbeats},
		{"any, heartbeats one way", ownership.PolicyAny, nettest.Fault{From: "n1-eth0", Ethertype: heartbeat.EtherType}},
		{"majority, heartbeats one way", ownership.PolicyMajority, nettest.Fault{From: "n1-eth0", Ethertype: heartbeat.EtherType}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3, func(me *child) { me.Policy = c.policy })
			l.form(t)
			begin := datapath.Monotonic()
			nettest.SetFaults(t, l.sw, c.fault)
			time.Sleep(2 * l.nodes[0].deadAfter())
			if nettest.Lost(t, l.sw) == 0 {
				t.Error("nothing was lost")
			}
			nettest.SetFaults(t, l.sw)
			time.Sleep(l.nodes[0].deadAfter())
			l.unmoved(t, begin)
			l.neverNone(t, begin)
			l.neverTwo(t, 0)
		})
	}
}
