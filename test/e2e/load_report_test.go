package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

// A report is what a client under the standard load went through.
type report struct {
	Connections       int     `json:"connections"`     // those that stayed and those that came and went
	Held              int     `json:"held"`            // those that stayed
	Made              int     `json:"made"`            // the others
	Exchanges         int     `json:"exchanges"`       // lines that went there and back
	Broken            int     `json:"broken"`          // connections
	BrokenHeld        int     `json:"broken_held"`     // those of them that should have stayed
	StalledOver1s     int     `json:"stalled_over_1s"` // because something was lost
	LongestGapMS      float64 `json:"longest_gap_ms"`  // of a line
	SlowestConnectMS  float64 `json:"slowest_connect_ms"`
	Handshakes        int     `json:"handshakes"`
	DuplicateSynAcks  int     `json:"duplicate_syn_acks"` // SYNs that two nodes answered
	SynRetransmits    int     `json:"syn_retransmits"`    // SYNs that nobody answered
	SynAckRetransmits int     `json:"syn_ack_retransmits"`
	Resets            int     `json:"resets"` // that the client got
	Datagrams         int     `json:"datagrams"`
	DatagramsLost     int     `json:"datagrams_lost"`    // not answered
	DatagramsDoubled  int     `json:"datagrams_doubled"` // answered again
	DatagramsMoved    int     `json:"datagrams_moved"`   // answered by another node than the one before
	Seconds           float64 `json:"seconds"`

	PerNode  map[string]int `json:"per_node"`  // connections that came and went
	BrokenOf map[string]int `json:"broken_of"` // broken connections by node; "" for those that nobody answered
	Notes    []string       `json:"notes"`     // what went wrong first, of each kind, by seconds
}

// String is the report without its notes, on one line.
func (r report) String() string {
	r.Notes = nil
	text, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return strings.Replace(string(text), `,"notes":null`, "", 1)
}

// fullLoad says whether all is to be done that was promised, and not what a quick run has time for.
func fullLoad() bool { return os.Getenv("LB_FULL_LOAD") == "1" }

// times is how often to do what the full run does so often.
func times(full int) int {
	if fullLoad() {
		return full
	}
	return max(full/5, min(full, 4))
}

// A standardLoad is servers on all nodes of a cluster, and a client.
type standardLoad struct {
	client  *side
	servers map[string]*side // by node
}

// startStandardLoad returns when all connections that stay are made.
func (c *cluster) startStandardLoad(t testing.TB) *standardLoad {
	t.Helper()
	return c.startLoadOf(t, standardAmount())
}

func standardAmount() clientOptions {
	if fullLoad() {
		return clientOptions{Held: 10000, Every: 5 * time.Second, Rate: 500, Flows: 200}
	}
	return clientOptions{Held: 1000, Every: 2 * time.Second, Rate: 200, Flows: 100}
}

// startLoadOf is startStandardLoad with another amount.
func (c *cluster) startLoadOf(t testing.TB, opts clientOptions) *standardLoad {
	t.Helper()
	l := &standardLoad{servers: c.startServers(t)}
	l.startClient(t, c.client, opts)
	return l
}

func (c *cluster) startServers(t testing.TB) map[string]*side {
	t.Helper()
	servers := make(map[string]*side)
	for _, n := range c.nodes {
		// connections that all come at once
		check(t, n.host.SetSysctl("net.core.somaxconn", "16384"))
		check(t, n.host.SetSysctl("net.ipv4.tcp_max_syn_backlog", "16384"))
		servers[n.name] = startSide(t, n.host, "server", serverOptions{Name: n.name, VIPs: n.answersFor(), Port: port})
	}
	return servers
}

func (l *standardLoad) startClient(t testing.TB, client *netlab.Host, opts clientOptions) {
	t.Helper()
	check(t, client.SetSysctl("net.ipv4.ip_local_port_range", "10000 65535"))
	opts.VIPs, opts.Port = []netip.Addr{vip4, vip6}, port
	start := time.Now()
	l.client = startSide(t, client, "client", opts)
	t.Logf("%d connections made in %s", opts.Held, time.Since(start).Round(time.Millisecond))
}

// stop ends the client and returns what it went through.
func (l *standardLoad) stop(t testing.TB) report {
	t.Helper()
	r := finish[report](t, l.client)
	t.Logf("load: %s", r)
	return r
}

// wantUnharmed fails the test when a client noticed anything: on its connections, or by a datagram that
// was not answered once, and by the node of those before.
func (r report) wantUnharmed(t testing.TB) {
	t.Helper()
	r.wantUnbroken(t)
	r.want(t, map[string]int{
		"SYNs that were lost": r.SynRetransmits, "connections that stalled over a second": r.StalledOver1s, "resets": r.Resets,
		"datagrams that were not answered": r.DatagramsLost, "datagrams that were answered twice": r.DatagramsDoubled,
		"datagrams that were answered by another node": r.DatagramsMoved,
	})
}

// wantUnbroken fails the test when a connection broke or two nodes answered; new ones may have waited.
func (r report) wantUnbroken(t testing.TB) {
	t.Helper()
	r.want(t, map[string]int{"broken connections": r.Broken, "SYNs that two nodes answered": r.DuplicateSynAcks})
	if r.Made < int(r.Seconds) || r.Exchanges < r.Held {
		t.Errorf("too little traffic to tell: %s", r)
	}
}

func (r report) want(t testing.TB, none map[string]int) {
	t.Helper()
	var found []string
	for what, n := range none {
		if n != 0 {
			found = append(found, fmt.Sprintf("%d %s", n, what))
		}
	}
	if found != nil {
		t.Errorf("%s; at first, by seconds:\n%s", strings.Join(found, ", "), strings.Join(r.Notes, "\n"))
	}
}
