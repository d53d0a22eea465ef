package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSocket is where lbd listens unless told otherwise.
const DefaultSocket = "/run/lb/lbd.sock"

// SocketMode lets the socket's group use it. Whoever may connect may reload the configuration.
const SocketMode fs.FileMode = 0o660

// answerTime is how long another lbd has to accept a connection. One that is alive does so at
// once: the kernel queues the connection even while the process is stopped.
const answerTime = time.Second

// ErrInUse is returned by Listen when another process answers on the socket.
var ErrInUse = errors.New("another lbd answers")

// Listen makes the daemon's socket at path. A socket that nobody answers on is what a killed lbd
// left behind, and is replaced; anything else at path is left alone and reported. The socket has
// SocketMode from the first moment it can be seen. Closing the listener removes it.
func Listen(path string) (net.Listener, error) {
	listener, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, nil
}

func listen(path string) (net.Listener, error) {
	// Two daemons that start at once must not both find the old socket dead. The lock is on the
	// directory, so that no file is left behind.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	if err := checkFree(path); err != nil {
		return nil, err
	}

	// bind makes the socket with the process's umask: it happens where nobody else can look, and
	// the rename publishes a socket that is complete.
	private, err := os.MkdirTemp(dir.Name(), ".lbd-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }() // empty by now, or of a call that failed anyway
	hidden := filepath.Join(private, "s")
	bound, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	bound.SetUnlinkOnClose(false) // it would remove the hidden name
	made, err := publish(hidden, path)
	if err != nil {
		bound.Close()
		return nil, err
	}
	return &socket{UnixListener: bound, path: path, made: made}, nil
}

func publish(hidden, path string) (fs.FileInfo, error) {
	if err := os.Chmod(hidden, SocketMode); err != nil {
		return nil, err
	}
	made, err := os.Lstat(hidden)
	if err != nil {
		return nil, err
	}
	return made, os.Rename(hidden, path)
}

// checkFree refuses a path that holds something other than an abandoned socket.
func checkFree(path string) error {
	found, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return errors.New("exists and is no socket")
	}
	conn, err := net.DialTimeout("unix", path, answerTime)
	if err == nil {
		conn.Close()
		return ErrInUse
	}
	// Only a refusal proves that nobody listens. A full queue, for one, is somebody's.
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return nil
}

// A socket is a listener that was renamed after it was bound.
type socket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// Addr returns the address that clients use.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close removes the socket first, while it still answers, so that no other daemon can have
// replaced it yet. A file that is not ours any more is left alone.
func (s *socket) Close() error {
	if found, err := os.Lstat(s.path); err == nil && os.SameFile(found, s.made) {
		if err := os.Remove(s.path); err != nil {
			s.UnixListener.Close()
			return err
		}
	}
	return s.UnixListener.Close()
}
