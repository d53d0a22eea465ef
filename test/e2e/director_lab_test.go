package e2e

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// A farm is directors, backends behind them and a client, all on one switch. Its nodes are the
// directors.
type farm struct {
	*cluster
	opts     farmOptions
	backends []*node
	listed   int           // so many of them are in the configuration
	load     *standardLoad // without a client
}

type farmOptions struct {
	forward   string
	encap     string         // of forward: tunnel; default: ip
	six       func(int) bool // whose addresses are IPv6, of the backends by number; nil: nobody's. Not for NAT
	directors int
	weights   []int // of the backends
	spare     int   // so many of the backends, the last ones, are not in the configuration yet
	check     string
	tuning    []string // of the directors' membership
	announce  string   // default: multicast. With failover, n1 has the VIPs as long as it is there
	sourceNAT bool     // of NAT: backends reply to the VIP
	gateway   bool     // of NAT: backends reply by a VIP of the directors, which goes from one to the other
	serving   bool     // the backends are those of a standard load, from before the first check
}

// newFarm returns when the directors agree and every backend of the configuration is up there.
func newFarm(t testing.TB, opts farmOptions) *farm {
	t.Helper()
	opts.weights = slices.Clone(opts.weights) // they may change
	f := &farm{opts: opts, listed: len(opts.weights) - opts.spare}
	directors := options{members: true, attach: "native", weights: make([]int, opts.directors), tuning: opts.tuning}
	for i := range directors.weights {
		directors.weights[i] = 100
	}
	directors.vips = f.vips()
	directors.services = f.services(f.listed)
	directors.beside = func(c *cluster) { f.connect(t, c) }
	f.cluster = newCluster(t, directors)
	if opts.forward == "nat" {
		for _, n := range f.nodes {
			check(t, n.host.Forward())
		}
	}
	f.agree(t)
	f.awaitBackends(t, f.listed)
	return f
}

// vips is that section of the configuration.
func (f *farm) vips() string {
	var b strings.Builder
	list := func(announce string, vips ...netip.Addr) {
		if announce == "failover" {
			announce += ", prefer: [n1, n2]"
		}
		for _, vip := range vips {
			fmt.Fprintf(&b, "\n  - {address: '%s', announce: %s}", vip, announce)
		}
	}
	list(cmp.Or(f.opts.announce, "multicast"), vip4, vip6)
	if f.opts.gateway {
		list("failover", gateway4, gateway6)
	}
	return b.String() + "\n"
}

// gateway4 and gateway6 are what backends behind NAT reply by when no single director is to be missed.
var (
	gateway4 = netip.MustParseAddr("192.0.2.90")
	gateway6 = netip.MustParseAddr("2001:db8::90")
)

// connect puts the backends on the switch.
func (f *farm) connect(t testing.TB, c *cluster) {
	t.Helper()
	for i, weight := range f.opts.weights {
		b := &node{t: t, name: fmt.Sprintf("b%d", i+1), weight: weight, lbd: "lbd", dir: t.TempDir(), logs: &logs{}}
		b.pins = filepath.Join("/sys/fs/bpf", filepath.Base(t.TempDir())+nettest.Prefix()+b.name)
		b.host = nettest.Host(t, c.lab, b.name)
		check(t, c.lab.Connect(b.host, "eth0", c.sw, netlab.LinkOptions{}))
		check(t, b.host.Addr("eth0", netip.PrefixFrom(backendAddr(i, false), 24)))
		check(t, b.host.Addr("eth0", netip.PrefixFrom(backendAddr(i, true), 64)))
		switch f.opts.forward {
		case "dr":
			b.holdVIPs()
		case "tunnel":
			b.becomeBackend(f.opts.directors)
		case "nat":
			b.asked = []netip.Addr{backendAddr(i, false), backendAddr(i, true)}
			if !f.opts.sourceNAT {
				f.replyBy(b, i, clientAddr(vip4), clientAddr(vip6))
			}
		}
		f.backends = append(f.backends, b)
	}
	if f.opts.serving {
		f.load = &standardLoad{servers: (&cluster{nodes: f.backends}).startServers(t)}
	}
}

func backendAddr(i int, six bool) netip.Addr {
	if six {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", 101+i))
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, byte(101 + i)})
}

// replyBy makes a director the way of a backend, by number, to clients of both families.
func (f *farm) replyBy(n *node, backend int, clients ...netip.Addr) {
	n.t.Helper()
	for _, client := range clients {
		director := 11 + backend%f.opts.directors
		gateway := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", director))
		switch {
		case f.opts.gateway && client.Is4():
			gateway = gateway4
		case f.opts.gateway:
			gateway = gateway6
		case client.Is6():
			gateway = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", director))
		}
		check(n.t, n.host.Route(netip.PrefixFrom(client, client.BitLen()), gateway))
	}
}

// holdVIPs gives a backend the VIPs, for which it must never answer: only directors do. IPv6 answers
// only for addresses of the interface that was asked on, which lo is not. What the switch floods to all,
// because it is for the directors, would be taken, too, as veth has no filter for MACs.
func (n *node) holdVIPs() {
	n.t.Helper()
	for name, value := range map[string]string{
		"ipv4.conf.eth0.arp_ignore": "1", "ipv4.conf.eth0.arp_announce": "2",
		"ipv4.conf.eth0.drop_unicast_in_l2_multicast": "1", "ipv6.conf.eth0.drop_unicast_in_l2_multicast": "1",
	} {
		check(n.t, n.host.SetSysctl("net."+name, value))
	}
	for _, vip := range []netip.Addr{vip4, vip6} {
		check(n.t, n.host.Addr("lo", netip.PrefixFrom(vip, vip.BitLen())))
	}
}

// becomeBackend has lbd do that, and take off the tunnels of the directors.
func (n *node) becomeBackend(directors int) {
	n.t.Helper()
	var from []string
	for i := range directors {
		from = append(from, fmt.Sprintf("192.0.2.%d, '2001:db8::%[1]d'", 11+i))
	}
	check(n.t, os.WriteFile(n.path("lb.yaml"), fmt.Appendf(nil,
		"role: backend\ninterface: eth0\nmethod: tunnel\ndirectors: [%s]\nvips: [%s, '%s']\n", strings.Join(from, ", "), vip4, vip6), 0o600))
	n.t.Cleanup(n.remove)
	n.launch()
	nettest.Eventually(n.t, agreeWithin, func() error {
		addrs, err := n.host.Addrs("lo")
		if err != nil || !strings.Contains(fmt.Sprint(addrs), vip4.String()) || !strings.Contains(fmt.Sprint(addrs), vip6.String()) {
			return fmt.Errorf("%s: addresses on lo: %v, %w\n%s", n.name, addrs, err, n.logs)
		}
		return nil
	})
}

// services is the section of the configuration, with so many backends. NAT keeps to one family.
func (f *farm) services(backends int) string {
	var b strings.Builder
	service := func(name, vips string, six bool) {
		forward := f.opts.forward
		if f.opts.encap != "" {
			forward += ", encap: " + f.opts.encap
		}
		ports := "all"
		if f.opts.sourceNAT {
			ports, forward = "1-32767", forward+", source-nat: true"
		}
		fmt.Fprintf(&b, "\n  - {name: %s, vips: [%s], ports: %s, forward: %s, flow-idle: 1m%s, backends: [", name, vips, ports, forward, f.opts.check)
		for i := range backends {
			six := six || f.opts.six != nil && f.opts.six(i)
			fmt.Fprintf(&b, "{name: b%d, address: '%s', weight: %d}, ", i+1, backendAddr(i, six), f.opts.weights[i])
		}
		b.WriteString("]}")
	}
	for _, s := range []string{"web", "echo"} {
		rest := map[string]string{"echo": ", protocol: udp, udp-idle: 2s"}[s]
		if f.opts.forward != "nat" {
			service(s+rest, "192.0.2.80, '2001:db8::80'", false)
			continue
		}
		service(s+rest, "192.0.2.80", false)
		service(s+"6"+rest, "'2001:db8::80'", true)
	}
	return b.String() + "\n"
}

// names are those of the services.
func (f *farm) names() []string {
	if f.opts.forward == "nat" {
		return []string{"web", "web6", "echo", "echo6"}
	}
	return []string{"web", "echo"}
}

// reweigh gives all directors as many backends as weights, in one file. A gateway has to know a backend
// behind NAT before others send to it: it is told first.
func (f *farm) reweigh(t testing.TB, weights ...int) {
	t.Helper()
	before := f.services(f.listed)
	f.listed = copy(f.opts.weights, weights)
	for _, n := range slices.Backward(f.nodes) {
		n.rewrite(before, f.services(f.listed))
		n.reload()
	}
}

// awaitShares waits until new flows of TCP go by the weights, and of UDP, too, which are noted first.
func (f *farm) awaitShares(t testing.TB) {
	t.Helper()
	total := 0
	for _, w := range f.opts.weights[:f.listed] {
		total += w
	}
	f.awaitBackend(t, "", func(all map[string]control.Backend) error {
		for i, w := range f.opts.weights[:f.listed] {
			if want := float64(w) / float64(total); math.Abs(all[f.backends[i].name].Share-want) > 0.02 {
				return fmt.Errorf("%s should have %.2f", f.backends[i].name, want)
			}
		}
		return nil
	})
}

// backendsOf is what `lbctl backends` says on a director.
func (n *node) backendsOf(t testing.TB, service string) map[string]control.Backend {
	t.Helper()
	byName := make(map[string]control.Backend)
	for _, b := range parse[[]control.Backend](t, n.lbctl(t, "backends "+service+" -o json")) {
		byName[b.Name] = b
	}
	return byName
}

// awaitBackends waits until so many are up on all directors, with the same shares.
func (f *farm) awaitBackends(t testing.TB, up int) {
	t.Helper()
	f.awaitBackend(t, "", func(all map[string]control.Backend) error {
		found := 0
		for _, b := range all {
			if b.State == "up" && b.Share > 0 {
				found++
			}
		}
		if found != up {
			return fmt.Errorf("%d backends are up, want %d", found, up)
		}
		return nil
	})
}

// awaitState waits until all directors say so of a backend.
func (f *farm) awaitState(t testing.TB, name, state string) {
	t.Helper()
	f.awaitBackend(t, name, func(all map[string]control.Backend) error {
		if all[name].State != state {
			return fmt.Errorf("it should be %s", state)
		}
		return nil
	})
}

func (f *farm) awaitBackend(t testing.TB, name string, ok func(map[string]control.Backend) error) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		time.Sleep(20 * time.Millisecond)
		for _, n := range f.running() {
			for _, service := range f.names() {
				all := n.backendsOf(t, service)
				if err := ok(all); err != nil {
					return fmt.Errorf("%s: %s %s: %w: %+v", n.name, service, name, err, all)
				}
			}
		}
		return nil
	})
}

// admin is `lbctl backends ...` about a backend of all services, asked of one director.
func (f *farm) admin(t testing.TB, verb, name, rest string) {
	t.Helper()
	for _, service := range f.names() {
		f.nodes[0].lbctl(t, fmt.Sprintf("backends %s %s/%s %s", verb, service, name, rest)).want(t, exitOK)
	}
}

// servers are the backends as those who serve.
func (f *farm) servers() *cluster {
	return &cluster{lab: f.lab, sw: f.sw, client: f.client, nodes: f.backends}
}

// wantShares fails the test when connections are not shared by weight, within some part of it.
func (f *farm) wantShares(t testing.TB, answers map[string]int, within float64) {
	t.Helper()
	total, weights := 0, 0
	for _, n := range answers {
		total += n
	}
	for _, b := range f.backends {
		weights += b.weight
	}
	for _, b := range f.backends {
		want := float64(total) * float64(b.weight) / float64(weights)
		if off := math.Abs(float64(answers[b.name]) - want); off > within*want {
			t.Errorf("%s: %d connections, want %.0f: %.1f %% off", b.name, answers[b.name], want, 100*off/want)
		}
	}
}
