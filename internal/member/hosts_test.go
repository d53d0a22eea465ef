package member

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/lb"
)

func TestMachinesOfSilentPeersAreAsked(t *testing.T) {
	node := func(name string, addresses ...string) lb.Node {
		n := lb.Node{Name: name}
		for _, a := range addresses {
			n.Addrs = append(n.Addrs, netip.MustParseAddr(a))
		}
		return n
	}
	nodes := []lb.Node{
		node("n1", "192.0.2.1"), node("n2", "192.0.2.2", "2001:db8::2"), node("n3", "192.0.2.3"), node("n4", "192.0.2.4"),
		node("n5", "192.0.2.5"), node("n6"),
	}
	gossip := []cluster.Peer{
		{Name: "n2", Addr: netip.MustParseAddrPort("192.0.2.2:7946"), Alive: true},
		{Name: "n3", Addr: netip.MustParseAddrPort("198.51.100.3:7946")}, // it moved
		{Name: "n4"}, // only in a file of ours
		{Name: "n7", Addr: netip.MustParseAddrPort("192.0.2.7:7946")}, // joined without being configured
	}
	seen := map[string]sighting{"n2": {says: true}, "n3": {silent: true}, "n4": {silent: true}, "n7": {silent: true}}
	want := map[string]string{
		"n3": "198.51.100.3:7946", "n4": "192.0.2.4:7947", "n5": "192.0.2.5:7947", "n7": "192.0.2.7:7946",
	}
	got := make(map[string]string)
	for name, at := range silentPeers(gossip, nodes, "n1", 7947, seen) {
		got[name] = at.String()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}
