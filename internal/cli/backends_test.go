package cli

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lbctl/lbctl/internal/control"
)

// directing is the status of a node with backends in each state.
func directing() control.Status {
	s := status()
	s.Services[0].Forward, s.Services[0].Scheduler, s.Services[0].Affinity = "dr", "least-conn", 600
	hop := func(last string) *control.Hop {
		return &control.Hop{Interface: "eth0", MAC: "02:00:00:00:00:" + last, Source: netip.MustParseAddr("192.0.2.1"), MTU: 1500}
	}
	address := func(text string) netip.Addr { return netip.MustParseAddr(text) }
	s.Backends = []control.Backend{
		{Service: "web", Name: "b1", Address: address("192.0.2.101"), State: "up", Weight: 100, Effective: 100, Share: 0.625, Hop: hop("a1"), Connections: new(12), MaxConn: 100},
		{Service: "web", Name: "b2", Address: address("192.0.2.102"), State: "draining", Why: "by hand", Weight: 100, Leaving: 0.25, Flows: 12, Hop: hop("a2")},
		{Service: "web", Name: "b3", Address: address("192.0.2.103"), State: "down", Why: "check http: connection refused", Weight: 100, Hop: hop("a3")},
		{Service: "web", Name: "b4", Address: address("2001:db8:1::104"), State: "up", Weight: 100, Effective: 60, Share: 0.375, Hop: hop("a4"), Connections: new(7)},
		{Service: "web", Name: "b5", Address: address("203.0.113.5"), State: "standby", Weight: 100, Hop: hop("ff")},
		{Service: "mail", Name: "m1", Address: address("192.0.2.105"), Port: 2525, State: "disabled", Why: "by hand", Weight: 1},
		{Service: "mail", Name: "m2", Address: address("2001:db8:1::106"), Port: 25, State: "down", Why: "no neighbour", Weight: 1},
	}
	s.Problems = []string{"service mail: no backend is up", "service web: backend b3 is down: check http: connection refused"}
	return s
}

func TestBackendsAreListedInEveryFormat(t *testing.T) {
	socket := fakeDaemon(t, control.Daemon{
		Status: func(context.Context) (control.Status, error) { return directing(), nil },
	})
	for _, format := range formatNames() {
		got := lbctl(t, nil, "backends", "-o", format, "--socket", socket)
		if got.Code != exitOK || got.Stderr != "" {
			t.Errorf("-o %s: code %d, stderr %q", format, got.Code, got.Stderr)
		}
		golden(t, "backends-"+format, got.Stdout)
	}
	one := lbctl(t, nil, "backends", "mail", "--socket", socket)
	if one.Code != exitOK || strings.Contains(one.Stdout, "web") || !strings.Contains(one.Stdout, "[2001:db8:1::106]:25") {
		t.Errorf("of one service: %+v", one)
	}
	if got := lbctl(t, nil, "backends", "dns", "--socket", socket); got.Code != exitFailed ||
		got.Stderr != "lbctl: service dns: no such service forwards to backends\n" {
		t.Errorf("of a service that is not there: %+v", got)
	}
	got := lbctl(t, nil, "status", "--socket", socket)
	if got.Code != exitDegraded || got.Stderr != "" {
		t.Errorf("status: code %d, stderr %q", got.Code, got.Stderr)
	}
	golden(t, "status-backends", got.Stdout)
}

func TestDecisionsAboutBackendsReachLbd(t *testing.T) {
	var requests []control.BackendRequest
	socket := fakeDaemon(t, control.Daemon{
		Backends: func(_ context.Context, r control.BackendRequest) error {
			requests = append(requests, r)
			return nil
		},
	})
	for _, line := range []string{
		"drain web/b1", "drain web/b1 --force --detach", "undrain web/b1", "disable web/b2", "disable web/b2 --force", "enable web/b2",
		"weight web/b1 0 --force", "weight web/b1 50", "weight web/b1 config",
		"maxconn web/b1 0", "maxconn web/b1 500", "maxconn web/b1 config",
	} {
		got := lbctl(t, nil, append(strings.Fields("backends "+line), "--socket", socket)...)
		if got != (run{}) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	about := func(backend string) control.BackendRequest {
		return control.BackendRequest{Service: "web", Backend: backend}
	}
	want := []control.BackendRequest{
		about("b1"), about("b1"), about("b1"), about("b2"), about("b2"), about("b2"), about("b1"), about("b1"), about("b1"),
		about("b1"), about("b1"), about("b1"),
	}
	want[0].Drain = new(true)
	want[1].Drain, want[1].Force = new(true), true
	want[2].Drain = new(false)
	want[3].Disable = new(true)
	want[4].Disable, want[4].Force = new(true), true
	want[5].Disable = new(false)
	want[6].Weight, want[6].Force = new(0), true
	want[7].Weight = new(50)
	want[8].ResetWeight = true
	want[9].MaxConn = new(0)
	want[10].MaxConn = new(500)
	want[11].ResetMaxConn = true
	if diff := cmp.Diff(want, requests); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDecisionsAboutBackendsThatMakeNoSenseAreRefused(t *testing.T) {
	socket := fakeDaemon(t, control.Daemon{
		Backends: func(_ context.Context, r control.BackendRequest) error {
			if r.Force {
				return nil
			}
			return control.ErrLastBackend
		},
	})
	for _, test := range []struct {
		line   string
		code   int
		stderr string // that it starts with, without "lbctl: "
	}{
		{"drain web", exitUsage, `backend "web": want SERVICE/BACKEND`},
		{"drain web/", exitUsage, `backend "web/": want SERVICE/BACKEND`},
		{"enable /b1", exitUsage, `backend "/b1": want SERVICE/BACKEND`},
		{"disable web/b1/x", exitUsage, `backend "web/b1/x": want SERVICE/BACKEND`},
		{"weight web/b1 many", exitUsage, `weight "many": want a number or "config"`},
		{"weight web/b1 257", exitFailed, "weight: 257 is not in 0..256"},
		{"maxconn web/b1 none", exitUsage, `maxconn "none": want a number or "config"`},
		{"maxconn web/b1 10000001", exitFailed, "maxconn: 10000001 is not in 0..10000000"},
		{"weight web/b1", exitUsage, "accepts 2 arg(s), received 1; usage: lbctl backends weight SERVICE/BACKEND WEIGHT"},
		{"drain web/b1", exitLast, "no other backend takes new flows: taking the last one out needs --force"},
		{"disable web/b1", exitLast, "no other backend takes new flows"},
		{"drian web/b1", exitUsage, "accepts at most 1 arg(s), received 2; usage: lbctl backends [SERVICE]"},
	} {
		got := lbctl(t, nil, append(strings.Fields("backends "+test.line), "--socket", socket)...)
		if got.Code != test.code || !strings.HasPrefix(got.Stderr, "lbctl: "+test.stderr) || got.Stdout != "" {
			t.Errorf("%s: %+v, want code %d, %q", test.line, got, test.code, test.stderr)
		}
	}
}

func TestADrainOfABackendIsWatchedUntilNothingIsLeft(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	socket := fakeDaemon(t, control.Daemon{
		Backends: func(context.Context, control.BackendRequest) error { return nil },
		Status: func(context.Context) (control.Status, error) {
			mu.Lock()
			defer mu.Unlock()
			s := directing()
			if asked++; asked == 2 {
				s.Backends[1].State, s.Backends[1].Leaving, s.Backends[1].Flows = "drained", 0, 0
			}
			return s, nil
		},
	})
	got := lbctl(t, nil, "backends", "drain", "web/b2", "--wait", "--socket", socket)
	want := "web/b2  [                                        ]  25.0% of the slots and 12 flows left\n" +
		"web/b2  [########################################]  0.0% of the slots and 0 flows left\n"
	if got != (run{Stderr: want}) {
		t.Errorf("%+v, want %q", got, want)
	}
	got = lbctl(t, nil, "backends", "drain", "web/b4", "--wait", "--timeout", "10ms", "--socket", socket)
	const end = "lbctl: not finished: backend web/b4 goes on draining; lbctl backends shows how far it is\n"
	if got.Code != exitUnfinished || !strings.HasSuffix(got.Stderr, end) {
		t.Errorf("%+v, want code %d, %q", got, exitUnfinished, end)
	}
}
