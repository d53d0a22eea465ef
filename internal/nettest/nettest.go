// Package nettest is netlab for tests: labs that clean up after themselves and waits that fail.
package nettest

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

// New returns a lab of the test's own, removed when it ends, and removes what killed tests left.
// Without root the test is skipped, or fails with CI=true.
func New(t testing.TB) *netlab.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		const reason = "network namespaces need root"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	if err := sweep(); err != nil {
		t.Logf("what a killed test left is not removed: %v", err)
	}
	lab, err := netlab.New(Prefix())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// Prefix returns a prefix for namespaces and pins that no other test uses. It tells whose they are.
func Prefix() string {
	return fmt.Sprintf("lbt-%d-%s-", os.Getpid(), strings.ToLower(rand.Text()[:6]))
}

// Host adds a host to the lab.
func Host(t testing.TB, lab *netlab.Lab, name string) *netlab.Host {
	t.Helper()
	h, err := lab.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Eventually waits until cond returns nil and fails with its last error after within.
func Eventually(t testing.TB, within time.Duration, cond func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(2 * time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
	}
}
