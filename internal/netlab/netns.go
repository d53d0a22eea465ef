package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// runDir is where iproute2 looks for namespaces.
const runDir = "/run/netns"

// bindNamespace gives the calling thread's network namespace a name.
func bindNamespace(name string) error {
	if err := shareRunDir(); err != nil {
		return err
	}
	path := filepath.Join(runDir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mount %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// shareRunDir does to the directory what `ip netns add` does, so that both can be used together:
// mounts in it propagate, and removing a namespace here frees it in other mount namespaces too.
func shareRunDir() error {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(runDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Two processes that both find it unshared would mount it twice.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", runDir, err)
	}
	err = unix.Mount("", runDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) { // EINVAL: not a mount point yet
		return mountError(err)
	}
	if err := unix.Mount(runDir, runDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return mountError(err)
	}
	return mountError(unix.Mount("", runDir, "none", unix.MS_SHARED|unix.MS_REC, ""))
}

func mountError(err error) error {
	if err != nil {
		return fmt.Errorf("mount %s: %w", runDir, err)
	}
	return nil
}

// removeNamespace takes the name away. The namespace lives on while a process is in it.
func removeNamespace(name string) error {
	path := filepath.Join(runDir, name)
	// EINVAL: a killed run left a file without a mount.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Namespaces returns the names of the namespaces that start with prefix.
func Namespaces(prefix string) ([]string, error) {
	entries, err := os.ReadDir(runDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Sweep removes the namespaces that a killed run with this prefix left. Processes inside are not
// touched: end them first, see Processes, or nothing will lead to them any more.
func Sweep(prefix string) error {
	if prefix == "" {
		return errors.New("sweep: empty prefix")
	}
	names, err := Namespaces(prefix)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, removeNamespace(name))
	}
	return errors.Join(errs...)
}

// Processes returns the ids of the processes that are in a namespace whose name starts with prefix.
func Processes(prefix string) ([]int, error) {
	names, err := Namespaces(prefix)
	if err != nil {
		return nil, err
	}
	ours := make(map[uint64]bool)
	for _, name := range names {
		if inode, err := inode(filepath.Join(runDir, name)); err == nil {
			ours[inode] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that ended meanwhile has no namespace.
		if inode, err := inode(filepath.Join("/proc", e.Name(), "ns/net")); err == nil && ours[inode] {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// inode identifies a namespace: all of them are on one file system, nsfs.
func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}
