package program

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What every check needs is tested with internal/probe; here is what hooks need besides.

// needRoot is for tests of what only root may do, as lbd does.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
}

func run(t *testing.T, p Program) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.Run(ctx)
}

func TestAProgramRunsAsAnotherUserAndInNoGroupOfOurs(t *testing.T) {
	needRoot(t)
	said, err := run(t, Program{Command: []string{"/usr/bin/id"}, User: "nobody"})
	if err != nil || !strings.HasPrefix(said, "uid=65534(nobody)") || strings.Contains(said, "root") {
		t.Errorf("%q, %v", said, err)
	}
	said, err = run(t, Program{Command: []string{"/bin/cat", "/proc/self/status"}, User: "nobody"})
	if err != nil || !strings.Contains(said, "CapEff:\t0000000000000000") {
		t.Errorf("%v, it may still do something:\n%s", err, said)
	}
	for _, name := range []string{"", "root"} {
		if said, err := run(t, Program{Command: []string{"/usr/bin/id", "-un"}, User: name}); said != "root" || err != nil {
			t.Errorf("user %q: %q, %v", name, said, err)
		}
	}
	_, err = run(t, Program{Command: []string{"/bin/true"}, User: "nosuchuser"})
	if err == nil || err.Error() != "user nosuchuser: unknown" {
		t.Error(err)
	}
}

func TestAProgramOfAnotherUserIsKilledWithItsGroup(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	for path := dir; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(pid, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(pid, 65534, -1); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "hook")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $! > "+pid+"\nsleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	p := Program{Command: []string{script}, User: "nobody"}
	if said, err := p.Run(ctx); err == nil || err.Error() != "timeout, killed" || time.Since(start) > 10*time.Second {
		t.Errorf("%q, %v after %s", said, err, time.Since(start))
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(string(text), &child); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("its child is still there: %s", stat)
		}
	}
}

func TestInputReachesAProgramThatReadsItAndHoldsUpNoneThatDoesNot(t *testing.T) {
	large := strings.Repeat("x", 1<<20) // more than a pipe holds
	if said, err := run(t, Program{Command: []string{"/usr/bin/wc", "-c"}, Input: []byte(large)}); said != "1048576" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	start := time.Now()
	if said, err := run(t, Program{Command: []string{"/bin/echo", "done"}, Input: []byte(large)}); said != "done" || err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("%q, %v after %s", said, err, time.Since(start))
	}
}

// lbd may be urgent; what it runs is not, from its first instruction.
func TestAProgramIsNotUrgent(t *testing.T) {
	needRoot(t)
	// a thread of our own, which ends with the test
	done := make(chan string, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -5); err != nil {
			done <- err.Error()
			return
		}
		p := Program{Command: []string{"/usr/bin/nice"}, User: "nobody"}
		said, err := p.Run(context.Background())
		after, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
		done <- fmt.Sprintf("it has %s, %v; we have %d", said, err, 20-after)
	}()
	if got := <-done; got != "it has 0, <nil>; we have -5" {
		t.Error(got)
	}
}
