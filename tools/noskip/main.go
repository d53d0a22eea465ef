// Command noskip reads the output of go test -json and prints a summary. It exits 1 when a test
// failed or was skipped, or when none ran: in CI a test that could not run counts as broken.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
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
}

func main() {
	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "noskip:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[string][]string{}, tests: map[string]int{}}
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
		s.failed++
		s.print(name)
	case "skip":
		s.skipped++
		s.print(name)
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
		s.broken = true
		s.print(name)
		fmt.Fprintf(s.out, "FAIL  %s  %s\n", e.Package, took)
	}
}

func (s *summary) print(name string) {
	for _, line := range s.output[name] {
		fmt.Fprint(s.out, line)
	}
}

// close prints the last line and reports whether all is well.
func (s *summary) close() bool {
	for name := range s.output { // of tests that were running when their process ended
		s.print(name)
	}
	line := fmt.Sprintf("%d passed, %d failed", s.passed, s.failed)
	if s.skipped > 0 {
		line += fmt.Sprintf(", %d skipped", s.skipped)
	}
	fmt.Fprintln(s.out, line)
	return s.passed > 0 && s.failed == 0 && s.skipped == 0 && !s.broken
}
