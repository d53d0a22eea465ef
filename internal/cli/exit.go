package cli

import (
	"errors"
	"strings"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
)

// The exit codes that scripts may rely on.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // an unknown command or flag, or arguments that make no sense
	exitConfig      = 3 // a configuration file is invalid
	exitDegraded    = 4 // lbd runs and reports problems, or the doctor found some
	exitUnreachable = 5 // nobody answers on the daemon's socket
	exitUnfinished  = 6 // what was waited for did not happen in time; it goes on
	exitLast        = 7 // nobody else would take new flows
)

// exitCodes is what every help text ends with.
const exitCodes = `Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 invalid configuration, 4 problems were
found, 5 lbd is not reachable, 6 not finished in time, 7 nobody would take new flows.`

// A usageError is about the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errDegraded ends a status that was printed and shows problems: there is nothing to add.
var errDegraded = errors.New("degraded")

// errUnfinished ends a wait whose time is over, or that the user interrupted.
var errUnfinished = errors.New("not finished")

func exitCode(err error) int {
	_, usage := errors.AsType[usageError](err)
	answer, _ := errors.AsType[*control.Error](err)
	switch {
	case err == nil:
		return exitOK
	case usage:
		return exitUsage
	case len(invalid(err)) > 0:
		return exitConfig
	case errors.Is(err, errDegraded):
		return exitDegraded
	case errors.Is(err, control.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, errUnfinished):
		return exitUnfinished
	case answer != nil && (answer.Message == control.ErrLastNode.Message || answer.Message == control.ErrLastBackend.Message):
		return exitLast
	}
	return exitFailed
}

// invalid returns what is wrong with a configuration file, found by ourselves or by lbd.
func invalid(err error) config.Errors {
	if answer, ok := errors.AsType[*control.Error](err); ok {
		return answer.Details
	}
	found, _ := errors.AsType[config.Errors](err)
	return found
}

// errorText is what people read: errors in a file with the line that each is about.
func errorText(err error) string {
	found := invalid(err)
	if len(found) == 0 {
		return strings.TrimSuffix(err.Error(), "\n")
	}
	return found.Report()
}
