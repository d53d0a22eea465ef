package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	membership "github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

var (
	vip4 = netip.MustParseAddr("192.0.2.80")
	vip6 = netip.MustParseAddr("2001:db8::80")
)

// binaries are built once for all tests.
var binaries string

func TestMain(m *testing.M) {
	if code, yes := played(); yes {
		os.Exit(code)
	}
	dir, err := os.MkdirTemp("", "lb-e2e-")
	if err == nil {
		err = buildInto(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: build:", err)
		os.Exit(1)
	}
	binaries = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// buildInto builds lbd and lbctl, and an lbd of another version in the directory next, to upgrade to.
func buildInto(dir string) error {
	for _, args := range [][]string{
		{"-o", dir, "../../cmd/lbd", "../../cmd/lbctl"},
		{"-o", filepath.Join(dir, "next") + "/", "-ldflags", "-X main.version=next", "../../cmd/lbd"},
	} {
		build := exec.Command("go", append([]string{"build"}, args...)...)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return err
		}
	}
	return nil
}

// A node is one machine of a cluster, with its lbd.
type node struct {
	t      testing.TB
	name   string
	host   *netlab.Host
	dir    string
	pins   string
	weight int
	lbd    string       // below binaries, the one that is started next
	asked  []netip.Addr // what clients ask for here, if not the VIPs

	cmd  *netlab.Command // nil before the first start
	logs *logs
}

// logs is what an lbd wrote.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A cluster is some nodes and a client on one switch.
type cluster struct {
	lab    *netlab.Lab
	sw     *netlab.Switch
	client *netlab.Host
	nodes  []*node
}

type options struct {
	attach   string // native or generic
	weights  []int
	services string // YAML of the services section; default: TCP and UDP port 80 by source port
	vips     string // YAML of the vips section; default: vip4 and vip6
	mtu      int
	snooping bool // the switch learns from IGMP and MLD where multicast frames go

	members bool     // the nodes decide by themselves who owns what
	tuning  []string // what else cluster.membership says, as in "heartbeat: 30ms", "partition: any"
	later   int      // so many of the nodes, the last ones, are not started yet

	beside func(*cluster) // makes what else is on the switch, before anything runs
}

const webServices = `
  - {name: web, vips: [192.0.2.80, "2001:db8::80"], protocol: tcp, ports: all}
  - {name: echo, vips: [192.0.2.80, "2001:db8::80"], protocol: udp, ports: all}
`

func newCluster(t testing.TB, opts options) *cluster {
	t.Helper()
	c := newMachines(t, opts)
	key := membership.GenerateKey()
	for _, n := range c.nodes {
		check(t, membership.WriteKeys(n.path("cluster.key"), []membership.Key{key}))
		c.writeConfig(n, opts)
		t.Cleanup(n.remove)
	}
	now := c.nodes[:len(c.nodes)-opts.later]
	for _, n := range now {
		n.launch()
	}
	for _, n := range now {
		n.await()
	}
	return c
}

// newMachines is what a cluster runs on: nothing runs there yet.
func newMachines(t testing.TB, opts options) *cluster {
	t.Helper()
	lab := nettest.New(t)
	c := &cluster{lab: lab}
	var err error
	if c.sw, err = lab.Switch("sw", netlab.SwitchOptions{Snooping: opts.snooping}); err != nil {
		t.Fatal(err)
	}
	c.client = nettest.Host(t, lab, "client")
	check(t, lab.Connect(c.client, "eth0", c.sw, netlab.LinkOptions{MTU: opts.mtu}))
	check(t, c.client.Addr("eth0", netip.MustParsePrefix("192.0.2.200/24")))
	check(t, c.client.Addr("eth0", netip.MustParsePrefix("2001:db8::200/64")))
	for i, weight := range opts.weights {
		n := &node{t: t, name: fmt.Sprintf("n%d", i+1), weight: weight, lbd: "lbd", dir: t.TempDir(), logs: &logs{}}
		n.pins = filepath.Join("/sys/fs/bpf", filepath.Base(t.TempDir())+nettest.Prefix()+n.name)
		n.host = nettest.Host(t, lab, n.name)
		check(t, lab.Connect(n.host, "eth0", c.sw, netlab.LinkOptions{MTU: opts.mtu, SwitchXDP: true}))
		check(t, n.host.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", 11+i))))
		check(t, n.host.Addr("eth0", netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", 11+i))))
		c.nodes = append(c.nodes, n)
	}
	if opts.beside != nil {
		opts.beside(c)
	}
	return c
}

func (c *cluster) writeConfig(n *node, opts options) {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster:\n  name: test\n  seed: %064x\n  node: %s\n", 7, n.name)
	if opts.members {
		lines := append([]string{"key-file: " + n.path("cluster.key")}, opts.tuning...)
		fmt.Fprintf(&b, "  membership: {%s}\n", strings.Join(lines, ", "))
	}
	b.WriteString("  nodes:\n")
	for i, other := range c.nodes {
		fmt.Fprintf(&b, "    - {name: %s, addresses: [192.0.2.%d, '2001:db8::%d'], weight: %d}\n",
			other.name, 11+i, 11+i, other.weight)
	}
	services := opts.services
	if services == "" {
		services = webServices
	}
	vips := opts.vips
	if vips == "" {
		vips = fmt.Sprintf("\n  - address: %s\n  - address: '%s'\n", vip4, vip6)
	}
	fmt.Fprintf(&b, "interface: eth0\nattach: %s\nvips:%sservices:%s", opts.attach, vips, services)
	check(n.t, os.WriteFile(n.path("lb.yaml"), []byte(b.String()), 0o600))
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// start runs lbd and returns when it serves.
func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.await()
}

func (n *node) launch() {
	n.t.Helper()
	n.cmd = n.host.Command(context.Background(), filepath.Join(binaries, n.lbd), "-config", n.path("lb.yaml"),
		"-socket", n.path("lbd.sock"), "-bpf-dir", n.pins, "-state-dir", n.path("state"), "-data-dir", n.path("data"))
	n.cmd.Stderr = n.logs
	n.cmd.SysProcAttr.Setsid = true // as a service: its priority counts in the whole machine
	check(n.t, n.cmd.Start())
}

func (n *node) await() {
	n.t.Helper()
	nettest.Eventually(n.t, agreeWithin, func() error {
		status, err := n.status()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", n.name, err, n.logs)
		}
		if status.Generation == 0 {
			return fmt.Errorf("%s: nothing applied: %v\n%s", n.name, status.Problems, n.logs)
		}
		return nil
	})
}

func (n *node) status() (*control.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := control.Dial(n.path("lbd.sock"))
	if err != nil {
		return nil, err
	}
	return client.Status(ctx)
}

// stop ends lbd by a signal and waits for the process.
func (n *node) stop(signal syscall.Signal) {
	n.t.Helper()
	check(n.t, n.cmd.Process.Signal(signal))
	err := n.cmd.Wait()
	if signal == syscall.SIGTERM && err != nil {
		n.t.Fatalf("%s: lbd ended with %v\n%s", n.name, err, n.logs)
	}
}

func (n *node) remove() {
	if n.t.Failed() {
		n.t.Logf("%s counted:\n%s\nits lbd wrote:\n%s", n.name, n.counters(), n.logs)
	}
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	}
	_ = os.RemoveAll(filepath.Join(n.pins, "links"))
	_ = os.RemoveAll(filepath.Join(n.pins, "maps"))
	_ = os.RemoveAll(n.pins)
}

// counters renders what the datapath counted, one line each.
func (n *node) counters() string {
	list, err := n.counterList()
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%-32s %-20s %d\n", c.Scope, c.Reason, c.Packets)
	}
	return b.String()
}

func (n *node) counterList() ([]datapath.Counter, error) {
	view, err := datapath.OpenView(n.pins)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return view.Counters()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
