package main

import (
	"fmt"
	"regexp"
	"slices"
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

const fails = `{"Action":"output","Package":"timing","Test":"TestB/sub","Output":"--- FAIL: too late\n"}
{"Action":"fail","Package":"timing","Test":"TestB/sub"}
{"Action":"fail","Package":"timing","Test":"TestB"}
{"Action":"fail","Package":"timing","Elapsed":2}
`

func TestFewFailuresOfTimingGetAnotherChance(t *testing.T) {
	pass := strings.Repeat(`{"Action":"pass","Package":"timing","Test":"TestB"}`+"\n", runs)
	for _, test := range []struct {
		name, in, again string
		asked           []string // for which tests
		well            bool
	}{
		{"passes from then on", passes + fails, pass, []string{"^TestB$"}, true},
		{"fails once more", passes + fails, pass + fails, []string{"^TestB$"}, false},
		{"does not run again", passes + fails, "", []string{"^TestB$"}, false},
		{"runs too rarely", passes + fails, passes, []string{"^TestB$"}, false},
		{"is of another package", passes + strings.ReplaceAll(fails, "timing", "q"), pass, nil, false},
		{"panics", passes + `{"Action":"output","Package":"timing","Test":"TestB","Output":"panic: nil\n"}` + "\n" + fails, pass, nil, false},
		{"has no time left", passes + `{"Action":"output","Package":"timing","Output":"panic: test timed out\n"}` + "\n" + fails, pass, nil, false},
		{"ends its process while another runs", passes + `{"Action":"output","Package":"timing","Test":"TestC","Output":"begun\n"}` + "\n" + fails,
			pass, nil, false},
		{"is one of three", passes + fails + strings.ReplaceAll(fails, "TestB", "TestC") + strings.ReplaceAll(fails, "TestB", "TestD"), pass,
			[]string{"^TestB$", "^TestC$", "^TestD$"}, true},
		{"is one of four", passes + fails + strings.ReplaceAll(fails, "TestB", "TestC") + strings.ReplaceAll(fails, "TestB", "TestD") +
			strings.ReplaceAll(fails, "TestB", "TestE"), pass, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out)
			s.again = regexp.MustCompile("^timing$")
			if err := s.read(strings.NewReader(test.in)); err != nil {
				t.Fatal(err)
			}
			var asked []string
			s.judge(func(args []string, into *summary) error {
				i := slices.Index(args, "-run")
				asked = append(asked, args[i+1])
				if test.again == "" {
					return fmt.Errorf("exit status 1")
				}
				return into.read(strings.NewReader(test.again))
			})
			if well := s.close(); well != test.well {
				t.Errorf("well: %t, want %t:\n%s", well, test.well, out.String())
			}
			if !slices.Equal(asked, test.asked) {
				t.Errorf("asked again: %q, want %q", asked, test.asked)
			}
			if first := "| --- FAIL: too late\n"; strings.Contains(test.in, `"timing","Test":"TestB/sub"`) && !strings.Contains(out.String(), first) {
				t.Errorf("the first failure is not shown:\n%s", out.String())
			}
		})
	}
}
