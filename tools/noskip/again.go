package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	most = 3 // tests that are run again; when more fail, something is wrong
	runs = 4 // that each has to pass
)

// suspect notes a failed test, by the one that go test can run alone.
func (s *summary) suspect(pkg, test string) {
	test, _, _ = strings.Cut(test, "/")
	if !slices.Contains(s.suspects[pkg], test) {
		s.suspects[pkg] = append(s.suspects[pkg], test)
	}
}

// judge runs the suspects again, by goTest, and finds them failed or not.
func (s *summary) judge(goTest func(args []string, into *summary) error) {
	suspects := s.suspects
	s.suspects = map[string][]string{}
	total := 0
	for _, tests := range suspects {
		total += len(tests)
	}
	if total > most || s.failing() { // nothing that the machine could be blamed for
		s.failed += total
		return
	}
	for _, pkg := range slices.Sorted(maps.Keys(suspects)) {
		for _, test := range suspects[pkg] {
			alone := newSummary(s.out)
			fmt.Fprintf(s.out, "again %s  %s\n", pkg, test)
			err := goTest([]string{"-count", fmt.Sprint(runs), "-timeout", "20m", "-run", "^" + test + "$", pkg}, alone)
			if err != nil || alone.failing() || alone.passed < runs {
				s.failed++
				continue
			}
			s.passed++
			fmt.Fprintf(s.out, "%s failed once, and passed %d times of %d, alone\n", test, runs, runs)
		}
	}
}
