package demo

import (
	"context"
	"os"
	"strings"
	"syscall"

	"github.com/lbctl/lbctl/internal/netlab"
)

// A process is something that runs on a node.
type process struct {
	cmd   *netlab.Command
	ended chan struct{}
	err   error // of its end, once ended is closed
}

// spawn starts a process on a node; what it writes is appended to a file.
func (c *cluster) spawn(n *node, log string, files []*os.File, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: n.host.Command(context.Background(), name, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = out, out, files
	// Ctrl-C on the terminal is for us alone.
	p.cmd.SysProcAttr.Setsid = true
	if c.opts.Keep {
		p.cmd.SysProcAttr.Pdeathsig = syscall.Signal(0)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// tail returns the last lines of a log, for an error message.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-5):], "\n  ")
}
