// Command noskip runs go test, or reads the output of go test -json where it gets no arguments, and prints
// a summary. It exits 1 when a test failed or was skipped, or when none ran: in CI a test that could not run
// counts as broken.
//
//	noskip [-dir DIRECTORY] [-again PACKAGES] -- ARGUMENTS OF GO TEST
//
// Tests of packages that match -again depend on when things happen, and a machine that others use may stand
// still. When at most three of them fail, each is run again, alone, and has to pass four times in a row. The
// summary says which those are.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
)

func main() {
	dir := flag.String("dir", ".", "directory in which to run go test")
	again := flag.String("again", "", "regular expression of packages whose tests are run again when few of them fail")
	flag.Parse()
	well, err := run(*dir, *again, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "noskip:", err)
	}
	if !well {
		os.Exit(1)
	}
}

func run(dir, again string, args []string) (well bool, err error) {
	s := newSummary(os.Stdout)
	if again != "" {
		if s.again, err = regexp.Compile(again); err != nil {
			return false, err
		}
	}
	if len(args) == 0 {
		err = s.read(os.Stdin)
	} else {
		err = goTest(dir, args, s)
	}
	if err != nil {
		return false, err
	}
	s.judge(func(args []string, into *summary) error { return goTest(dir, args, into) })
	return s.close(), nil
}

// goTest runs go test. That it fails is no error when the summary knows why.
func goTest(dir string, args []string, s *summary) error {
	test := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	test.Dir, test.Stderr = dir, os.Stderr
	out, err := test.StdoutPipe()
	if err != nil {
		return err
	}
	if err := test.Start(); err != nil {
		return err
	}
	readErr := s.read(out)
	_, _ = io.Copy(io.Discard, out)
	if err := test.Wait(); err != nil && !s.failing() {
		return fmt.Errorf("go test: %w", err)
	}
	return readErr
}
