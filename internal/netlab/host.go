package netlab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Host is a network namespace.
type Host struct {
	Name      string   // as given to Lab.Host
	Namespace string   // its name under /run/netns
	netns     *os.File // holds the namespace, for setns
	work      chan func()
	ended     chan struct{}
}

// newHost makes the namespace on a thread that stays in it for the life of the host.
func newHost(name, namespace string) (*Host, error) {
	h := &Host{Name: name, Namespace: namespace, work: make(chan func()), ended: make(chan struct{})}
	made := make(chan error)
	onThread(func() {
		defer close(h.ended)
		err := h.makeNamespace()
		made <- err
		if err != nil {
			return
		}
		for fn := range h.work {
			fn()
		}
	})
	if err := <-made; err != nil {
		<-h.ended
		return nil, err
	}
	return h, nil
}

func (h *Host) makeNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	if err := bindNamespace(h.Namespace); err != nil {
		return err
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return errors.Join(err, removeNamespace(h.Namespace))
	}
	h.netns = f
	return nil
}

func (h *Host) close() error {
	close(h.work)
	<-h.ended
	return errors.Join(h.netns.Close(), removeNamespace(h.Namespace))
}

// Do runs fn on a thread of its own inside the namespace and returns its error. Sockets and files
// under /proc/sys/net and /proc/thread-self/net opened by fn belong to the host, and sockets keep
// doing so afterwards. Goroutines that fn starts are outside. Do may be called in parallel.
func (h *Host) Do(fn func() error) error {
	result := make(chan error, 1)
	onThread(func() {
		// Stands when fn calls runtime.Goexit, as testing.T.Fatal does.
		err := fmt.Errorf("host %s: function did not return", h.Name)
		defer func() { result <- err }()
		if e := unix.Setns(int(h.netns.Fd()), unix.CLONE_NEWNET); e != nil {
			err = fmt.Errorf("host %s: enter namespace: %w", h.Name, e)
			return
		}
		err = fn()
	})
	return <-result
}

// onResident runs fn on the thread that lives as long as the host. It must not block.
func (h *Host) onResident(fn func() error) error {
	result := make(chan error)
	h.work <- func() { result <- fn() }
	return <-result
}
