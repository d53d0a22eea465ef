package netlab

import (
	"bytes"
	"context"
	"os/exec"
	"syscall"
)

// A Command is an exec.Cmd that runs inside a host. Unlike with `ip netns exec` the child sees
// the same mounts as we do; so /sys/class/net there shows our interfaces, not the host's.
type Command struct {
	*exec.Cmd
	host *Host
}

// Command prepares a process inside the host. It is killed when the host goes away, even if this
// process is killed: the kernel ties Pdeathsig to the thread that started the child, and that is
// the one that lives as long as the host.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Command {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return &Command{Cmd: cmd, host: h}
}

// Start starts the process.
func (c *Command) Start() error {
	return c.host.onResident(c.Cmd.Start)
}

// Run starts the process and waits for its end.
func (c *Command) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns what it wrote to its standard output.
func (c *Command) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the process and returns what it wrote to standard output and error.
func (c *Command) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	c.Stderr = &out
	err := c.Run()
	return out.Bytes(), err
}
