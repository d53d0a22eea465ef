package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/health"
)

const (
	maxOutput = 1024
	// linger is how long the output of a program that has ended may still be open: a process that
	// left its group can hold it for ever.
	linger = 100 * time.Millisecond
)

func tryExec(ctx context.Context, target netip.AddrPort, spec *Spec) (health.Result, error) {
	command := spec.Exec.Command
	if len(command) == 0 {
		return failed("no command")
	}
	if err := trusted(command[0]); err != nil {
		return failed("refused: %w", err)
	}
	output := &head{left: maxOutput}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"LB_ADDRESS=" + target.Addr().String(), fmt.Sprintf("LB_PORT=%d", target.Port()),
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = linger
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return failed("start: %w", plain(err))
	}
	_ = unix.Setpriority(unix.PRIO_PGRP, cmd.Process.Pid, 0) // lbd may be more urgent than its checks
	err := finish(ctx, cmd)
	said := strings.TrimSpace(output.text.String())
	switch {
	case ctx.Err() != nil && err != nil:
		return failed("%s", suffixed("timeout, killed", said))
	case err != nil:
		return failed("%s", suffixed(err.Error(), said))
	}
	return found("%s", cmp.Or(said, "exit status 0"))
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

func suffixed(text, more string) string {
	if more == "" {
		return text
	}
	return text + ": " + more
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
