package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// sweep takes away all that a demo makes, whoever left it. Processes go first: a running lbd
// would put its pins back, and the namespaces' names lead to them.
func (p place) sweep() error {
	if err := p.endProcesses(); err != nil {
		return err
	}
	return errors.Join(
		removeAll(filepath.Join(pinRoot, p.prefix+"*")),
		netlab.Sweep(p.prefix),
		removeAll(filepath.Join(p.workDir, "*")),
	)
}

// endProcesses kills the lbd and lbctl processes in our namespaces and waits until they are gone.
// A shell that somebody opened there is not ours.
func (p place) endProcesses() error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		inside, err := netlab.Processes(p.prefix)
		if err != nil {
			return err
		}
		ours := slices.DeleteFunc(inside, func(pid int) bool { return pid == os.Getpid() || !isProgram(pid) })
		if len(ours) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %d were killed and still run", ours)
		}
		for _, pid := range ours {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
	}
}

// isProgram says whether a process runs one of our programs.
func isProgram(pid int) bool {
	path, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	// The kernel marks a program that was rebuilt since.
	name := filepath.Base(strings.TrimSuffix(path, " (deleted)"))
	return err == nil && (name == "lbd" || name == "lbctl")
}

func removeAll(pattern string) error {
	paths, err := filepath.Glob(pattern)
	errs := []error{err}
	for _, path := range paths {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
