// Package program runs the programs of operators: checks and hooks. They are small and may be wrong:
// none can keep lbd, leave something behind, or be replaced by somebody who is not root.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxOutput = 1024
	// linger is how long the output of a program that has ended may still be open: a process that
	// left its group can hold it for ever.
	linger = 100 * time.Millisecond
)

// A Program is what to run and how. There is no shell.
type Program struct {
	Command []string // an absolute path, and arguments
	Env     []string // KEY=value, beside PATH and LANG
	Input   []byte   // its standard input
	User    string   // that it runs as; empty: this process's
}

// Run runs the program until it ends or ctx does, and returns the beginning of what it wrote to its
// outputs, without space around it. The error is nil when it ended with status 0. With the program,
// everything that is left of its process group is killed.
//
// A program that others than root or this process's user could change is refused.
func (p *Program) Run(ctx context.Context) (said string, err error) {
	if len(p.Command) == 0 {
		return "", errors.New("no command")
	}
	if err := trusted(p.Command[0]); err != nil {
		return "", fmt.Errorf("refused: %w", err)
	}
	output := &head{left: maxOutput}
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, p.Env...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = linger
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.Input != nil {
		cmd.Stdin = bytes.NewReader(p.Input)
	}
	if cmd.SysProcAttr.Credential, err = credential(p.User); err != nil {
		return "", err
	}
	if err := start(cmd); err != nil {
		return "", fmt.Errorf("start: %w", plain(err))
	}
	err = finish(ctx, cmd)
	said = strings.TrimSpace(output.text.String())
	if ctx.Err() != nil && err != nil {
		return said, errKilled
	}
	return said, err
}

var errKilled = errors.New("timeout, killed")

// start starts a program that is not urgent, even if this process is. What makes a thread less urgent
// cannot always be taken back, so it is a thread that ends.
func start(cmd *exec.Cmd) error {
	const usual = 20 // as the kernel counts: 20 less the nice value
	if priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && priority <= usual {
		return cmd.Start()
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
		started <- cmd.Start()
	}()
	return <-started
}

// plain leaves what the system said.
func plain(err error) error {
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return e
	}
	return err
}

// finish waits for the program and leaves none of its group. The group is killed before the program
// is waited for in the way that frees its number, so that nobody else can have that number.
func finish(ctx context.Context, cmd *exec.Cmd) error {
	kill := func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // fails when the group is empty
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		kill()
	})
	var ended unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &ended, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if !stop() {
		<-killed
	}
	kill() // what it left behind
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well; somebody of another group holds its output
	}
	return err
}

// A head keeps the beginning of what is written to it, and takes the rest.
type head struct {
	text strings.Builder
	left int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.text.Write(p[:n])
	h.left -= n
	return len(p), nil
}
