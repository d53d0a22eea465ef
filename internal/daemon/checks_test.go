package daemon

import (
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/probe"
)

// sameText compares what a pattern was written as.
var sameText = cmp.Comparer(func(a, b *regexp.Regexp) bool {
	return a == b || a != nil && b != nil && a.String() == b.String()
})

func TestEveryCheckIsProbedAsItIsConfigured(t *testing.T) {
	body := regexp.MustCompile("^ok")
	web := netip.MustParseAddr("192.0.2.7")
	tls := config.TLSCheck{Verify: true, SNI: "www.example.com"}
	for _, c := range []struct {
		check config.Check
		want  probe.Spec
	}{
		{
			config.Check{Kind: config.CheckTCP, TCP: config.TCPCheck{Send: "PING", Expect: "PONG"}},
			probe.Spec{Kind: probe.TCP, TCP: probe.TCPSpec{Send: "PING", Expect: "PONG"}},
		},
		{
			config.Check{Kind: config.CheckHTTP, HTTP: config.HTTPCheck{
				Method: "HEAD", Path: "/health", Host: "example.com", Headers: map[string]string{"X-Check": "1"},
				Status: []config.StatusRange{{First: 200, Last: 204}, {First: 301, Last: 301}}, Body: body,
			}},
			probe.Spec{Kind: probe.HTTP, HTTP: probe.HTTPSpec{
				Method: "HEAD", Path: "/health", Host: "example.com", Headers: map[string]string{"X-Check": "1"},
				Status: []probe.StatusRange{{First: 200, Last: 204}, {First: 301, Last: 301}}, Body: body,
			}},
		},
		{config.Check{Kind: config.CheckHTTPS, TLS: tls}, probe.Spec{Kind: probe.HTTPS, TLS: probe.TLSSpec{SNI: "www.example.com"}}},
		{
			config.Check{Kind: config.CheckTLSExpiry, Days: 14, TLS: tls},
			probe.Spec{Kind: probe.TLSExpiry, Days: 14, TLS: probe.TLSSpec{SNI: "www.example.com"}},
		},
		{
			config.Check{Kind: config.CheckDNS, DNS: config.DNSCheck{Query: "example.com", Record: "AAAA", RCode: "NOERROR", Answer: "2001:db8::1"}},
			probe.Spec{Kind: probe.DNS, DNS: probe.DNSSpec{Name: "example.com", Type: "AAAA", RCode: "NOERROR", Answer: "2001:db8::1"}},
		},
		{config.Check{Kind: config.CheckICMP}, probe.Spec{Kind: probe.ICMP}},
		{
			config.Check{Kind: config.CheckExec, Command: []string{"/bin/check", "a"}},
			probe.Spec{Kind: probe.Exec, Exec: probe.ExecSpec{Command: []string{"/bin/check", "a"}}},
		},
		{config.Check{Kind: config.CheckAgent, AgentSend: "state"}, probe.Spec{Kind: probe.Agent, Ask: "state"}},
		{
			config.Check{Kind: config.CheckFile, File: config.FileCheck{Path: "/run/maint", Absent: true, Contains: "x"}},
			probe.Spec{Kind: probe.File, File: probe.FileSpec{Path: "/run/maint", Absent: true, Contains: "x"}},
		},
	} {
		check := c.check
		check.Name, check.Address, check.Port = "c", web, 8080
		check.Interval, check.FastInterval, check.Timeout = 5*time.Second, time.Second, 500*time.Millisecond
		check.Rise, check.Fall, check.Results, check.Start = 2, 3, 20, config.StartDown
		got, err := checksOf(&config.Config{Services: []config.Service{{Name: "none"}, {Name: "web", Checks: []config.Check{check}}}})
		if err != nil {
			t.Errorf("%s: %v", check.Kind, err)
			continue
		}
		// A certificate that is not to be verified is the exception for those who probe.
		c.want.TLS.NoVerify = !check.TLS.Verify
		want := []probe.Check{{
			Service: "web", Name: "c", Target: netip.MustParseAddrPort("192.0.2.7:8080"), Spec: c.want,
			Rule: health.Rule{
				Interval: 5 * time.Second, FastInterval: time.Second, Timeout: 500 * time.Millisecond,
				Rise: 2, Fall: 3, Start: health.Down, Keep: 20,
			},
		}}
		if diff := cmp.Diff(want, got, comparable, sameText); diff != "" {
			t.Errorf("%s (-want +got):\n%s", check.Kind, diff)
		}
	}
}

func TestAServiceThatForwardsHasItsBackendsChecked(t *testing.T) {
	check := config.Check{Kind: config.CheckTCP, Name: "tcp", Port: 80, Interval: 5 * time.Second}
	got, err := checksOf(&config.Config{Services: []config.Service{{
		Name: "web", Forward: lb.ForwardTunnel, Checks: []config.Check{check}, Sorry: &config.Backend{Name: "sorry"}, Backends: []config.Backend{
			{Name: "b1", Address: netip.MustParseAddr("192.0.2.11")},
			{Name: "b2", Address: netip.MustParseAddr("192.0.2.12"), Down: true},
			{Name: "b3", Address: netip.MustParseAddr("2001:db8::13"), Weight: 7, Backup: true},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	rule := health.Rule{Interval: 5 * time.Second, Start: health.Up}
	spec := probe.Spec{TLS: probe.TLSSpec{NoVerify: true}}
	want := []probe.Check{
		{Service: "web", Backend: "b1", Name: "tcp", Target: netip.MustParseAddrPort("192.0.2.11:80"), Spec: spec, Rule: rule},
		{Service: "web", Backend: "b3", Name: "tcp", Target: netip.MustParseAddrPort("[2001:db8::13]:80"), Spec: spec, Rule: rule},
	}
	if diff := cmp.Diff(want, got, comparable, sameText); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

func TestABackendIsAskedAtThePortThatItHas(t *testing.T) {
	eighty, all := []lb.PortRange{{First: 80, Last: 80}}, []lb.PortRange{lb.AllPorts}
	plain, translated := config.Backend{}, config.Backend{Port: 8080}
	for _, c := range []struct {
		what  string
		ports []lb.PortRange
		b     config.Backend
		check config.Check
		want  uint16
	}{
		{"the service's", eighty, plain, config.Check{Kind: config.CheckTCP}, 80},
		{"the backend's", eighty, translated, config.Check{Kind: config.CheckTCP}, 8080},
		{"the check's", eighty, translated, config.Check{Kind: config.CheckTCP, Port: 99}, 99},
		{"none for a ping", eighty, translated, config.Check{Kind: config.CheckICMP}, 0},
		{"none for a program where there are all", all, plain, config.Check{Kind: config.CheckExec}, 0},
	} {
		if got := portOf(&config.Service{Ports: c.ports}, &c.b, &c.check); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

func TestWhoSaysSorryIsNotChecked(t *testing.T) {
	s := config.Service{Name: "web", Ports: []lb.PortRange{{First: 80, Last: 80}}, Sorry: &config.Backend{Name: "sorry"}}
	if got := ofBackends(probe.Check{}, &s, &config.Check{Kind: config.CheckTCP}); len(got) != 0 {
		t.Errorf("%v, want no check", got)
	}
}

func TestACheckByTheVIPsGoesToEachOfThem(t *testing.T) {
	check := probe.Check{Service: "web", Name: "tcp", Target: netip.MustParseAddrPort("192.0.2.80:80")}
	service := config.Service{
		Name: "web", Forward: lb.ForwardDR, Backends: []config.Backend{{Name: "b1", Address: netip.MustParseAddr("192.0.2.11")}},
		VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.80")},
	}
	one := check
	one.Backend, one.Dialled = "b1", true
	if diff := cmp.Diff([]probe.Check{one}, ofBackends(check, &service, &config.Check{Via: config.ViaVIP}), comparable); diff != "" {
		t.Errorf("one vip (-want +got):\n%s", diff)
	}
	service.VIPs = append(service.VIPs, netip.MustParseAddr("2001:db8::80"))
	four, six := one, one
	four.Name = "tcp 192.0.2.80"
	six.Name, six.Target = "tcp 2001:db8::80", netip.MustParseAddrPort("[2001:db8::80]:80")
	if diff := cmp.Diff([]probe.Check{four, six}, ofBackends(check, &service, &config.Check{Via: config.ViaVIP}), comparable); diff != "" {
		t.Errorf("two vips (-want +got):\n%s", diff)
	}
}

func TestACheckThatChangedItsMindSaysAboutWhat(t *testing.T) {
	r := probe.Report{Service: "web", Name: "tcp", State: health.Down, Result: health.Result{Detail: "connect: timeout"}}
	want := control.Event{Kind: "service", Node: "n1", What: "service web: check tcp is down", Why: "connect: timeout"}
	if diff := cmp.Diff(want, checkEvent("n1", r)); diff != "" {
		t.Errorf("a node (-want +got):\n%s", diff)
	}
	r.Backend = "b1"
	want.Kind, want.What = "backend", "service web: backend b1: check tcp is down"
	if diff := cmp.Diff(want, checkEvent("n1", r)); diff != "" {
		t.Errorf("a backend (-want +got):\n%s", diff)
	}
}

func TestACheckStartsUpUnlessItIsToldOtherwise(t *testing.T) {
	for start, want := range map[config.CheckStart]health.State{
		config.StartUp: health.Up, config.StartDown: health.Down, "": health.Up,
	} {
		if got := startOf(start); got != want {
			t.Errorf("%q: %s", start, got)
		}
	}
}

func TestAKindThatNobodyCanProbeIsAnError(t *testing.T) {
	cfg := &config.Config{Services: []config.Service{{Name: "web", Checks: []config.Check{{Kind: "guess"}}}}}
	if checks, err := checksOf(cfg); err == nil || err.Error() != `kind of check "guess" is unknown` {
		t.Errorf("%v, %v", checks, err)
	}
}
