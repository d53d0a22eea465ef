package nettest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/lbctl/lbctl/internal/netlab"
)

// childEnv makes a test binary one of its children: it says which one, in JSON.
const childEnv = "LB_TEST_CHILD"

// Main is the TestMain of a package whose test binary is run as a child, too: StartChild tells it which one.
func Main(m *testing.M, child func(text string) error) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := child(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A Child is the test binary as a process inside a host. What opens sockets in many goroutines is inside a
// namespace with all of them only as a whole process.
type Child struct {
	In   io.Writer // what it reads
	cmd  *netlab.Command
	read sync.WaitGroup
}

// StartChild starts the child that value describes. listen reads what it writes, to the end; its log comes
// into the test's.
func StartChild(t testing.TB, h *netlab.Host, name string, value any, listen func(io.Reader)) *Child {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &Child{cmd: h.Command(context.Background(), self)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.SysProcAttr.Setsid = true
	c.cmd.Stderr = &logWriter{t, name}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.In, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.read.Go(func() { listen(out) })
	return c
}

// Kill ends the process as kill -9 does, and waits for its end. The error says that it had ended.
func (c *Child) Kill() error {
	err := c.cmd.Process.Kill()
	c.Wait()
	return err
}

// Wait waits for the end of the process. How it ended is not of interest.
func (c *Child) Wait() {
	c.read.Wait()
	_ = c.cmd.Wait()
}

// A logWriter brings a child's log into the test's.
type logWriter struct {
	t    testing.TB
	name string
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, strings.TrimSpace(string(b)))
	return len(b), nil
}
