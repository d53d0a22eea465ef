package cli

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

// forwarding gives a node one service for each way to a backend. It owns all buckets.
func (n *node) forwarding(t *testing.T) {
	t.Helper()
	service := func(name string, vip int, port uint16, forward lb.Forward, encap lb.Encap, backend string, backendPort uint16) lb.Service {
		source := netip.MustParseAddr("192.0.2.1")
		if b := netip.MustParseAddr(backend); b.Is6() {
			source = netip.MustParseAddr("2001:db8::1")
		}
		return lb.Service{
			Name: name, VIP: vip, Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: port, Last: port}}, Hash: lb.HashSourcePort,
			Forward: forward, Encap: encap, Choice: &lb.Choice{Current: make([]int16, lb.Slots)},
			Backends: []lb.Backend{{Name: "b1", Addr: netip.MustParseAddr(backend), Port: backendPort, Hop: &lb.NextHop{
				Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x21}, Source: source, MTU: 1500,
			}}},
		}
	}
	full := service("full", 0, 85, lb.ForwardNAT, lb.EncapIP, "10.0.0.21", 8080)
	full.SourceNAT = true
	state := &lb.State{
		Cluster: "demo", Seed: [32]byte{1}, Nodes: []lb.Node{{Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Weight: 1, Local: true}},
		VIPs: []lb.VIP{
			{Addr: vip4.Addr(), Interface: "eth0", MAC: shared, Other: lb.OtherDrop},
			{Addr: vip6.Addr(), Interface: "eth0", MAC: shared, Other: lb.OtherDrop},
		},
		Services: []lb.Service{
			service("dr", 0, 81, lb.ForwardDR, lb.EncapIP, "192.0.2.21", 0),
			service("nat", 0, 82, lb.ForwardNAT, lb.EncapIP, "10.0.0.21", 8080),
			service("tunnel", 0, 83, lb.ForwardTunnel, lb.EncapIP, "203.0.113.21", 0),
			service("gue", 0, 84, lb.ForwardTunnel, lb.EncapGUE, "2001:db8::21", 0),
			full,
			service("mixed", 1, 87, lb.ForwardTunnel, lb.EncapIP, "203.0.113.21", 0),
		},
		Tables: []*lb.Table{{Owners: make([]int16, lb.Buckets)}},
	}
	n.set(t, state)
}

// Whichever way a packet goes to its backend, a trace says what leaves: where to, by which tunnel, and what
// became of its addresses, ports and hops.
func TestATraceShowsWhatLeavesForABackend(t *testing.T) {
	n := newNode(t, 0)
	n.forwarding(t)
	const mac = "02:00:00:00:00:21 on eth0: "
	for line, want := range map[string]string{
		"tcp 198.51.100.7:40000 192.0.2.80:81": "54 bytes to " + mac + "tcp 198.51.100.7:40000 -> 192.0.2.80:81, ttl 63",
		"tcp 198.51.100.7:40000 192.0.2.80:82": "54 bytes to " + mac + "tcp 198.51.100.7:40000 -> 10.0.0.21:8080, ttl 63",
		"tcp 198.51.100.7:40000 192.0.2.80:83": "74 bytes to " + mac +
			"ipv4 tunnel 192.0.2.1 -> 203.0.113.21, ttl 64, around tcp 198.51.100.7:40000 -> 192.0.2.80:83, ttl 63",
		"tcp 198.51.100.7:40000 192.0.2.80:84": "106 bytes to " + mac +
			"gue [2001:db8::1]:PORT -> [2001:db8::21]:6080, ttl 64, around tcp 198.51.100.7:40000 -> 192.0.2.80:84, ttl 63",
		"tcp 198.51.100.7:40000 192.0.2.80:85":        "54 bytes to " + mac + "tcp 192.0.2.80:PORT -> 10.0.0.21:8080, ttl 63",
		"tcp [2001:db8::7]:40000 [2001:db8:1::80]:87": "94 bytes to " + mac + "ipv6 tunnel 192.0.2.1 -> 203.0.113.21, ttl 64, around tcp [2001:db8::7]:40000 -> [2001:db8:1::80]:87, ttl 63",
	} {
		got := n.lbctl(t, "trace "+line)
		_, out, _ := strings.Cut(got.Stdout, "\nout       ")
		ports := strings.NewReplacer(portOf(out, "gue [2001:db8::1]:"), "PORT", portOf(out, "tcp 192.0.2.80:"), "PORT")
		if out = ports.Replace(out); out != want+"\n" {
			t.Errorf("trace %s: %q, want %q\n%s%s", line, out, want, got.Stdout, got.Stderr)
		}
	}
	trace := parse[traceResult](t, n.lbctl(t, "trace tcp 198.51.100.7:40000 192.0.2.80:83 -o json"))
	want := &leaving{Interface: "eth0", SourceMAC: "02:00:00:00:00:10", DestinationMAC: "02:00:00:00:00:21", Packets: []packet{
		{"ipv4 tunnel", "192.0.2.1", "203.0.113.21", 64}, {"tcp", "198.51.100.7:40000", "192.0.2.80:83", 63},
	}}
	if diff := cmp.Diff(want, trace.Out); diff != "" {
		t.Errorf("as JSON (-want +got):\n%s", diff)
	}
}

// portOf is the port that follows, if it is one that was made up.
func portOf(text, after string) string {
	_, rest, found := strings.Cut(text, after)
	port := 0
	if _, err := fmt.Sscanf(rest, "%d", &port); !found || err != nil || port < 32768 {
		return "no port"
	}
	return fmt.Sprint(port)
}
