package meta

import (
	"bytes"
	"go/format"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestEveryGoFileIsFormatted(t *testing.T) {
	for _, name := range filesWith(t, ".go") {
		source := read(t, name)
		formatted, err := format.Source(source)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(source, formatted) {
			t.Errorf("%s: not formatted: make fmt", name)
		}
	}
}

// The kernel loads helpers marked GPL-only for the first license; the second lets others reuse
// the code.
func TestEveryCFileNamesBothLicenses(t *testing.T) {
	const want = "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)"
	for _, name := range filesWith(t, ".c", ".h") {
		first, _, _ := strings.Cut(string(read(t, name)), "\n")
		if !strings.Contains(first, want) {
			t.Errorf("%s: line 1 is %q, want %q in it", name, first, want)
		}
	}
}

// Building needs Go alone because the objects are in the repository: an ignore rule must not
// keep one out.
func TestGeneratedObjectsAreCommitted(t *testing.T) {
	list := exec.Command("git", "ls-files")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	committed := strings.Split(string(out), "\n")
	objects := 0
	for _, name := range filesWith(t, ".go") {
		stem, generated := strings.CutSuffix(name, "_bpfel.go")
		if !generated {
			continue
		}
		objects++
		for _, want := range []string{name, stem + "_bpfel.o"} {
			if !slices.Contains(committed, want) {
				t.Errorf("%s is not committed", want)
			}
		}
	}
	if objects == 0 {
		t.Error("no *_bpfel.go: where do the BPF objects go?")
	}
}
