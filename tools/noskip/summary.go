package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// event is one line of go test -json; see go doc test2json and go help buildjson.
type event struct {
	Action     string
	Package    string
	ImportPath string // of the build-output and build-fail actions
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	broken                  bool                // something failed that is no test, such as a build
	output                  map[string][]string // by package and test, until its result is known
	tests                   map[string]int      // passed, by package

	again    *regexp.Regexp      // packages whose tests get another chance; nil: none
	suspects map[string][]string // those that failed, without subtests, by package
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[string][]string{}, tests: map[string]int{}, suspects: map[string][]string{}}
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20) // a failed comparison prints whole values on one line
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, lines.Text()) // go itself speaks, about a flag or a module
			continue
		}
		s.add(e)
	}
	for name := range s.output { // of tests that were running when their process ended
		s.print(name, "")
		s.broken = s.broken || strings.Contains(name, " ")
	}
	clear(s.output)
	return lines.Err()
}

func (s *summary) add(e event) {
	name := strings.TrimRight(e.Package+" "+e.Test, " ")
	switch e.Action {
	case "output":
		s.output[name] = append(s.output[name], e.Output)
		return
	case "build-output":
		fmt.Fprint(s.out, e.Output)
		return
	case "build-fail":
		s.broken = true
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		s.addPackage(e, name)
	} else {
		s.addTest(e, name)
	}
	delete(s.output, name)
}

func (s *summary) addTest(e event, name string) {
	switch e.Action {
	case "pass":
		s.passed++
		s.tests[e.Package]++
	case "fail":
		if s.again != nil && s.again.MatchString(e.Package) && !s.panicked(name) {
			s.suspect(e.Package, e.Test)
			s.print(name, "| ")
			return
		}
		s.failed++
		s.print(name, "")
	case "skip":
		s.skipped++
		s.print(name, "")
	}
}

// addPackage ends a package. A panic or a timeout is reported by the package alone; "skip" means
// that it has no test files.
func (s *summary) addPackage(e event, name string) {
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(time.Millisecond)
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.out, "ok    %s  %d tests  %s\n", e.Package, s.tests[e.Package], took)
	case "fail":
		prefix := ""
		if len(s.suspects[e.Package]) == 0 || s.panicked(name) {
			s.broken = true
		} else {
			prefix = "| "
		}
		s.print(name, prefix)
		fmt.Fprintf(s.out, "%sFAIL  %s  %s\n", prefix, e.Package, took)
	}
}

// panicked says whether a process ended before its other tests ran.
func (s *summary) panicked(name string) bool {
	for _, line := range s.output[name] {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return true
		}
	}
	return false
}

func (s *summary) print(name, prefix string) {
	for _, line := range s.output[name] {
		fmt.Fprint(s.out, prefix, line)
	}
}

// failing says whether something is known to have gone wrong.
func (s *summary) failing() bool {
	return s.failed > 0 || s.skipped > 0 || s.broken || len(s.suspects) > 0
}

// close prints the last line and reports whether all is well.
func (s *summary) close() bool {
	line := fmt.Sprintf("%d passed, %d failed", s.passed, s.failed)
	if s.skipped > 0 {
		line += fmt.Sprintf(", %d skipped", s.skipped)
	}
	fmt.Fprintln(s.out, line)
	return s.passed > 0 && !s.failing()
}
