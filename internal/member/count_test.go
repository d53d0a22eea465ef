package member

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/sockets"
)

var (
	vip4 = netip.MustParseAddr("192.0.2.100")
	vip6 = netip.MustParseAddr("2001:db8::100")
)

// connection is one from a client to a VIP.
func connection(protocol lb.Protocol, remote, local string) sockets.Connection {
	return sockets.Connection{
		Protocol: protocol, State: sockets.Established,
		Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote),
	}
}

func place(domain string, vip netip.Addr, protocol lb.Protocol, ports ...lb.PortRange) Place {
	return Place{VIP: vip, Protocol: protocol, Ports: ports, Hash: lb.HashSourcePort, Domain: domain}
}

func TestTheNarrowestServiceTakesAConnection(t *testing.T) {
	places := []Place{
		place("", vip4, lb.ProtocolAny, lb.AllPorts),
		place("all tcp", vip4, lb.ProtocolTCP, lb.AllPorts),
		place("web", vip4, lb.ProtocolTCP, lb.PortRange{First: 80, Last: 80}, lb.PortRange{First: 8000, Last: 8099}),
		place("one of web's", vip4, lb.ProtocolTCP, lb.PortRange{First: 8042, Last: 8042}),
		place("dns", vip4, lb.ProtocolUDP, lb.PortRange{First: 53, Last: 53}),
		place("web of another", vip6, lb.ProtocolTCP, lb.PortRange{First: 80, Last: 80}),
	}
	const client4, client6 = "198.51.100.7:40000", "[2001:db8::7]:40000"
	for _, c := range []struct {
		connection sockets.Connection
		want       string
	}{
		{connection(lb.ProtocolTCP, client4, "192.0.2.100:80"), "web"},
		{connection(lb.ProtocolTCP, client4, "192.0.2.100:8000"), "web"},
		{connection(lb.ProtocolTCP, client4, "192.0.2.100:8099"), "web"},
		{connection(lb.ProtocolTCP, client4, "192.0.2.100:8042"), "one of web's"},
		{connection(lb.ProtocolTCP, client4, "192.0.2.100:8100"), "all tcp"},
		{connection(lb.ProtocolTCP, client4, "192.0.2.100:65535"), "all tcp"},
		{connection(lb.ProtocolUDP, client4, "192.0.2.100:53"), "dns"},
		{connection(lb.ProtocolUDP, client4, "192.0.2.100:80"), ""},
		{connection(lb.ProtocolTCP, client6, "[2001:db8::100]:80"), "web of another"},
		{connection(lb.ProtocolTCP, client6, "[2001:db8::100]:81"), "none"},
		{connection(lb.ProtocolTCP, client4, "192.0.2.101:80"), "none"},
	} {
		got := "none"
		if p := placeOf(places, c.connection); p != nil {
			got = p.Domain
		}
		if got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.connection.Protocol, c.connection.Local, got, c.want)
		}
	}
}

func TestAServiceOfAnyProtocolComesBeforeTheVIPItself(t *testing.T) {
	places := []Place{place("any", vip4, lb.ProtocolAny, lb.AllPorts), place("", vip4, lb.ProtocolAny, lb.AllPorts)}
	p := placeOf(places, connection(lb.ProtocolTCP, "198.51.100.7:40000", "192.0.2.100:80"))
	if p == nil || p.Domain != "any" {
		t.Errorf("%+v", p)
	}
}

func TestABusyBucketIsTheOneThatTheDatapathFinds(t *testing.T) {
	keys := flowhash.NewKeys([32]byte{1, 2, 3})
	web := place("web", vip4, lb.ProtocolTCP, lb.PortRange{First: 80, Last: 80})
	sticky := place("sticky", vip6, lb.ProtocolTCP, lb.AllPorts)
	sticky.Hash = lb.HashFields{SourceBits4: 24, SourceBits6: 64}
	connections := []sockets.Connection{
		connection(lb.ProtocolTCP, "198.51.100.7:40000", "192.0.2.100:80"),
		connection(lb.ProtocolTCP, "198.51.100.7:40001", "192.0.2.100:80"),
		connection(lb.ProtocolTCP, "198.51.100.7:40001", "192.0.2.100:81"), // nobody's
		connection(lb.ProtocolTCP, "[2001:db8::7]:40000", "[2001:db8::100]:80"),
		connection(lb.ProtocolTCP, "[2001:db8::8]:50000", "[2001:db8::100]:81"), // of the same /64
	}
	bucket := func(p Place, c sockets.Connection) int {
		mask := flowhash.NewMask(p.Hash, c.Remote.Addr().Is4())
		return flowhash.Bucket(keys.Sum(mask, c.Remote.Addr(), c.Remote.Port(), c.Local.Port()))
	}
	want := map[string]ownership.Set{
		"web":    ownership.SetOf(bucket(web, connections[0]), bucket(web, connections[1])),
		"sticky": ownership.SetOf(bucket(sticky, connections[3])),
	}
	got := busyBuckets(connections, []Place{web, sticky}, keys)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("busy (-want +got):\n%s", diff)
	}
	if got["web"].Len() != 2 {
		t.Errorf("two ports share a bucket: %d", got["web"].Len())
	}
}

func TestEachVIPIsAskedForOnce(t *testing.T) {
	got := vipsOf([]Place{
		place("b", vip6, lb.ProtocolTCP), place("a", vip4, lb.ProtocolTCP), place("c", vip4, lb.ProtocolUDP),
	})
	want := []netip.AddrPort{netip.AddrPortFrom(vip4, 0), netip.AddrPortFrom(vip6, 0)}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("VIPs (-want +got):\n%s", diff)
	}
}
