package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/nettest"
)

// hookCalls is what a node's hook was told so far, one event a line: the kind and the arguments.
func (n *node) hookCalls() []string {
	text, err := os.ReadFile(n.path("told"))
	check(n.t, err)
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// hooked gives a node a hook that writes down what it is told, as nobody, and has lbd start with it.
func (n *node) hooked() {
	n.t.Helper()
	for dir := n.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		check(n.t, os.Chmod(dir, 0o755))
	}
	for _, name := range []string{"told", "json"} {
		check(n.t, os.WriteFile(n.path(name), nil, 0o600))
		check(n.t, os.Chown(n.path(name), 65534, -1))
	}
	script := fmt.Sprintf("#!/bin/sh\necho \"$LB_EVENT $*\" >> %s\ncat >> %s\nid -un > /dev/null\n", n.path("told"), n.path("json"))
	check(n.t, os.WriteFile(n.path("hook"), []byte(script), 0o755))
	n.rewrite("interface: eth0\n", fmt.Sprintf("interface: eth0\nshutdown: withdraw\nhooks: [{command: %s}]\n", n.path("hook")))
}

// awaitTold waits until the last of what was told of each subject is as wanted.
func (n *node) awaitTold(t testing.TB, want ...string) {
	t.Helper()
	nettest.Eventually(t, agreeWithin, func() error {
		last := make(map[string]string)
		for _, line := range n.hookCalls() {
			if words := strings.Fields(line); len(words) == 5 {
				last[words[0]+words[2]] = line
			}
		}
		for _, line := range want {
			words := strings.Fields(line)
			if got := last[words[0]+words[2]]; got != line {
				return fmt.Errorf("%q, want %q", got, line)
			}
		}
		return nil
	})
}

func TestHooksAreToldWhatChanges(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "well")
	check(t, os.WriteFile(flag, nil, 0o644))
	c := newMembers(t, options{weights: []int{100, 100, 50}, tuning: []string{patient, "partition: any"}, services: fmt.Sprintf(`
  - name: web
    vips: [192.0.2.80, "2001:db8::80"]
    ports: all
    checks: [{type: file, path: %s, interval: 200ms, timeout: 200ms}]
`, flag)})
	n1, n3 := c.nodes[0], c.nodes[2]
	n1.stop(syscall.SIGTERM)
	n1.hooked()
	n1.start()
	c.agree(t)
	n1.awaitTold(t, "vip INSTANCE 192.0.2.80 MASTER 100", "vip INSTANCE 2001:db8::80 MASTER 100",
		"node GROUP n1 MASTER 100", "node GROUP n2 MASTER 100", "node GROUP n3 MASTER 50")

	n1.admin("drain n1 --detach")
	n1.awaitTold(t, "drain GROUP n1 BACKUP 0", "node GROUP n1 BACKUP 0", "vip INSTANCE 192.0.2.80 BACKUP 100", "vip INSTANCE 2001:db8::80 BACKUP 100")
	n1.admin("undrain n1")
	n1.awaitTold(t, "drain GROUP n1 MASTER 100", "node GROUP n1 MASTER 100", "vip INSTANCE 192.0.2.80 MASTER 100")
	n1.admin("weight n2 7")
	n1.awaitTold(t, "drain GROUP n2 MASTER 7")

	start := time.Now()
	n3.stop(syscall.SIGKILL)
	n1.awaitTold(t, "node GROUP n3 FAULT 50")
	t.Logf("the death of n3 was told after %s", time.Since(start).Round(time.Millisecond))
	n3.start()
	n1.awaitTold(t, "node GROUP n3 MASTER 50")
	c.agree(t)

	check(t, os.Remove(flag))
	n1.awaitTold(t, "service INSTANCE web FAULT 100")
	check(t, os.WriteFile(flag, nil, 0o644))
	n1.awaitTold(t, "service INSTANCE web MASTER 100")
	n1.lbctl(t, "events").want(t, exitOK, "vip", "this node takes new flows of 192.0.2.80")

	n1.stop(syscall.SIGTERM)
	n1.awaitTold(t, "vip INSTANCE 192.0.2.80 STOP 100", "vip INSTANCE 2001:db8::80 STOP 100")
	n1.checkTold(t)
}

// checkTold checks that arguments and JSON say the same, and that states follow each other.
func (n *node) checkTold(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(n.path("json"))
	check(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	told := n.hookCalls()
	if len(lines) != len(told) {
		t.Fatalf("%d lines of JSON for %d calls", len(lines), len(told))
	}
	before := make(map[string]string)
	for i, line := range lines {
		var e struct {
			Cluster, Node, Kind, Name, State, Before, What string
			Priority                                       int
		}
		check(t, json.Unmarshal([]byte(line), &e))
		if words := strings.Fields(told[i]); !slices.Equal([]string{words[0], words[2], words[3], words[4]}, []string{e.Kind, e.Name, e.State, fmt.Sprint(e.Priority)}) {
			t.Errorf("%s and %s", told[i], line)
		}
		if e.Cluster != "test" || e.Node != "n1" || e.What == "" {
			t.Errorf("%s", line)
		}
		if e.Kind == "drain" {
			continue
		}
		was, told := before[e.Kind+e.Name]
		if e.State == was || told && e.Before != was {
			t.Errorf("it was %s: %s", was, line)
		}
		before[e.Kind+e.Name] = e.State
	}
}

func TestAHookThatFailsIsAProblemAndNoMore(t *testing.T) {
	c := newCluster(t, options{attach: "native", weights: []int{100}})
	n := c.nodes[0]
	n.stop(syscall.SIGTERM)
	n.hooked()
	check(t, os.Chmod(n.path("hook"), 0o777))
	n.start()
	nettest.Eventually(t, agreeWithin, func() error {
		status, err := n.status()
		if err == nil && (len(status.Hooks) != 1 || status.Hooks[0].Failed == "") {
			err = fmt.Errorf("%+v", status.Hooks)
		}
		return err
	})
	n.lbctl(t, "status").want(t, exitDegraded, "hook "+n.path("hook")+": refused: ", "can be written by others (mode 0777)")
	check(t, os.Chmod(n.path("hook"), 0o755))
	n.rewrite("shutdown: withdraw\n", "")
	n.reload()
	n.rewrite("  - address: 192.0.2.80\n", "")
	for range 2 { // services
		n.rewrite(`vips: [192.0.2.80, "2001:db8::80"]`, `vips: ["2001:db8::80"]`)
	}
	n.reload()
	n.awaitTold(t, "vip INSTANCE 192.0.2.80 DELETED 0")
	nettest.Eventually(t, agreeWithin, func() error {
		status, err := n.status()
		if err == nil && (len(status.Hooks) != 1 || status.Hooks[0].Failed != "" || len(status.Problems) > 0) {
			err = fmt.Errorf("%+v, %q", status.Hooks, status.Problems)
		}
		return err
	})
	if status := parse[control.Status](t, n.lbctl(t, "status -o json")); len(status.Hooks) != 1 || status.Hooks[0].Dropped != 0 {
		t.Errorf("%+v", status.Hooks)
	}
}
