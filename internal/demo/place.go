package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	prefix  = "lbdemo-"     // of namespaces and pin directories
	workDir = "/run/lbdemo" // configuration, socket, state and logs of every node; also the lock
	pinRoot = "/sys/fs/bpf"
)

// claim makes workDir and locks it: names are fixed, so that leftovers can be found, and there can be
// only one demo. The lock ends with the file or the process.
func claim() (*os.File, error) {
	for {
		if err := os.MkdirAll(workDir, 0o700); err != nil {
			return nil, err
		}
		dir, err := os.Open(workDir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			dir.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errors.New("another lbctl demo is running on this machine; Ctrl-C ends it")
			}
			return nil, fmt.Errorf("lock %s: %w", workDir, err)
		}
		// The one who had the lock may have removed the directory before letting go of it.
		held, err := dir.Stat()
		if err != nil {
			dir.Close()
			return nil, err
		}
		if named, err := os.Stat(workDir); err == nil && os.SameFile(held, named) {
			return dir, nil
		}
		dir.Close()
	}
}

// release ends a claim. The directory goes with it, unless a cluster was kept there.
func release(lock *os.File) {
	_ = os.Remove(workDir)
	lock.Close()
}

// binaries are the programs that a demo starts.
type binaries struct{ lbctl, lbd string }

// findBinaries takes the lbd that was built with this lbctl, or else the installed one.
func findBinaries() (binaries, error) {
	lbctl, err := os.Executable()
	if err != nil {
		return binaries{}, err
	}
	beside := filepath.Join(filepath.Dir(lbctl), "lbd")
	for _, name := range []string{beside, "lbd"} {
		if lbd, err := exec.LookPath(name); err == nil {
			return binaries{lbctl, lbd}, nil
		}
	}
	return binaries{}, fmt.Errorf("no %s and no lbd in PATH: the demo needs both programs (make build)", beside)
}
