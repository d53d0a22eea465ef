package daemon

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgent is the nice value of an lbd that takes part in a cluster: a lease that is not renewed in time
// because others compute costs this node everything it holds.
const urgent = -10

// hurry puts the threads of this process before others. Those that come later inherit that.
func hurry() error {
	for {
		late, err := hurryThreads()
		if err != nil {
			return err
		}
		if late == 0 {
			return hurrySession()
		}
	}
}

// hurryThreads returns how many threads were not urgent yet: while there are such, they may begin others
// that no list had.
func hurryThreads() (late int, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("list threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return 0, fmt.Errorf("list threads: %w", err)
		}
		switch raw, err := unix.Getpriority(unix.PRIO_PROCESS, id); {
		case err == unix.ESRCH || err == nil && 20-raw == urgent:
			continue
		case err != nil:
			return 0, fmt.Errorf("nice value of thread %d: %w", id, err)
		}
		late++
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, urgent); err != nil && err != unix.ESRCH {
			return 0, fmt.Errorf("nice %d: %w", urgent, err)
		}
	}
	return late, nil
}

// hurrySession does the same to our session: where the kernel shares the processors between sessions
// (kernel.sched_autogroup_enabled), a nice value counts only within one. A session that we did not
// begin has other programs in it, and stays as it is.
func hurrySession() error {
	session, err := unix.Getsid(0)
	if err != nil || session != os.Getpid() {
		return err
	}
	group, err := os.OpenFile("/proc/self/autogroup", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // this kernel has no groups
	}
	if err != nil {
		return err
	}
	defer group.Close()
	if _, err := fmt.Fprint(group, urgent); err != nil {
		return fmt.Errorf("nice %d of the session: %w", urgent, err)
	}
	return nil
}
