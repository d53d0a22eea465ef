package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/nettest"
)

// An ownerAnswer is what lbctl owner -o json prints, as far as it is looked at here.
type ownerAnswer struct {
	Node    string
	Local   bool
	Service string
	Bucket  uint32
	HashOf  string `json:"hash_of"`
}

// owners asks a node about every client port of [first, first+n), some at a time.
func (n *node) owners(t *testing.T, vip netip.Addr, first, count int) []ownerAnswer {
	t.Helper()
	answers := make([]ownerAnswer, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				client := netip.AddrPortFrom(clientAddr(vip), uint16(first+i))
				o := n.lbctl(t, fmt.Sprintf("owner %s %s -o json", client, netip.AddrPortFrom(vip, port)))
				if o.code != exitOK {
					o.want(t, exitOK)
					return
				}
				answers[i] = parse[ownerAnswer](t, o)
			}
		})
	}
	wg.Wait()
	return answers
}

// The node that lbctl names is the one that answers, whichever node is asked, and whether or not
// its lbd lives.
func TestLbctlOwnerNamesTheNodeThatAnswers(t *testing.T) {
	const ports, first = 40, 20000
	c := newCluster(t, options{attach: "native", weights: []int{100, 100, 200}})
	for _, n := range c.nodes {
		n.serve()
	}
	c.nodes[1].stop(syscall.SIGKILL)
	for _, vip := range []netip.Addr{vip4, vip6} {
		named := c.nodes[0].owners(t, vip, first, ports)
		shares := make(map[string]int)
		for i, owner := range named {
			name, _, err := c.connect(vip, first+i)
			if err != nil || name != owner.Node || owner.Local != (name == "n1") ||
				owner.Service != "web "+vip.String() || owner.HashOf != "source+port" {
				t.Errorf("port %d of %s: %q answered, %v; lbctl owner says %+v", first+i, vip, name, err, owner)
			}
			shares[name]++
		}
		if len(shares) != 3 {
			t.Errorf("%s: only %v answered", vip, shares)
		}
		// the others have the same tables; what differs is who is local
		for _, n := range c.nodes[1:] {
			got := n.owners(t, vip, first, 5)
			if diff := cmp.Diff(named[:5], got, cmpopts.IgnoreFields(ownerAnswer{}, "Local")); diff != "" {
				t.Errorf("n1 and %s do not agree about %s:\n%s", n.name, vip, diff)
			}
		}
	}
	c.nodes[1].start()
}

// A traced is what lbctl trace -o json prints, as far as it is looked at here.
type traced struct {
	Sent    []byte // the made-up frame
	Reason  datapath.Reason
	Service string
}

// scope is where a frame for a VIP is counted.
func (tr traced) scope(line string) string {
	if tr.Service != "" {
		return "service " + tr.Service
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		if strings.Contains(line, vip.String()) {
			return "vip " + vip.String()
		}
	}
	return ""
}

// counts are those of VIPs and services. What has no scope goes on meanwhile, such as neighbor
// discovery for the nodes themselves.
func (n *node) counts(t *testing.T) map[string]uint64 {
	t.Helper()
	list, err := n.counterList()
	check(t, err)
	counts := make(map[string]uint64)
	for _, c := range list {
		if c.Scope != "" {
			counts[c.Scope+" "+c.Reason] = c.Packets
		}
	}
	return counts
}

// A trace is a prediction: the same frame, really sent, is counted by each node for the reason that
// was foretold there, and for nothing else. The prediction itself leaves no mark.
func TestLbctlTraceForetellsWhatThePacketMeets(t *testing.T) {
	t.Parallel() // one lbctl after the other leaves a core to others
	c := newStrictCluster(t, 100, 100)
	// clients that do not exist: nobody answers to the answers
	lines := []string{
		"udp 192.0.2.230:7 192.0.2.80:8080", "udp [2001:db8::230]:7 [2001:db8::80]:8083",
		"udp 192.0.2.230:7 192.0.2.80:8084", "udp [2001:db8::230]:7 [2001:db8::80]:9",
		"tcp 192.0.2.230:7 192.0.2.80:22", "tcp [2001:db8::230]:7 [2001:db8::80]:8080 --flags ack",
		"tcp 192.0.2.230:7 192.0.2.80:8080 --flags rst,ack",
		"udp 192.0.2.231:7 192.0.2.80:8080 --fragment first", "udp [2001:db8::231]:7 [2001:db8::80]:8080 --fragment later",
		"tcp 192.0.2.230:7 192.0.2.80:8080 --to 02:00:00:00:00:99",
		"icmp 192.0.2.230 192.0.2.80", "icmp 2001:db8::230 2001:db8::80", "icmp 192.0.2.233 192.0.2.80",
		"tcp 192.0.2.230:7 192.0.2.80:8080 --to own", "tcp [2001:db8::230]:7 [2001:db8::80]:22 --to own",
		"udp 192.0.2.230:7 192.0.2.80:8080 --vlan 9",
	}
	for i := range 4 {
		lines = append(lines, fmt.Sprintf("tcp 192.0.2.230:%d 192.0.2.80:8080", 100+i),
			fmt.Sprintf("tcp [2001:db8::230]:%d [2001:db8::80]:8080", 100+i))
	}
	// what this would teach a node is asked of it by a later fragment
	for _, n := range c.nodes {
		n.lbctl(t, "trace udp [2001:db8::231]:7 [2001:db8::80]:8080 --fragment first").want(t, exitOK, "first fragment")
	}
	met := make(map[string]int)
	for _, line := range lines {
		senders := c.nodes[:1]
		if strings.Contains(line, "--to own") { // another frame for each node
			senders = c.nodes
		}
		for _, asked := range senders {
			before := make(map[*node]map[string]uint64)
			for _, n := range c.nodes {
				before[n] = n.counts(t)
			}
			want := make(map[*node]traced)
			for _, n := range c.nodes {
				want[n] = parse[traced](t, n.lbctl(t, "trace "+line+" -o json"))
			}
			for _, n := range c.nodes {
				if diff := cmp.Diff(before[n], n.counts(t)); diff != "" {
					t.Errorf("trace %s was counted by %s:\n%s", line, n.name, diff)
				}
			}

			frame := want[asked].Sent
			nettest.Inject(t, c.client, "eth0", frame)
			for _, n := range c.nodes {
				tr := want[n]
				if string(tr.Sent) != string(frame) {
					continue // the switch does not bring it there
				}
				expected := maps.Clone(before[n])
				expected[tr.scope(line)+" "+tr.Reason.Name]++
				met[tr.Reason.Name]++
				var diff string
				nettest.Eventually(t, agreeWithin, func() error {
					if diff = cmp.Diff(expected, n.counts(t)); diff != "" {
						return fmt.Errorf("%s, which should meet %s at %s (-foretold +counted):\n%s", line, tr.Reason.Name, n.name, diff)
					}
					return nil
				})
			}
		}
	}
	t.Logf("met: %v", met)
	for _, reason := range []string{"accepted", "not-owner", "unnamed-dropped", "fragment-unknown", "other-host",
		"echo-accepted", "echo-not-owner", "direct"} {
		if met[reason] == 0 {
			t.Errorf("no packet met %s: the test proves less than it says", reason)
		}
	}
}
