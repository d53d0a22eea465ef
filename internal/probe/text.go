package probe

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// maxDetail is the length of a detail in bytes: what a page of a terminal shows.
const maxDetail = 1024

// line makes one line of what may come from anywhere: control characters would do things to the
// terminal that shows it.
func line(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*maxDetail)], "?")
	s = strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c):
			return '?'
		}
		return c
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxDetail {
		s = strings.ToValidUTF8(s[:maxDetail-3], "") + "..."
	}
	return s
}

var errTimeout = errors.New("timeout")

// plain takes off an error what the operator knows: who dialled whom, and that it was a system
// call.
func plain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return errTimeout
	}
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return e
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err
	}
	return err
}
