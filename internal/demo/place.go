package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	prefix  = "lbdemo-"     // of namespaces and pin directories
	workDir = "/run/lbdemo" // configuration, socket, state and logs of every node; also the lock
	pinRoot = "/sys/fs/bpf"
)

// dying is how long a demo that was killed may still hold the lock: its threads end when the kernel
// is done with namespaces that they make, and it may be busy with those of the demo before.
const dying = 3 * time.Second

// claim makes workDir and locks it: names are fixed, so that leftovers can be found, and there can be
// only one demo. The lock ends with the process, however that ends.
func claim(ctx context.Context) (*os.File, error) {
	for deadline := time.Now().Add(dying); ; {
		lock, err := tryClaim()
		if lock != nil || err != nil {
			return lock, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("another lbctl demo is running on this machine; Ctrl-C ends it")
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// tryClaim returns nil while somebody else has the lock.
func tryClaim() (*os.File, error) {
	if err := os.MkdirAll(workDir, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(workDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && isNamed(dir) {
		return dir, nil
	}
	dir.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", workDir, err)
	}
	return nil, nil
}

// isNamed says whether dir still is workDir: who had the lock before may have removed it.
func isNamed(dir *os.File) bool {
	held, err := dir.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(workDir)
	return err == nil && os.SameFile(held, named)
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
