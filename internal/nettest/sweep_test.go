package nettest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

func TestWhatAKilledTestLeftIsRemovedAndNothingElse(t *testing.T) {
	New(t) // or skips
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dead, alive := fmt.Sprintf("lbt-%d-killed-", gone.Process.Pid), Prefix()
	left := make(map[string]*netlab.Command)
	for _, prefix := range []string{dead, alive} {
		lab, err := netlab.New(prefix)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lab.Close() })
		left[prefix] = Host(t, lab, "n1").Command(t.Context(), "sleep", "60")
		if err := left[prefix].Start(); err != nil {
			t.Fatal(err)
		}
		pin := filepath.Join(bpfDir, "001"+prefix+"n1")
		if err := os.Mkdir(pin, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(pin) })
	}
	New(t)
	Eventually(t, time.Minute, func() error { // several tests may sweep at once
		names, err := netlab.Namespaces(dead)
		if len(names) > 0 {
			err = errors.Join(err, fmt.Errorf("namespaces are left: %q", names))
		}
		if _, missing := os.Stat(filepath.Join(bpfDir, "001"+dead+"n1")); missing == nil {
			err = errors.Join(err, errors.New("pins are left"))
		}
		return err
	})
	if err := left[dead].Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("what ran there ended with %v", err)
	}
	if names, err := netlab.Namespaces(alive); len(names) != 1 || err != nil {
		t.Errorf("namespaces of a test that runs: %q, %v", names, err)
	}
	if pids, err := netlab.Processes(alive); len(pids) != 1 || err != nil {
		t.Errorf("processes of a test that runs: %v, %v", pids, err)
	}
	if _, err := os.Stat(filepath.Join(bpfDir, "001"+alive+"n1")); err != nil {
		t.Error(err)
	}
}
