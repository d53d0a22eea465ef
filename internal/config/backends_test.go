package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

// forwarding is a file whose service has backends, and whose VIP somebody else brings.
const forwarding = `cluster:
  name: web
  seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c
  nodes: [{name: vm, addresses: 192.0.2.11}]
interface: eth0
vips: [{address: 198.51.100.80, announce: none}]
services:
  - name: web
    vips: 198.51.100.80
    ports: 443
    forward: tunnel
    encap: gue
    scheduler: source
    mss: 1380
    flow-idle: 1h
    min-backends: 2
    slow-start: 30s
    sorry: 203.0.113.99
    checks: [{type: https, via: vip}]
    backends:
      - {name: a, address: 203.0.113.21, weight: 0, slow-start: 0s}
      - {name: b, address: "2001:db8::21", backup: true}
      - {address: "2001:db8::22", down: true}
      - 203.0.113.23
`

func TestAServiceWithBackendsIsReadWhole(t *testing.T) {
	c := parsed(t, forwarding)
	if diff := cmp.Diff(VIP{Address: netip.MustParseAddr("198.51.100.80"), Interface: "eth0", Announce: lb.AnnounceNone, MACForm: lb.MACOwn}, c.VIPs[0], compare); diff != "" {
		t.Errorf("the VIP: %s", diff)
	}
	want := Service{
		Name: "web", VIPs: []netip.Addr{netip.MustParseAddr("198.51.100.80")}, Protocol: lb.ProtocolTCP,
		Ports: []lb.PortRange{{First: 443, Last: 443}}, Hash: lb.HashSource, Forward: lb.ForwardTunnel,
		MinNodes: 1, UDPIdle: 30 * time.Second, Encap: lb.EncapGUE, MSS: 1380, FlowIdle: time.Hour, Agree: 50,
		Checks: []Check{{
			Name: "https", Kind: CheckHTTPS, Via: ViaVIP, Port: 443, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3,
			Start: StartUp, Results: 20, HTTP: HTTPCheck{Method: "GET", Path: "/", Status: []StatusRange{{200, 299}}}, TLS: TLSCheck{Verify: true},
		}},
		Backends: []Backend{
			{Name: "a", Address: netip.MustParseAddr("203.0.113.21")},
			{Name: "b", Address: netip.MustParseAddr("2001:db8::21"), Weight: 100, Backup: true, SlowStart: 30 * time.Second},
			{Name: "2001:db8::22", Address: netip.MustParseAddr("2001:db8::22"), Weight: 100, Down: true, SlowStart: 30 * time.Second},
			{Name: "203.0.113.23", Address: netip.MustParseAddr("203.0.113.23"), Weight: 100, SlowStart: 30 * time.Second},
		},
		Sorry:       &Backend{Name: "203.0.113.99", Address: netip.MustParseAddr("203.0.113.99"), Weight: 100},
		MinBackends: 2,
	}
	if diff := cmp.Diff(want, c.Services[0], compare); diff != "" {
		t.Error(diff)
	}
	again := parsed(t, string(c.YAML()))
	if diff := cmp.Diff(c, again, compare); diff != "" {
		t.Errorf("the effective configuration differs: %s", diff)
	}
}

func TestDiffNamesBackends(t *testing.T) {
	after := strings.NewReplacer("weight: 0", "weight: 50", "      - 203.0.113.23\n", "      - {name: c, address: 203.0.113.23}\n",
		"flow-idle: 1h", "flow-idle: 2h", "mss: 1380", "mss: 1360").Replace(forwarding)
	want := []Change{
		{"services[web].backends[203.0.113.23].address", `"203.0.113.23"`, ""},
		{"services[web].backends[203.0.113.23].backup", "false", ""},
		{"services[web].backends[203.0.113.23].down", "false", ""},
		{"services[web].backends[203.0.113.23].slow-start", "30s", ""},
		{"services[web].backends[203.0.113.23].weight", "100", ""},
		{"services[web].backends[a].weight", "0", "50"},
		{"services[web].backends[c].address", "", `"203.0.113.23"`},
		{"services[web].backends[c].backup", "", "false"},
		{"services[web].backends[c].down", "", "false"},
		{"services[web].backends[c].slow-start", "", "30s"},
		{"services[web].backends[c].weight", "", "100"},
		{"services[web].flow-idle", "1h", "2h"},
		{"services[web].mss", "1380", "1360"},
	}
	if diff := cmp.Diff(want, Diff(parsed(t, forwarding), parsed(t, after))); diff != "" {
		t.Error(diff)
	}
}

// Directors are reloaded one after the other: what is between a director and its backends must not
// part them.
func TestTheFingerprintIsOfWhatDirectorsShare(t *testing.T) {
	want := parsed(t, forwarding).Fingerprint()
	for _, test := range []struct {
		name, old, new string
		same           bool
	}{
		{"another backend", "      - 203.0.113.23\n", "", true},
		{"a weight", "weight: 0", "weight: 7", true},
		{"encap", "encap: gue", "encap: ip", true},
		{"min-backends", "min-backends: 2", "min-backends: 1", true},
		{"sorry", "    sorry: 203.0.113.99\n", "", true},
		{"flow-idle", "flow-idle: 1h", "flow-idle: 2h", true},
		{"mss", "mss: 1380", "mss: 1381", true},

		{"forward", "forward: tunnel\n    encap: gue", "forward: dr", false},
		{"announce", "announce: none", "announce: multicast", false},
		{"which hash the scheduler means", "scheduler: source", "scheduler: maglev", false},
	} {
		changed := strings.Replace(forwarding, test.old, test.new, 1)
		if changed == forwarding {
			t.Fatalf("%s: nothing was changed", test.name)
		}
		if same := parsed(t, changed).Fingerprint() == want; same != test.same {
			t.Errorf("%s: the fingerprint is the same: %v, want %v", test.name, same, test.same)
		}
	}
}

func TestAVIPThatOneNodeHasIsReadWhole(t *testing.T) {
	src := strings.Replace(before, "interface: eth0\n", "  membership: {insecure: true}\ninterface: eth0\n", 1)
	src = strings.Replace(src, "{address: 192.0.2.80}", "{address: 192.0.2.80, announce: failover, mac: 00:00:5e:00:01:50, prefer: [n2, vm], preempt: false}", 1)
	c := parsed(t, strings.Replace(src, "other: drop", "announce: failover", 1))
	want := []VIP{
		{
			Address: netip.MustParseAddr("192.0.2.80"), Interface: "eth0", Announce: lb.AnnounceFailover,
			MACForm: lb.MACExplicit, MAC: []byte{0, 0, 0x5e, 0, 1, 0x50}, Prefer: []string{"n2", "vm"},
		},
		{Address: netip.MustParseAddr("192.0.2.81"), Interface: "eth0", Announce: lb.AnnounceFailover, MACForm: lb.MACOwn, Preempt: true},
	}
	if diff := cmp.Diff(want, c.VIPs, compare); diff != "" {
		t.Error(diff)
	}
	again := parsed(t, string(c.YAML()))
	if diff := cmp.Diff(c, again, compare); diff != "" {
		t.Errorf("the effective configuration differs: %s", diff)
	}
	again.VIPs[0].Prefer, again.VIPs[1].Preempt = nil, false
	changes := []Change{
		{"vips[192.0.2.80].prefer", `["n2", "vm"]`, ""},
		{"vips[192.0.2.81].preempt", "true", "false"},
	}
	if diff := cmp.Diff(changes, Diff(c, again)); diff != "" {
		t.Error(diff)
	}
}

func TestWhoShouldHaveAVIPIsNoPartOfTheFingerprint(t *testing.T) {
	src := strings.Replace(before, "interface: eth0\n", "  membership: {insecure: true}\ninterface: eth0\n", 1)
	src = strings.Replace(src, "{address: 192.0.2.80}", "{address: 192.0.2.80, announce: failover}", 1)
	want := parsed(t, src).Fingerprint()
	if got := parsed(t, strings.Replace(src, "failover", "failover, prefer: [n2], preempt: false", 1)).Fingerprint(); got != want {
		t.Error("another order of nodes parts them")
	}
	if got := parsed(t, strings.Replace(src, "failover", "failover, mac: 00:00:5e:00:01:50", 1)).Fingerprint(); got == want {
		t.Error("nodes with and without a virtual MAC may serve together")
	}
}

func TestAServiceWithNATIsReadWhole(t *testing.T) {
	src := strings.NewReplacer("forward: tunnel\n    encap: gue", "forward: nat", ", via: vip", "", `address: "2001:db8::21"`, "address: 203.0.113.21, port: 8443",
		`address: "2001:db8::22"`, "address: 203.0.113.22, port: 8443").Replace(forwarding)
	c := parsed(t, src)
	s := &c.Services[0]
	if s.Forward != lb.ForwardNAT || s.Checks[0].Port != 0 {
		t.Errorf("forward %s, port of the check %d; want nat and the port that each backend has", s.Forward, s.Checks[0].Port)
	}
	want := []Backend{
		{Name: "a", Address: netip.MustParseAddr("203.0.113.21")},
		{Name: "b", Address: netip.MustParseAddr("203.0.113.21"), Port: 8443, Weight: 100, Backup: true, SlowStart: 30 * time.Second},
		{Name: "203.0.113.22:8443", Address: netip.MustParseAddr("203.0.113.22"), Port: 8443, Weight: 100, Down: true, SlowStart: 30 * time.Second},
		{Name: "203.0.113.23", Address: netip.MustParseAddr("203.0.113.23"), Weight: 100, SlowStart: 30 * time.Second},
	}
	if diff := cmp.Diff(want, s.Backends, compare); diff != "" {
		t.Error(diff)
	}
	again := parsed(t, string(c.YAML()))
	if diff := cmp.Diff(c, again, compare); diff != "" {
		t.Errorf("the effective configuration differs: %s", diff)
	}
}

func TestABackendMayFailAsItsServiceSays(t *testing.T) {
	const file = `cluster:
  name: web
  seed: 9f6b0dd1b6b0a1a56f1e63d2b4c4a1c3f0a7b9d8e2c1f4a3b5d6e7f8091a2b3c
  nodes: [{name: vm, addresses: 192.0.2.11}]
interface: eth0
vips: [{address: 192.0.2.80, announce: none}]
services:
  - name: web
    vips: 192.0.2.80
    ports: 80
    forward: nat
    max-fails: 3
    backends:
      - 192.0.2.21
      - {address: 192.0.2.22, max-fails: 0}
      - {address: 192.0.2.23, max-fails: 5, fail-timeout: 1m}
`
	fails := func(file string) (all []Fails) {
		c := parsed(t, file)
		all = append(all, c.Services[0].Fails)
		for _, b := range c.Services[0].Backends {
			all = append(all, b.Fails)
		}
		if again := parsed(t, string(c.YAML())); len(Diff(c, again)) > 0 || !cmp.Equal(c.Services, again.Services, compare) {
			t.Errorf("what is shown is read as another one:\n%s", c.YAML())
		}
		return all
	}
	const usual = 10 * time.Second
	for _, c := range []struct {
		before, after string
		want          []Fails
	}{
		{"", "", []Fails{{3, usual}, {3, usual}, {0, usual}, {5, time.Minute}}},
		{"max-fails: 3\n", "max-fails: 3\n    fail-timeout: 30s\n", []Fails{{3, 30 * time.Second}, {3, 30 * time.Second}, {0, 30 * time.Second}, {5, time.Minute}}},
		{"max-fails: 3\n", "fail-timeout: 30s\n", []Fails{{0, 30 * time.Second}, {0, 30 * time.Second}, {0, 30 * time.Second}, {5, time.Minute}}},
		{", max-fails: 5, fail-timeout: 1m", "", []Fails{{3, usual}, {3, usual}, {0, usual}, {3, usual}}},
	} {
		if diff := cmp.Diff(c.want, fails(strings.Replace(file, c.before, c.after, 1))); diff != "" {
			t.Errorf("%q in place of %q (-want +got):\n%s", c.after, c.before, diff)
		}
	}
	without := strings.NewReplacer("    max-fails: 3\n", "    max-fails: 0\n    fail-timeout: 30s\n", ", max-fails: 5", "").Replace(file)
	if diff := cmp.Diff(make([]Fails, 4), fails(without)); diff != "" {
		t.Errorf("nothing may fail (-want +got):\n%s", diff)
	}
}

func TestFullNATIsReadAndAgreedUpon(t *testing.T) {
	src := strings.NewReplacer("forward: tunnel\n    encap: gue", "forward: nat\n    source-nat: true", ", via: vip", "",
		`address: "2001:db8::21"`, "address: 203.0.113.24", `address: "2001:db8::22"`, "address: 203.0.113.25").Replace(forwarding)
	c := parsed(t, src)
	if !c.Services[0].SourceNAT {
		t.Error("source-nat was not read")
	}
	if again := parsed(t, string(c.YAML())); !again.Services[0].SourceNAT {
		t.Errorf("the effective configuration has none:\n%s", c.YAML())
	}
	plain := parsed(t, strings.Replace(src, "source-nat: true", "source-nat: false", 1))
	if plain.Fingerprint() == c.Fingerprint() {
		t.Error("directors with and without it could work together")
	}
	want := []Change{{"services[web].source-nat", "", "true"}}
	if diff := cmp.Diff(want, Diff(plain, c)); diff != "" {
		t.Error(diff)
	}
}
