package probe

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/health"
)

// try probes and checks that the result says when, and whether it took as long as it did.
func attempt(t *testing.T, target netip.AddrPort, spec Spec, timeout time.Duration) health.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	before := time.Now()
	r := Probe(ctx, target, &spec)
	took := time.Since(before)
	if r.At.Before(before) || r.Took <= 0 || r.Took > took {
		t.Errorf("began %s after the call and took %s of %s", r.At.Sub(before), r.Took, took)
	}
	if took > timeout+time.Second {
		t.Errorf("took %s of %s", took, timeout)
	}
	return r
}

// expectDetail probes and compares what is found.
func expectDetail(t *testing.T, target netip.AddrPort, spec Spec, ok bool, detail string) {
	t.Helper()
	r := attempt(t, target, spec, 5*time.Second)
	if r.OK != ok || r.Detail != detail {
		t.Errorf("ok %v, %q, want ok %v, %q", r.OK, r.Detail, ok, detail)
	}
}

// expectTimeout probes what does not answer.
func expectTimeout(t *testing.T, target netip.AddrPort, spec Spec, detail string) {
	t.Helper()
	r := attempt(t, target, spec, 100*time.Millisecond)
	if r.OK || r.Detail != detail || r.Took < 90*time.Millisecond { // the deadline is set a little before the clock is read
		t.Errorf("ok %v after %s, %q, want %q", r.OK, r.Took, r.Detail, detail)
	}
}

// serve accepts connections on loopback until the test ends.
func serve(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-ended })
	return addrOf(listener.Addr())
}

func addrOf(addr net.Addr) netip.AddrPort { return netip.MustParseAddrPort(addr.String()) }

// says returns a server that writes a text, and then waits for the client to go if it is to hold.
func says(t *testing.T, text string, hold bool) netip.AddrPort {
	return serve(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte(text))
		if hold {
			_, _ = io.Copy(io.Discard, conn)
		}
	})
}

// closed returns an address where nobody listens.
func closed(t *testing.T) netip.AddrPort {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return addrOf(listener.Addr())
}

// deaf returns an address where nobody answers: the queue of its listener is full.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 100*time.Millisecond)
		if err != nil {
			return addrOf(listener.Addr())
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func TestEveryKindHasANameAndAFunction(t *testing.T) {
	for k := range kindCount {
		if kinds[k].try == nil {
			t.Errorf("kind %d has no function", k)
		}
		if got, err := ParseKind(k.String()); err != nil || got != k {
			t.Errorf("%q is %v, %v", k, got, err)
		}
	}
	if _, err := ParseKind("smtp"); err == nil {
		t.Error("smtp is a kind")
	}
	expectUnknown := Probe(t.Context(), netip.AddrPort{}, &Spec{Kind: kindCount})
	if expectUnknown.OK || expectUnknown.Detail != "kind of check 9 is unknown" {
		t.Errorf("%+v", expectUnknown)
	}
}

func TestADetailIsOneBoundedLineThatTerminalsCanShow(t *testing.T) {
	for _, c := range []struct{ from, want string }{
		{" a\r\n\tb\n", "a b"},
		{"\x1b[31mred", "?[31mred"},
		{"\xff\xfe", "?"},
		{"grün", "grün"},
		{strings.Repeat("x", 5000), strings.Repeat("x", maxDetail-3) + "..."},
	} {
		if got := line(c.from); got != c.want {
			t.Errorf("%.20q gives %.20q", c.from, got)
		}
	}
	if got := line(strings.Repeat("ü", 5000)); !utf8.ValidString(got) || len(got) > maxDetail {
		t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
	}
}

func TestTCP(t *testing.T) {
	tcp := func(send, expect string) Spec { return Spec{Kind: TCP, TCP: TCPSpec{Send: send, Expect: expect}} }
	hello := says(t, "220 hello\r\n", true)
	expectDetail(t, hello, tcp("", ""), true, "connected")
	expectDetail(t, hello, tcp("", "220 "), true, `got "220 "`)
	expectDetail(t, closed(t), tcp("", ""), false, "connect: connection refused")
	expectDetail(t, says(t, "500 no\r\n", false), tcp("", "220 "), false, `got "500 no\r\n", want "220 "`)
	expectDetail(t, says(t, "", false), tcp("", "220 "), false, `got nothing, want "220 "`)
	expectDetail(t, says(t, strings.Repeat("x", 2*maxExpect), false), tcp("", "y"), false, `no "y" in 65536 bytes`)
	expectTimeout(t, hello, tcp("", "250 "), `read: timeout after "220 hello\r\n", want "250 "`)
	expectTimeout(t, deaf(t), tcp("", ""), "connect: timeout")

	echo := serve(t, func(conn net.Conn) {
		buf := make([]byte, 100)
		for _, half := range []int{2, 100} { // what is expected comes in two parts
			n, _ := conn.Read(buf[:half])
			_, _ = conn.Write(buf[:n])
		}
	})
	expectDetail(t, echo, tcp("PING\r\n", "PING"), true, `got "PING"`)
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	flag, none := filepath.Join(dir, "flag"), filepath.Join(dir, "none")
	if err := os.WriteFile(flag, []byte("state=ready\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(path string, absent bool, contains string) Spec {
		return Spec{Kind: File, File: FileSpec{Path: path, Absent: absent, Contains: contains}}
	}
	for _, c := range []struct {
		spec   Spec
		ok     bool
		detail string
	}{
		{file(flag, false, ""), true, "file FLAG is there"},
		{file(none, false, ""), false, "file NONE is absent"},
		{file(flag, true, ""), false, "file FLAG is there, want it absent"},
		{file(none, true, ""), true, "file NONE is absent"},
		{file(flag, false, "ready"), true, `file FLAG has "ready"`},
		{file(flag, false, "maint"), false, `file FLAG has "state=ready\n", want "maint"`},
		{file(none, false, "ready"), false, "file NONE is absent"},
		{file(dir, false, "ready"), false, "file DIR is no regular file"},
		{file(filepath.Join(flag, "x"), true, ""), false, "file FLAG/x: not a directory"},
	} {
		replace := strings.NewReplacer("FLAG", flag, "NONE", none, "DIR", dir)
		expectDetail(t, netip.AddrPort{}, c.spec, c.ok, replace.Replace(c.detail))
	}
}

func TestAProbeThatEndedBeforeItBeganFindsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for k := range kindCount {
		if r := Probe(ctx, netip.MustParseAddrPort("127.0.0.1:0"), &Spec{Kind: k, File: FileSpec{Path: "/"}}); r.OK || r.Detail != "stopped" {
			t.Errorf("%s: ok %v, %q", k, r.OK, r.Detail)
		}
	}
}
