package main

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/lbctl/lbctl/tools/vm/guestinit"
)

// copyOutput copies lines as they come, up to the status that the guest's init appends. The nonce
// tells the status from all that a program might print; it need not start a line, since programs
// may leave their last one open.
func copyOutput(w io.Writer, r io.Reader, nonce string) (status int, found bool, err error) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		text, report, ok := strings.Cut(line, guestinit.StatusPrefix(nonce))
		if _, err := io.WriteString(w, text); err != nil {
			return 0, false, err
		}
		if ok {
			status, err := guestinit.ParseStatus(report)
			return status, err == nil, err
		}
		if errors.Is(err, io.EOF) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
	}
}
