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

const pinRoot = "/sys/fs/bpf"

// A place is what a demo has on the machine, by its name. Demos of other names do not meet.
type place struct {
	prefix  string // of namespaces and pin directories
	workDir string // configuration, socket, state and logs of every node; also the lock
}

func placeOf(name string) place { return place{"lbdemo" + name + "-", "/run/lbdemo" + name} }

// kept is a file that says that the demo was to stay.
func (p place) kept() string { return filepath.Join(p.workDir, "kept") }

// isKept says whether there is a demo that somebody wanted to stay.
func (p place) isKept() bool {
	_, err := os.Stat(p.kept())
	return err == nil
}

// dying is how long a demo that was killed may still hold the lock: its threads end when the kernel
// is done with namespaces that they make, and it may be busy with those of the demo before.
const dying = 3 * time.Second

// claim makes workDir and locks it: names are fixed, so that leftovers can be found, and there can be
// only one demo of a name. The lock ends with the process, however that ends.
func (p place) claim(ctx context.Context) (*os.File, error) {
	for deadline := time.Now().Add(dying); ; {
		lock, err := p.tryClaim()
		if lock != nil || err != nil {
			return lock, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("another lbctl demo is running on this machine; Ctrl-C ends it, and --name lets two run")
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// tryClaim returns nil while somebody else has the lock.
func (p place) tryClaim() (*os.File, error) {
	if err := os.MkdirAll(p.workDir, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(p.workDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && p.isNamed(dir) {
		return dir, nil
	}
	dir.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", p.workDir, err)
	}
	return nil, nil
}

// isNamed says whether dir still is workDir: who had the lock before may have removed it.
func (p place) isNamed(dir *os.File) bool {
	held, err := dir.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(p.workDir)
	return err == nil && os.SameFile(held, named)
}

// release ends a claim. The directory goes with it, unless a cluster was kept there.
func (p place) release(lock *os.File) {
	_ = os.Remove(p.workDir)
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
