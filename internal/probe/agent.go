package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/lbctl/lbctl/internal/health"
)

// maxReply is the length of an agent's line.
const maxReply = 1024

// tryAgent reads one line. A line without its end is none: what is missing may be "0%" of "100%".
func tryAgent(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	conn, err := dial(ctx, target, spec)
	if err != nil {
		return health.Result{}, err
	}
	defer conn.Close()
	if err := send(conn, spec.Ask); err != nil {
		return health.Result{}, err
	}
	text, err := readLine(bufio.NewReader(io.LimitReader(conn, maxReply)))
	if err != nil {
		return health.Result{}, err
	}
	text = line(text) // its note will be shown
	reply := health.ParseReply(text)
	result := health.Result{Detail: text}
	switch {
	case reply.Empty():
		return failed("reply %q has no known word", text)
	case reply.Health.Bad():
		result.Agent = &reply
		return result, errors.New(text)
	}
	result.Agent = &reply
	if len(reply.Ignored) > 0 {
		result.Detail += fmt.Sprintf(" (ignored: %q)", reply.Ignored)
	}
	return result, nil
}

// readLine returns a line without its end, which is the first CR or LF.
func readLine(r *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		c, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && text.Len() == maxReply:
			return "", fmt.Errorf("reply has no end of line in %d bytes", maxReply)
		case errors.Is(err, io.EOF):
			return "", fmt.Errorf("reply %q has no end of line", text.String())
		case err != nil:
			return "", fmt.Errorf("read: %w", plain(err))
		case c == '\n' || c == '\r':
			return text.String(), nil
		}
		text.WriteByte(c)
	}
}
