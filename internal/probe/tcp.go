package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/lbctl/lbctl/internal/health"
)

func tryTCP(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	conn, err := dial(ctx, target, spec)
	if err != nil {
		return health.Result{}, err
	}
	defer conn.Close()
	if err := send(conn, spec.TCP.Send); err != nil {
		return health.Result{}, err
	}
	if spec.TCP.Expect == "" {
		return found("connected")
	}
	if err := expect(conn, spec.TCP.Expect); err != nil {
		return health.Result{}, err
	}
	return found("got %q", spec.TCP.Expect)
}

// dial returns a connection that breaks when ctx ends.
func dial(ctx context.Context, target netip.AddrPort, spec *Spec) (net.Conn, error) {
	conn, err := spec.open(ctx, "tcp", target)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", plain(err))
	}
	return boundConn{conn, bind(ctx, conn)}, nil
}

type boundConn struct {
	net.Conn
	free func() bool
}

func (c boundConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// bind makes reads and writes fail when ctx ends, until free is called.
func bind(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (free func() bool) {
	return context.AfterFunc(ctx, func() {
		// It fails for a closed connection, which is as good.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
}

func send(conn net.Conn, text string) error {
	if text == "" {
		return nil
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return fmt.Errorf("send: %w", plain(err))
	}
	return nil
}

const maxExpect = 64 << 10

func expect(conn net.Conn, want string) error {
	var got []byte
	for len(got) < maxExpect {
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		switch {
		case bytes.Contains(got, []byte(want)):
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("got %s, want %q", quote(got), want)
		case err != nil:
			return fmt.Errorf("read: %w after %s, want %q", plain(err), quote(got), want)
		}
	}
	return fmt.Errorf("no %q in %d bytes", want, len(got))
}

// quote shows the beginning of what came.
func quote(got []byte) string {
	const most = 100
	switch {
	case len(got) == 0:
		return "nothing"
	case len(got) > most:
		return fmt.Sprintf("%q...", got[:most])
	}
	return fmt.Sprintf("%q", got)
}
