package daemon

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/member"
)

func TestACutOfGossipOrHeartbeatsAloneIsAProblem(t *testing.T) {
	now := time.Unix(1e9, 0)
	recently, long := now.Add(-unusual/2), now.Add(-time.Minute)
	addr := netip.MustParseAddrPort("192.0.2.2:7946")
	heard, silent := heartbeat.Peer{Name: "n2"}, heartbeat.Peer{Name: "n2", Silent: true, SilentSince: long}
	for _, test := range []struct {
		name   string
		gossip cluster.Peer
		links  [][]heartbeat.Peer
		want   string
	}{
		{"both come", cluster.Peer{Alive: true, Since: long}, [][]heartbeat.Peer{{heard}}, ""},
		{"none comes", cluster.Peer{Since: long}, [][]heartbeat.Peer{{silent}}, ""},
		{"no gossip", cluster.Peer{Since: long}, [][]heartbeat.Peer{{{Name: "n1"}, heard}}, "no gossip: let UDP and TCP to 192.0.2.2:7946 pass"},
		{"no gossip since this node started", cluster.Peer{}, [][]heartbeat.Peer{{heard}}, "no gossip"},
		{"just heard, and no gossip yet", cluster.Peer{}, [][]heartbeat.Peer{{{Name: "n2", HearsMeSince: recently}}}, ""},
		{"no gossip any more", cluster.Peer{Since: recently}, [][]heartbeat.Peer{{heard}}, ""},
		{"no heartbeat", cluster.Peer{Alive: true, Since: long}, [][]heartbeat.Peer{{silent}}, "no heartbeat: let Ethernet frames of type 0x"},
		{"none on one link", cluster.Peer{Alive: true, Since: long}, [][]heartbeat.Peer{{silent}, {heard}}, ""},
		{"none any more on the second link", cluster.Peer{Alive: true, Since: long},
			[][]heartbeat.Peer{{silent}, {{Name: "n2", Silent: true, SilentSince: recently}}}, ""},
		{"no heartbeat yet", cluster.Peer{Alive: true, Since: long}, [][]heartbeat.Peer{{{Name: "n1", Silent: true, SilentSince: long}}}, ""},
	} {
		test.gossip.Name, test.gossip.Addr = "n2", addr
		if got := halfHeard(test.gossip, test.links, now); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Who never gossiped since the cluster was set up is known by its heartbeats alone.
func TestAStrangerWithoutGossipIsAProblem(t *testing.T) {
	c := member.Status{
		Gossip: cluster.Status{Peers: []cluster.Peer{{Name: "n2", Alive: true}}},
		Heard:  [][]heartbeat.Peer{{{Name: "n2"}, {Name: "n3"}}, {{Name: "n3"}}},
	}
	var s control.Status
	describeCluster(&s, c)
	want := []string{"node n3: its heartbeats come, and no gossip: let UDP and TCP to the gossip port pass in both directions"}
	if diff := cmp.Diff(want, s.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
