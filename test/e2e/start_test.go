package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/nettest"
)

// lbdOnce runs lbd on the node until it ends by itself.
func (n *node) lbdOnce(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := n.host.Command(ctx, filepath.Join(binaries, "lbd"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("lbd %q: %v\n%s", args, err, &stderr)
	}
	return outcome{"lbd " + strings.Join(args, " "), cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// The unit of systemd starts no lbd again that ended with 3; the rest may pass.
func TestAnLBDThatCannotStartSaysWhyAndChangesNothing(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.serve()
	files := []string{"-config", n.path("lb.yaml"), "-socket", n.path("lbd.sock"), "-bpf-dir", n.pins,
		"-state-dir", n.path("state"), "-data-dir", n.path("data")}
	wantEnd := func(code int, words []string, args ...string) {
		t.Helper()
		o := n.lbdOnce(t, args...)
		for _, word := range words {
			if o.code != code || !strings.Contains(o.stdout+o.stderr, word) {
				t.Errorf("%s: exit code %d, want %d and %q\n%s%s", o.line, o.code, code, word, o.stdout, o.stderr)
			}
		}
	}
	wantEnd(exitOK, []string{"lbd "}, "-version")
	wantEnd(exitOK, []string{"Usage: lbd"}, "-help")
	wantEnd(exitUsage, []string{"Usage: lbd"}, "-colour")
	wantEnd(exitUsage, []string{`unexpected argument "start"`}, "start")

	program := nettest.XDP(t, n.host, "eth0")
	wantEnd(exitFailed, []string{n.path("lbd.sock"), "another lbd answers"}, files...)
	if now := nettest.XDP(t, n.host, "eth0"); now != program {
		t.Errorf("program %d runs, not %d, after a second lbd tried to start", now, program)
	}
	if answers := c.connections(t, vip4, 20000, 20); answers["n1"] != 20 {
		t.Errorf("after a second lbd tried to start: %v", answers)
	}

	n.stopBare()
	n.rewrite("interface: eth0", "interfaces: eth0")
	n.rewrite("weight: 100", "weight: 1000")
	bad := slices.Clone(files)
	wantEnd(exitConfig, []string{n.path("lb.yaml") + ":", `unknown key (did you mean "interface"?)`, "weight: 1000 is not in 0..256", "^"}, bad...)
	bad[1] = n.path("none.yaml")
	wantEnd(exitFailed, []string{n.path("none.yaml"), "no such file"}, bad...)
	if found := n.addresses(t); n.holds(t, vip4) || n.holds(t, vip6) || nettest.XDP(t, n.host, "eth0") != 0 {
		t.Errorf("an lbd that did not start left addresses %s and program %d", found, nettest.XDP(t, n.host, "eth0"))
	}
	for _, left := range []string{n.pins, n.path("lbd.sock")} {
		if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an lbd that did not start left %s: %v", left, err)
		}
	}
	n.rewrite("interfaces: eth0", "interface: eth0")
	n.rewrite("weight: 1000", "weight: 100")
	n.start()
	if answers := c.connections(t, vip4, 21000, 20); answers["n1"] != 20 {
		t.Errorf("with the file mended: %v", answers)
	}
}
