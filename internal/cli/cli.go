// Package cli is the lbctl command: one file for each noun.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// An Env is what a run of lbctl takes from its process.
type Env struct {
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Terminal bool                // Stdout is one
	Getenv   func(string) string // os.Getenv
	Now      func() time.Time    // time.Now
	Version  string              // of lbctl, set while building
}

// Run carries out one command line, without the program's name, and returns the exit code. The
// context ends commands that follow something.
func Run(ctx context.Context, env Env, args []string) int {
	a := &app{Env: env}
	root := a.root()
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for "those of the process"
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errDegraded) {
		fmt.Fprintf(env.Stderr, "lbctl: %s\n", errorText(err))
	}
	return exitCode(err)
}
