package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
)

// The exit codes that scripts rely on, as the manual has them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitConfig      = 3
	exitDegraded    = 4
	exitUnreachable = 5
)

// An outcome is what a run of lbctl ended with.
type outcome struct {
	line   string
	code   int
	stdout string
	stderr string
}

// lbctl runs a command line on the node, as root would.
func (n *node) lbctl(t testing.TB, line string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := n.host.Command(ctx, filepath.Join(binaries, "lbctl"),
		append(strings.Fields(line), "--socket", n.path("lbd.sock"), "--bpf-dir", n.pins)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("lbctl %s: %v", line, err)
	}
	return outcome{line, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want checks the exit code and that words were printed, wherever.
func (o outcome) want(t testing.TB, code int, words ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("lbctl %s: exit code %d, want %d\n%s%s", o.line, o.code, code, o.stdout, o.stderr)
	}
	for _, word := range words {
		if !strings.Contains(o.stdout+o.stderr, word) {
			t.Errorf("lbctl %s does not say %q:\n%s%s", o.line, word, o.stdout, o.stderr)
		}
	}
	if code != exitOK && code != exitDegraded && (o.stdout != "" || !strings.Contains(o.stderr, "lbctl: ")) {
		t.Errorf("lbctl %s failed with stdout %q and stderr %q", o.line, o.stdout, o.stderr)
	}
}

// parse reads what a command printed with -o json.
func parse[T any](t testing.TB, o outcome) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.stdout), &value); o.code != exitOK || err != nil {
		t.Fatalf("lbctl %s: exit code %d, %v\n%s%s", o.line, o.code, err, o.stdout, o.stderr)
	}
	return value
}

// everywhere changes the file of every node and has it read.
func (c *cluster) everywhere(old, new string) {
	for _, n := range c.nodes {
		n.rewrite(old, new)
		n.reload()
	}
}

// strictServices leave something for other: drop.
const strictServices = `
  - {name: web, vips: [192.0.2.80, "2001:db8::80"], protocol: tcp, ports: [8080]}
  - {name: echo, vips: [192.0.2.80, "2001:db8::80"], protocol: udp, ports: [8080-8083], hash: source}
`

// newStrictCluster serves and samples every drop, and VIPs drop what no service names.
func newStrictCluster(t *testing.T, weights ...int) *cluster {
	t.Helper()
	c := newCluster(t, options{attach: "native", weights: weights, services: strictServices})
	c.everywhere("  - address: 192.0.2.80\n  - address: '2001:db8::80'\n",
		"  - {address: 192.0.2.80, other: drop}\n  - {address: '2001:db8::80', other: drop}\ndrops: {sample: 1}\n")
	for _, n := range c.nodes {
		n.serve()
	}
	return c
}

func TestLbctlShowsWhatARunningNodeServes(t *testing.T) {
	c := newStrictCluster(t, 50, 150)
	n := c.nodes[0]
	made := c.connections(t, vip4, 20000, 40)["n1"] + c.connections(t, vip6, 20000, 40)["n1"]
	n.lbctl(t, "status").want(t, exitOK, "no problems", "n1 of cluster test", "native")

	status := parse[control.Status](t, n.lbctl(t, "status -o json"))
	if status.Node != "n1" || status.Cluster != "test" || status.PID != n.cmd.Process.Pid || len(status.Attach) != 1 ||
		status.Config.File != n.path("lb.yaml") {
		t.Errorf("status: %+v", status)
	}
	wantVIPs := []control.VIP{
		{Address: vip4, Interface: "eth0", MAC: sharedMACs[vip4], MACForm: "multicast", Announce: "multicast", Other: "drop", OwnedShare: 0.25},
		{Address: vip6, Interface: "eth0", MAC: sharedMACs[vip6], MACForm: "multicast", Announce: "multicast", Other: "drop", OwnedShare: 0.25},
	}
	near := cmpopts.EquateApprox(0, 0.01) // of shares: the tables are random
	same := cmpopts.EquateComparable(netip.Addr{})
	if diff := cmp.Diff(wantVIPs, parse[[]control.VIP](t, n.lbctl(t, "vips -o json")), near, same); diff != "" {
		t.Errorf("vips (-want +got):\n%s", diff)
	}
	wantNodes := []control.Node{
		{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")},
			Weight: 50, Local: true, Share: 0.25},
		{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("2001:db8::12")},
			Weight: 150, Share: 0.75},
	}
	got := parse[[]control.Node](t, n.lbctl(t, "nodes -o json"))
	if diff := cmp.Diff(wantNodes, got, near, same); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}

	services := parse[[]control.Service](t, n.lbctl(t, "services -o json"))
	if len(services) != 4 {
		t.Fatalf("services: %+v", services)
	}
	// a connection is SYN, ACK, and at least RST; n1 takes all of it or nothing
	var accepted uint64
	for _, s := range services {
		wantHash := map[string]string{"web": "source+port", "echo": "source"}[s.Name]
		if s.Hash != wantHash || len(s.Shares) != 2 || s.Shares[0].Share < 0.24 || s.Shares[0].Share > 0.26 {
			t.Errorf("service %s: %+v", s.Name, s)
		}
		if s.Name == "web" {
			accepted += s.Accepted.Packets
			if s.Ignored.Packets < uint64(40/2) {
				t.Errorf("service %s of %s ignored %d packets of the other node's", s.Name, s.VIP, s.Ignored.Packets)
			}
		}
	}
	if accepted < 3*uint64(made) || accepted > 8*uint64(made) {
		t.Errorf("%d packets accepted for %d connections", accepted, made)
	}
	for _, noun := range []string{"vips", "nodes", "services", "status"} {
		n.lbctl(t, noun).want(t, exitOK)
		n.lbctl(t, noun+" -o yaml").want(t, exitOK)
	}
}

func TestLbctlDropsTellsWhatWasDropped(t *testing.T) {
	c := newStrictCluster(t, 100)
	n := c.nodes[0]
	done := make(chan outcome)
	go func() { done <- n.lbctl(t, "drops --count 1 --for 20s -o json") }()
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(clientAddr(vip6), 20001))
	conn, err := c.client.DialFrom(t.Context(), &net.Dialer{LocalAddr: local}, "udp", netip.AddrPortFrom(vip6, 9).String())
	check(t, err)
	defer conn.Close()
	for {
		_, err := conn.Write([]byte("nobody serves this"))
		check(t, err)
		select {
		case o := <-done:
			drop := parse[struct {
				Reason                                          datapath.Reason
				Scope, Interface, Protocol, Source, Destination string
			}](t, o)
			want := "unnamed-dropped vip 2001:db8::80 eth0 udp [2001:db8::200]:20001 [2001:db8::80]:9"
			if got := fmt.Sprint(drop.Reason.Name, " ", drop.Scope, " ", drop.Interface, " ", drop.Protocol, " ",
				drop.Source, " ", drop.Destination); got != want {
				t.Errorf("dropped: %s\nwant     %s", got, want)
			}
			return
		case <-time.After(50 * time.Millisecond): // lbctl may not listen yet
		}
	}
}

func TestLbctlComparesAndReloadsFiles(t *testing.T) {
	c := newStrictCluster(t, 100, 100)
	n := c.nodes[0]
	inForce := n.path("lb.yaml")
	n.lbctl(t, "config check "+inForce).want(t, exitOK, inForce+": ok")
	n.lbctl(t, "config diff "+inForce).want(t, exitOK, "no changes")

	// what is shown hides the seed and compares as before; what root sees is a whole file
	seed := fmt.Sprintf("%064x", 7)
	hidden, shown := n.lbctl(t, "config show"), n.lbctl(t, "config show --show-seed")
	if hidden.want(t, exitOK, `seed: "<hidden>"`); strings.Contains(hidden.stdout, seed) {
		t.Errorf("the seed is shown:\n%s", hidden.stdout)
	}
	shown.want(t, exitOK, seed)
	for name, text := range map[string]string{"hidden.yaml": hidden.stdout, "shown.yaml": shown.stdout} {
		check(t, os.WriteFile(n.path(name), []byte(text), 0o600))
		n.lbctl(t, "config diff "+n.path(name)).want(t, exitOK, "no changes")
	}
	n.lbctl(t, "config check "+n.path("shown.yaml")).want(t, exitOK)

	n.settle(t)
	before, err := n.status()
	check(t, err)
	n.rewrite("sample: 1", "sample: 2")
	n.lbctl(t, "config diff "+inForce).want(t, exitOK, "~ drops.sample: 1 -> 2")
	if now, err := n.status(); err != nil || now.Generation != before.Generation {
		t.Errorf("diff changed something: %+v, %v", now, err)
	}
	n.lbctl(t, "config reload").want(t, exitOK, "~ drops.sample: 1 -> 2", fmt.Sprintf("generation %d", before.Generation+1))
	n.lbctl(t, "config reload").want(t, exitOK, "no changes")

	n.rewrite("sample: 2", "sample: many")
	for _, line := range []string{"config check " + inForce, "config diff " + inForce, "config reload"} {
		n.lbctl(t, line).want(t, exitConfig, "the configuration is invalid", inForce+":13:", `drops.sample: "many"`)
	}
	n.lbctl(t, "status").want(t, exitDegraded, "problem: the newest configuration is not in force: "+inForce+":13:")

	// a file that is valid and cannot be applied
	n.rewrite("sample: many", "sample: 2")
	n.rewrite("interface: eth0", "interface: eth7")
	n.lbctl(t, "config check "+inForce).want(t, exitOK)
	n.lbctl(t, "config reload").want(t, exitFailed, "interface eth7: no such interface (have: lo, eth0)", "the old one stays in force")
	n.lbctl(t, "status").want(t, exitDegraded, "problem: the newest configuration is not in force", "eth7")
	if answers := c.connections(t, vip4, 21000, 20); answers["n1"]+answers["n2"] != 20 {
		t.Errorf("meanwhile: %v", answers)
	}
	n.rewrite("interface: eth7", "interface: eth0")
	n.lbctl(t, "config reload").want(t, exitOK, "no changes")
	n.lbctl(t, "status").want(t, exitOK, "no problems")
}

// Each code for the reason that it stands for, with lbd there and gone.
func TestLbctlEndsWithTheCodeThatFits(t *testing.T) {
	c := newStrictCluster(t, 100)
	n := c.nodes[0]
	running := map[string]int{
		"version": exitOK, "events": exitOK, "maps dump": exitOK,
		"owner 192.0.2.200:20000 192.0.2.80:8080": exitOK,
		"owner 192.0.2.200:20000 192.0.2.80:22":   exitFailed, // other: drop
		"trace tcp 192.0.2.200 192.0.2.81:80":     exitFailed, // no VIP
		"config check " + n.path("no.yaml"):       exitFailed,
		"statuses":                                exitUsage,
		"config":                                  exitUsage,
		"status --color":                          exitUsage,
		"owner 192.0.2.200 192.0.2.80:8080":       exitUsage, // the source port takes part
		"owner 192.0.2.200 192.0.2.80":            exitUsage,
		"trace sctp 192.0.2.200 192.0.2.80:1":     exitUsage,
		"drops --count -1":                        exitUsage,
		"status -o xml":                           exitUsage,
	}
	for line, code := range running {
		n.lbctl(t, line).want(t, code)
	}
	dump := parse[mapsDump](t, n.lbctl(t, "maps dump -o json"))
	n.stop(syscall.SIGKILL)
	for _, line := range []string{"status", "vips", "services", "nodes", "events", "config show", "config reload",
		"config diff " + n.path("lb.yaml")} {
		n.lbctl(t, line).want(t, exitUnreachable, "lbd is not reachable")
	}
	n.lbctl(t, "config check "+n.path("lb.yaml")).want(t, exitOK)
	n.lbctl(t, "trace udp 192.0.2.200:20000 192.0.2.80:8080").want(t, exitOK, "accept, accepted")
	n.lbctl(t, "owner 192.0.2.200 192.0.2.80:8081 --protocol udp").want(t, exitOK, "n1, this node", "of source:")
	dead := parse[mapsDump](t, n.lbctl(t, "maps dump -o json"))
	if diff := cmp.Diff(dump.Dump, dead.Dump, cmpopts.EquateEmpty()); diff != "" || dead.Cluster != "test" {
		t.Errorf("maps of cluster %q with lbd dead (-running +dead):\n%s", dead.Cluster, diff)
	}
	n.start()
	n.lbctl(t, "status").want(t, exitOK)
}

// mapsDump is what lbctl maps dump -o json prints.
type mapsDump struct {
	datapath.Dump
	Counters []datapath.Counter
}
