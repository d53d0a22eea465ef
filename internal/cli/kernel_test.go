package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A node is a host with a datapath that was set once and is left alone, as after lbd's death.
type node struct {
	host   *netlab.Host
	client *netlab.Host
	dir    string
}

// ownership gives even buckets to n1, which is this node, and odd ones to n2.
func ownership() *lb.Table {
	table := &lb.Table{Owners: make([]int16, lb.Buckets)}
	for i := range table.Owners {
		table.Owners[i] = int16(i % 2)
	}
	return table
}

// newNode needs the kernel's network namespaces, XDP and a BPF file system.
func newNode(t *testing.T, sample uint32) *node {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{host: nettest.Host(t, lab, "n1"), client: nettest.Host(t, lab, "c1")}
	for i, host := range []*netlab.Host{n.host, n.client} {
		mac := net.HardwareAddr{2, 0, 0, 0, 0, byte(0x10 + i)}
		if err := lab.Connect(host, "eth0", sw, netlab.LinkOptions{MAC: mac}); err != nil {
			t.Fatal(err)
		}
		addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}), 24)
		if err := host.Addr("eth0", addr); err != nil {
			t.Fatal(err)
		}
	}
	n.dir = filepath.Join(datapath.DefaultDir + "-test-" + strings.Trim(nettest.Prefix(), "-"))
	state := &lb.State{
		Cluster: "demo",
		Seed:    [32]byte{1},
		Nodes: []lb.Node{
			{Index: 0, Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Weight: 1, Local: true},
			{Index: 1, Name: "n2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}, Weight: 1},
		},
		VIPs: []lb.VIP{{Addr: vip4.Addr(), Interface: "eth0", MAC: shared, Other: lb.OtherDrop}},
		Services: []lb.Service{
			{Name: "web", Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: 80, Last: 80}, {First: 443, Last: 443}},
				Hash: lb.HashSource},
			{Name: "quic", Protocol: lb.ProtocolUDP, Ports: []lb.PortRange{{First: 8000, Last: 8003}},
				Hash: lb.HashSourcePort},
			{Name: "net", Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: 90, Last: 90}},
				Hash: lb.HashFields{SourceBits4: 24, SourceBits6: 56}},
			{Name: "all", Protocol: lb.ProtocolTCP, Ports: []lb.PortRange{{First: 91, Last: 91}},
				Hash: lb.HashSourcePortDestPort},
		},
		Tables:      []*lb.Table{ownership()},
		SampleDrops: sample,
	}
	n.set(t, state)
	t.Cleanup(func() {
		if err := os.RemoveAll(n.dir); err != nil {
			t.Error(err)
		}
	})
	return n
}

// set gives the node's datapath a state.
func (n *node) set(t *testing.T, state *lb.State) {
	t.Helper()
	n.do(t, func() error {
		d, err := datapath.Open(datapath.Options{Dir: n.dir, Mode: datapath.ModeGeneric, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		defer d.Close()
		_, err = d.Set(t.Context(), state)
		return err
	})
}

func (n *node) do(t *testing.T, f func() error) {
	t.Helper()
	if err := n.host.Do(f); err != nil {
		t.Fatal(err)
	}
}

// lbctl runs a command line on the node.
func (n *node) lbctl(t *testing.T, line string) (got run) {
	t.Helper()
	n.do(t, func() error {
		got = lbctl(t, nil, append(strings.Fields(line), "--bpf-dir", n.dir)...)
		return nil
	})
	return got
}

// parse reads what a command printed with -o json.
func parse[T any](t *testing.T, got run) (value T) {
	t.Helper()
	if got.Code != exitOK {
		t.Fatalf("%+v", got)
	}
	if err := json.Unmarshal([]byte(got.Stdout), &value); err != nil {
		t.Fatalf("%v: %s", err, got.Stdout)
	}
	return value
}

func TestMapsDumpReadsWhatWasSet(t *testing.T) {
	n := newNode(t, 0)
	got := n.lbctl(t, "maps dump")
	if got.Code != exitOK {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{
		"n1*   192.0.2.1", "n2    192.0.2.9",
		"192.0.2.80  eth0       03:bf:c0:00:02:50  02:00:00:00:00:10  drop",
		"cluster demo\n",
		"web 192.0.2.80   tcp       443        source ",
		"quic 192.0.2.80  udp       8000-8003  source+port ",
		"net 192.0.2.80   tcp       90         source-net/24 ",
		"all 192.0.2.80   tcp       91         source+port+dest-port ",
		"n1 32768, n2 32768",
	} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("%q is missing in\n%s", want, got.Stdout)
		}
	}
	dump := parse[mapsDump](t, n.lbctl(t, "maps dump -o json"))
	if len(dump.Nodes) != 2 || len(dump.VIPs) != 1 || len(dump.Services) != 5 || dump.Counters == nil {
		t.Errorf("%+v", dump)
	}
}

func TestTraceShowsEachDecision(t *testing.T) {
	n := newNode(t, 0)
	// which of two clients is this node's follows from the seed; both must be met
	verdicts := make(map[string]bool)
	for i := range 16 {
		got := n.lbctl(t, fmt.Sprintf("trace tcp 198.51.100.%d:40000 192.0.2.80:443", i))
		if got.Code != exitOK {
			t.Fatalf("%+v", got)
		}
		ours := strings.Contains(got.Stdout, "owner     n1, this node\nverdict   accept, accepted: ") &&
			strings.Contains(got.Stdout, "\nout       destination MAC rewritten to 02:00:00:00:00:10\n")
		theirs := strings.Contains(got.Stdout, "owner     n2\nverdict   drop, not-owner: ")
		if ours == theirs || !strings.Contains(got.Stdout, "service   web 192.0.2.80\n") {
			t.Errorf("neither ours nor theirs:\n%s", got.Stdout)
		}
		verdicts[map[bool]string{true: "ours", false: "theirs"}[ours]] = true
	}
	if len(verdicts) != 2 {
		t.Errorf("only %v", verdicts)
	}
}

func TestTraceSaysWhatTheProgramSays(t *testing.T) {
	n := newNode(t, 0)
	for line, want := range map[string]string{
		"tcp 198.51.100.7 192.0.2.80:22":                                        "unnamed-dropped",
		"tcp 198.51.100.7 192.0.2.80:443 --to own":                              "direct",
		"tcp 198.51.100.7 192.0.2.80:443 --to 02:00:00:00:00:99":                "other-host",
		"tcp 198.51.100.7 192.0.2.80:443 --to own --interface lo":               "other-interface",
		"tcp 198.51.100.7 192.0.2.81:443 --to 02:00:00:00:00:10 --interface lo": "not-vip",
		"udp 198.51.100.7 192.0.2.80:8001 --fragment later":                     "fragment-unknown",
	} {
		trace := parse[traceResult](t, n.lbctl(t, "trace "+line+" -o json"))
		if trace.Reason.Name != want {
			t.Errorf("trace %s: %s, want %s", line, trace.Reason.Name, want)
		}
	}
	tagged := n.lbctl(t, "trace udp 198.51.100.7 192.0.2.80:8001 --vlan 7 --fragment first")
	for _, want := range []string{"parse     udp 198.51.100.7:40000 -> 192.0.2.80:8001, vlan 7, first fragment\n"} {
		if !strings.Contains(tagged.Stdout, want) {
			t.Errorf("%q is missing in\n%s", want, tagged.Stdout)
		}
	}
}

// The made-up datagram is one and the same: were its first fragment remembered among the live ones,
// its later ones would follow it, and so would those of a real datagram that looks like it.
func TestTraceRemembersNoFragment(t *testing.T) {
	n := newNode(t, 0)
	for _, line := range []string{"--fragment first", "--fragment later"} {
		trace := parse[traceResult](t, n.lbctl(t, "trace udp 198.51.100.7 192.0.2.80:8001 -o json "+line))
		if line == "--fragment later" && trace.Reason.Name != "fragment-unknown" {
			t.Errorf("a later fragment meets %s after the trace of its first", trace.Reason.Name)
		}
	}
}

func TestTraceOfAnAddressThatIsNoVIPNamesTheVIPs(t *testing.T) {
	got := newNode(t, 0).lbctl(t, "trace tcp 198.51.100.7 192.0.2.81:443")
	want := "lbctl: 192.0.2.81 is no VIP here (the VIPs are 192.0.2.80): say --interface and --to MAC\n"
	if got.Code != exitFailed || got.Stderr != want {
		t.Errorf("%+v, want %q", got, want)
	}
}

func TestOwnerAgreesWithTraceAndNoticesWhatIsHashed(t *testing.T) {
	n := newNode(t, 0)
	owner := parse[ownerResult](t, n.lbctl(t, "owner 198.51.100.7 192.0.2.80:443 -o json"))
	trace := parse[traceResult](t, n.lbctl(t, "trace tcp 198.51.100.7:1234 192.0.2.80:443 -o json"))
	if owner.Node != trace.Bucket.Node || owner.Bucket != trace.Bucket.Index || owner.SourcePort ||
		owner.Source != "198.51.100.7" || owner.HashOf != "source" {
		t.Errorf("owner %+v, trace %+v", owner, trace.Bucket)
	}
	owner = parse[ownerResult](t, n.lbctl(t, "owner 198.51.100.7:40000 192.0.2.80:8001 --protocol udp -o json"))
	if !owner.SourcePort || owner.HashOf != "source+port" {
		t.Errorf("%+v: the source port is hashed", owner)
	}
	for line, want := range map[string]run{
		"owner 198.51.100.7 192.0.2.80:8001 --protocol udp": {exitUsage, "",
			"lbctl: the source port takes part in the hash of service quic 192.0.2.80: say SRC:PORT\n"},
		"owner 198.51.100.7 192.0.2.80:22": {exitFailed, "",
			"lbctl: nobody serves 198.51.100.7 at 192.0.2.80:22: no service names it, and the VIP drops such traffic\n"},
	} {
		if got := n.lbctl(t, line); got != want {
			t.Errorf("%s: %+v, want %+v", line, got, want)
		}
	}
}

func TestDropsAreFollowedUntilTheCountIsReached(t *testing.T) {
	n := newNode(t, 1)
	if err := n.client.Neighbour("eth0", vip4.Addr(), shared); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	conn, err := n.client.Dial(ctx, "udp", "192.0.2.80:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	got := n.lbctl(t, "drops --count 2 --for 10s -o json")
	lines := strings.Split(strings.TrimSuffix(got.Stdout, "\n"), "\n")
	if got.Code != exitOK || len(lines) != 2 {
		t.Fatalf("%+v", got)
	}
	for _, line := range lines {
		drop := parse[dropLine](t, run{Stdout: line})
		if drop.Reason.Name != "unnamed-dropped" || drop.Scope != "vip 192.0.2.80" || drop.Interface != "eth0" ||
			drop.Source != conn.LocalAddr().String() || drop.Destination != "192.0.2.80:9" {
			t.Errorf("%+v", drop)
		}
	}
}

func TestDropsEndAfterATime(t *testing.T) {
	if got := newNode(t, 1).lbctl(t, "drops --for 50ms"); got != (run{}) {
		t.Errorf("%+v", got)
	}
}

func TestDropsSayThatNoneAreSampled(t *testing.T) {
	got := newNode(t, 0).lbctl(t, "drops --for 1s")
	if got.Code != exitFailed || !strings.Contains(got.Stderr, "no drops are sampled") {
		t.Errorf("%+v", got)
	}
}
