package main

import (
	"strings"
	"testing"
)

const passes = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
`

func TestOnlyPassingTestsAreWell(t *testing.T) {
	for _, test := range []struct {
		name, in string
		well     bool
		says     []string
	}{
		{"all pass", passes + `{"Action":"pass","Package":"p","Elapsed":1.5}`, true,
			[]string{"ok    p  1 tests  1.5s", "1 passed, 0 failed"}},
		{"a package without tests", passes + `{"Action":"skip","Package":"q"}`, true,
			[]string{"1 passed, 0 failed"}},
		{"nothing ran", `{"Action":"skip","Package":"q"}`, false,
			[]string{"0 passed, 0 failed"}},
		{"a skipped test", passes +
			`{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: no bpffs\n"}
			{"Action":"skip","Package":"p","Test":"TestB"}`, false,
			[]string{"--- SKIP: no bpffs", "1 passed, 0 failed, 1 skipped"}},
		{"a failed test", passes +
			`{"Action":"output","Package":"p","Test":"TestB","Output":"got 1, want 2\n"}
			{"Action":"fail","Package":"p","Test":"TestB"}`, false,
			[]string{"got 1, want 2", "1 passed, 1 failed"}},
		{"a panic", passes +
			`{"Action":"output","Package":"p","Test":"TestB","Output":"panic: nil\n"}
			{"Action":"fail","Package":"p","Elapsed":0.2}`, false,
			[]string{"panic: nil", "FAIL  p  200ms"}},
		{"a build that fails", passes +
			`{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined: x\n"}
			{"ImportPath":"q","Action":"build-fail"}`, false,
			[]string{"q.go:1: undefined: x"}},
		{"words of go itself", "go: no such flag\n" + passes, true,
			[]string{"go: no such flag"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			if err := s.read(strings.NewReader(test.in)); err != nil {
				t.Fatal(err)
			}
			if well := s.close(); well != test.well {
				t.Errorf("well: %t, want %t", well, test.well)
			}
			for _, want := range test.says {
				if !strings.Contains(out.String(), want+"\n") {
					t.Errorf("no line %q in\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "noise") {
				t.Errorf("a passing test's output is shown:\n%s", out.String())
			}
		})
	}
}
