package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lbctl/lbctl/internal/control"
)

var update = flag.Bool("update", false, "write golden files and man pages instead of comparing them")

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A run is what a command line led to.
type run struct {
	Code   int
	Stdout string
	Stderr string
}

// lbctl runs a command line; change, which may be nil, adapts the process's side.
func lbctl(t testing.TB, change func(*Env), args ...string) run {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := Env{
		Stdin:   strings.NewReader(""),
		Stdout:  &stdout,
		Stderr:  &stderr,
		Getenv:  func(string) string { return "" },
		Now:     func() time.Time { return now },
		Version: "v1.2.3",
	}
	if change != nil {
		change(&env)
	}
	code := Run(t.Context(), env, args)
	return run{code, stdout.String(), stderr.String()}
}

// fakeDaemon serves a daemon on a real socket until the test ends.
func fakeDaemon(t testing.TB, daemon control.Daemon) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "lbd.sock")
	listener, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- control.Serve(ctx, listener, daemon.Handler(), slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// status is of a healthy cluster of two.
func status() control.Status {
	vip4, vip6 := netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8:1::80")
	return control.Status{
		Version:    "v1.2.3",
		PID:        4711,
		Started:    now.Add(-50 * time.Hour),
		Cluster:    "demo",
		Node:       "n1",
		Generation: 12,
		Config:     control.ConfigStatus{File: "/etc/lb/lb.yaml", LoadedAt: now.Add(-90 * time.Minute)},
		Attach:     []control.Attachment{{Interface: "eth0", Mode: "native", ProgramID: 42}},
		VIPs: []control.VIP{
			{Address: vip4, Interface: "eth0", MAC: "03:bf:c0:00:02:50", MACForm: "multicast",
				Announce: "multicast", Other: "pass", OwnedShare: 0.25},
			{Address: vip6, Interface: "eth0", MAC: "33:33:00:00:00:80", MACForm: "group",
				Announce: "multicast", Other: "drop", OwnedShare: 0.25},
		},
		Services: []control.Service{
			{Name: "web", VIP: vip4, Protocol: "tcp", Ports: []string{"80", "443"}, Hash: "source",
				Forward: "local", Shares: []control.Share{{Node: "n1", Share: 0.25}, {Node: "n2", Share: 0.75}},
				Accepted: control.Count{Packets: 1000, Bytes: 1_500_000},
				Ignored:  control.Count{Packets: 3000, Bytes: 900}},
			{Name: "all", VIP: vip6, Protocol: "any", Ports: []string{"all"}, Hash: "source-net/24,64",
				Forward: "local", Shares: []control.Share{{Node: "n1", Share: 0.25}, {Node: "n2", Share: 0.75}}},
		},
		Nodes: []control.Node{
			{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")},
				Weight: 1, Local: true, Share: 0.25},
			{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Weight: 3, Share: 0.75},
		},
	}
}

func degraded() control.Status {
	s := status()
	s.Problems = []string{"eth0: the program is not attached: permission denied", "node n2 has no weight"}
	s.Drift = []string{"eth0: 192.0.2.80 was missing on lo and was added again"}
	s.Config.LastError = "lb.yaml:3:1: nodes: none are given\n  nodes:\n  ^"
	return s
}

// golden compares with testdata/NAME.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", name, diff)
	}
}

func TestWhatTheDaemonSaysIsPrintedInEveryFormat(t *testing.T) {
	healthy := fakeDaemon(t, control.Daemon{
		Status: func(context.Context) (control.Status, error) { return status(), nil },
	})
	troubled := fakeDaemon(t, control.Daemon{
		Status: func(context.Context) (control.Status, error) { return degraded(), nil },
	})
	for _, command := range []string{"status", "vips", "services", "nodes"} {
		for _, format := range formatNames() {
			got := lbctl(t, nil, command, "-o", format, "--socket", healthy)
			if got.Code != exitOK || got.Stderr != "" {
				t.Errorf("%s -o %s: code %d, stderr %q", command, format, got.Code, got.Stderr)
			}
			golden(t, command+"-"+format, got.Stdout)
		}
	}
	got := lbctl(t, nil, "status", "--socket", troubled)
	if got.Code != exitDegraded || got.Stderr != "" {
		t.Errorf("status: code %d, stderr %q", got.Code, got.Stderr)
	}
	golden(t, "status-degraded", got.Stdout)
}

func TestColourIsForTerminalsThatWantIt(t *testing.T) {
	socket := fakeDaemon(t, control.Daemon{
		Status: func(context.Context) (control.Status, error) { return degraded(), nil },
	})
	for _, test := range []struct {
		name     string
		terminal bool
		env      map[string]string
		want     bool
	}{
		{"a pipe", false, nil, false},
		{"a terminal", true, nil, true},
		{"NO_COLOR", true, map[string]string{"NO_COLOR": "1"}, false},
		{"an empty NO_COLOR", true, map[string]string{"NO_COLOR": ""}, true},
		{"a dumb terminal", true, map[string]string{"TERM": "dumb"}, false},
	} {
		got := lbctl(t, func(e *Env) {
			e.Terminal = test.terminal
			e.Getenv = func(name string) string { return test.env[name] }
		}, "status", "--socket", socket)
		if coloured := strings.Contains(got.Stdout, "\x1b["); coloured != test.want {
			t.Errorf("%s: coloured %t, want %t", test.name, coloured, test.want)
		}
	}
}

func TestErrorsGoToStderrAndTheExitCodeTellsTheirKind(t *testing.T) {
	none := filepath.Join(t.TempDir(), "lbd.sock")
	failing := fakeDaemon(t, control.Daemon{
		Status: func(context.Context) (control.Status, error) {
			return control.Status{}, errors.New("read counters: no such map")
		},
	})
	for _, test := range []struct {
		args   string
		code   int
		stderr string // that it starts with, without "lbctl: "
	}{
		{"status --socket " + failing, exitFailed, "read counters: no such map\n"},
		{"status --socket " + none, exitUnreachable, "lbd is not reachable: "},
		{"config show --socket " + none, exitUnreachable, "lbd is not reachable: "},
		{"maps dump --bpf-dir " + filepath.Dir(none), exitFailed, ""},
		{"config check " + none, exitFailed, "open " + none},
		{"stauts", exitUsage, `unknown command "stauts" for "lbctl", did you mean status?`},
		{"config chek", exitUsage, `unknown command "chek" for "lbctl config", did you mean check?`},
		{"status now", exitUsage, `unexpected argument "now"; usage: lbctl status`},
		{"status --loud", exitUsage, "unknown flag: --loud"},
		{"nodes drain n2 --wait --detach", exitUsage, "if any flags in the group [wait detach] are set none of the others can be"},
		{"status -o xml", exitUsage, `invalid argument "xml" for "-o, --output" flag: want table, json, yaml`},
		{"config check", exitUsage, "accepts 1 arg(s), received 0; usage: lbctl config check FILE"},
		{"completion tcsh", exitUsage, `invalid argument "tcsh" for "lbctl completion"`},
		{"help stauts", exitUsage, `no command "stauts" to explain`},
		{"trace tcp 192.0.2.1", exitUsage, "accepts 3 arg(s), received 2; usage: lbctl trace "},
		{"trace sctp 192.0.2.1 192.0.2.80:80", exitUsage, `protocol "sctp": want tcp, udp or icmp`},
		{"trace tcp 192.0.2.1 192.0.2.80", exitUsage, `VIP "192.0.2.80": tcp needs a port`},
		{"trace tcp 192.0.2.1 192.0.2.80:0", exitUsage, `VIP "192.0.2.80:0": port 0`},
		{"trace tcp here 192.0.2.80:80", exitUsage, `source "here": want ADDRESS or ADDRESS:PORT`},
		{"trace tcp 2001:db8::1 192.0.2.80:80", exitUsage, "2001:db8::1 and 192.0.2.80 are not of one address family"},
		{"trace icmp 192.0.2.1:7 192.0.2.80", exitUsage, "icmp has no ports"},
		{"trace tcp 192.0.2.1 192.0.2.80:80 --flags syn,sin", exitUsage, `--flags "sin": want fin, syn,`},
		{"trace tcp 192.0.2.1 192.0.2.80:80 --fragment middle", exitUsage, `--fragment "middle": want first or later`},
		{"trace tcp 192.0.2.1 192.0.2.80:80 --to him", exitUsage, `--to "him": want shared, own, or a MAC`},
		{"trace tcp 192.0.2.1 192.0.2.80:80 --vlan 4095", exitUsage, "--vlan 4095: want 1 to 4094"},
		{"owner 192.0.2.1 192.0.2.80 --protocol ip", exitUsage, `protocol "ip": want tcp, udp or icmp`},
		{"drops --count -1", exitUsage, "--count and --for cannot be negative"},
	} {
		got := lbctl(t, nil, strings.Fields(test.args)...)
		if got.Code != test.code || !strings.HasPrefix(got.Stderr, "lbctl: "+test.stderr) || got.Stdout != "" {
			t.Errorf("lbctl %s: code %d, want %d; stderr %q, want %q; stdout %q", test.args, got.Code, test.code,
				got.Stderr, "lbctl: "+test.stderr, got.Stdout)
		}
	}
}

func TestAGroupWithoutACommandShowsItsHelpAndFails(t *testing.T) {
	for _, args := range [][]string{nil, {"config"}, {"maps"}} {
		got := lbctl(t, nil, args...)
		if got.Code != exitUsage || got.Stdout != "" || !strings.Contains(got.Stderr, "Available Commands:") ||
			!strings.Contains(got.Stderr, "lbctl: which command?") {
			t.Errorf("lbctl %q: %+v", args, got)
		}
	}
}

func TestVersionNamesBothSides(t *testing.T) {
	socket := fakeDaemon(t, control.Daemon{
		Status: func(context.Context) (control.Status, error) { return status(), nil },
	})
	for _, test := range []struct{ socket, lbd string }{
		{socket, "lbd    v1.2.3\n"},
		{socket + ".none", "lbd    not reachable\n"},
	} {
		got := lbctl(t, nil, "version", "--socket", test.socket)
		if got.Code != exitOK || !strings.HasPrefix(got.Stdout, "lbctl  v1.2.3, go") ||
			!strings.HasSuffix(got.Stdout, test.lbd) {
			t.Errorf("%+v, want %q", got, test.lbd)
		}
	}
}

func TestCompletionKnowsEveryShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := lbctl(t, nil, "completion", shell)
		if got.Code != exitOK || !strings.Contains(got.Stdout, "lbctl") {
			t.Errorf("%s: code %d, %d bytes", shell, got.Code, len(got.Stdout))
		}
	}
}
