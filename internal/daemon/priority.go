package daemon

import (
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
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("list threads: %w", err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, urgent); err != nil && err != unix.ESRCH {
			return fmt.Errorf("nice %d: %w", urgent, err)
		}
	}
	return nil
}
