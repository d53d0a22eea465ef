package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/nettest"
)

// macForms are the ways of sharing a MAC, a VIP of each family for each.
var macForms = []struct {
	form     string // as the configuration calls it
	vip, mac string
}{
	{"multicast", "192.0.2.80", "03:bf:c0:00:02:50"},
	{"multicast", "2001:db8::80", "03:bf:00:00:00:80"},
	{"group", "192.0.2.81", "01:00:5e:7f:02:51"},
	{"group", "2001:db8::81", "33:33:00:00:00:81"},
	{"unicast", "192.0.2.82", "02:bf:c0:00:02:52"},
	{"unicast", "2001:db8::82", "02:bf:00:00:00:82"},
	{"02:00:5e:00:53:83", "192.0.2.83", "02:00:5e:00:53:83"},
	{"02:00:5e:00:53:84", "2001:db8::83", "02:00:5e:00:53:84"},
	{"03:00:5e:00:53:85", "192.0.2.84", "03:00:5e:00:53:85"},
	{"03:00:5e:00:53:86", "2001:db8::84", "03:00:5e:00:53:86"},
}

// Whatever MAC the nodes share: everything for a VIP is answered by one of them, clients know it by
// that MAC, and no frame comes from it, as a switch that learnt where it is would stop flooding.
func TestEveryFormOfTheSharedMACServes(t *testing.T) {
	vips, names := "\n", ""
	for i, f := range macForms {
		vips += fmt.Sprintf("  - {address: '%s', mac: '%s'}\n", f.vip, f.form)
		names += map[bool]string{true: ", "}[i > 0] + "'" + f.vip + "'"
	}
	services := fmt.Sprintf("\n  - {name: web, vips: [%[1]s], ports: all}\n"+
		"  - {name: echo, vips: [%[1]s], protocol: udp, ports: all}\n", names)
	for _, attach := range []string{"native", "generic"} {
		t.Run(attach, func(t *testing.T) {
			c := newCluster(t, options{attach: attach, weights: []int{100, 100, 100}, vips: vips, services: services})
			for _, n := range c.nodes {
				n.wantMode(t, attach)
			}
			watch := nettest.NewWatch(t, c.sw.Host)
			tap := newTap(t, c.client)
			for i, f := range macForms {
				vip := netip.MustParseAddr(f.vip)
				t.Run(f.form+"/"+family(vip), func(t *testing.T) {
					for _, n := range c.nodes {
						n.serveAt(vip, port)
					}
					defer wantNeverSource(t, watch, f.mac) // also where it is why nobody answers
					c.makeFlows(t, vip, i)
					if mac := nettest.Neighbor(t, c.client, "eth0", vip); mac != f.mac {
						t.Errorf("the client knows %s by %q, want %s", vip, mac, f.mac)
					}
					for _, n := range c.nodes {
						if got := watch.Count(t, func(frame nettest.Frame) bool {
							return frame.Port == n.name+"-eth0" && frame.Out && frame.Dest == f.mac
						}); got < 2*flows {
							t.Errorf("%s was sent %d frames, want each one for the VIP", n.name, got)
						}
					}
				})
			}
			wantOneAnswerEach(t, tap, len(macForms))
		})
	}
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (n *node) wantMode(t *testing.T, attach string) {
	t.Helper()
	status, err := n.status()
	if err != nil || len(status.Attach) != 1 || string(status.Attach[0].Mode) != attach {
		t.Fatalf("%s: attached %v, want %s; %v", n.name, status.Attach, attach, err)
	}
}

// wantNeverSource checks that nobody sends from a MAC. That of the client must be seen, as a sign
// that the watch watches.
func wantNeverSource(t *testing.T, watch *nettest.Watch, mac string) {
	t.Helper()
	if got := watch.Count(t, func(f nettest.Frame) bool { return f.Source == mac }); got != 0 {
		t.Errorf("%d frames came from the shared MAC", got)
	}
	if got := watch.Count(t, func(f nettest.Frame) bool { return !f.Out && f.Dest == mac }); got == 0 {
		t.Error("the watch saw no frame to the shared MAC")
	}
}

// flows is how many flows of each kind a VIP gets.
const flows = 60

// makeFlows makes TCP connections, sends datagrams and pings, and wants all nodes among those that
// answer. Flows of VIPs with different numbers have ports and sequence numbers of their own.
func (c *cluster) makeFlows(t *testing.T, vip netip.Addr, number int) {
	t.Helper()
	tcp, udp := make(map[string]int), make(map[string]int)
	for i := number * flows; i < (number+1)*flows; i++ {
		from, to := at(clientAddr(vip), 20000+i), at(vip, port)
		tcp[c.answerer(t, "tcp", from, to)]++
		udp[c.answerer(t, "udp", from, to)]++
		c.ping(t, vip, i, 56)
	}
	if len(tcp) != len(c.nodes) || len(udp) != len(c.nodes) {
		t.Errorf("%s: TCP was answered by %v, UDP by %v; want all nodes", vip, tcp, udp)
	}
}

// wantOneAnswerEach checks what the client got for the flows of some VIPs.
func wantOneAnswerEach(t *testing.T, tap *tap, vips int) {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // for answers that should not come
	if handshakes, doubled := tap.duplicates(); handshakes != vips*flows || doubled != 0 {
		t.Errorf("%d handshakes, %d answered by two nodes; want %d and 0", handshakes, doubled, vips*flows)
	}
	tap.mu.Lock()
	defer tap.mu.Unlock()
	wrong := make(map[string]int)
	for i := range vips * flows {
		if got := tap.udp[uint16(20000+i)]; got != 1 {
			wrong[fmt.Sprintf("VIP number %d: %d answers to a datagram", i/flows, got)]++
		}
	}
	for _, got := range tap.echoes {
		if got != 1 {
			wrong[fmt.Sprintf("%d replies to a ping", got)]++
		}
	}
	if len(wrong) != 0 || len(tap.echoes) != vips*flows {
		t.Errorf("%d pings answered, want %d; times that there were %v", len(tap.echoes), vips*flows, wrong)
	}
}
