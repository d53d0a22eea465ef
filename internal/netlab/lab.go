// Package netlab builds small networks out of network namespaces: hosts, switches and the cables
// between them. Everything it makes is named after the lab's prefix and goes away with it.
package netlab

import (
	"errors"
	"fmt"
	"slices"
)

// A Lab is a set of hosts and switches. It is for one goroutine; what runs inside the hosts may
// be as parallel as it likes.
type Lab struct {
	prefix string
	hosts  []*Host
}

// New returns an empty lab whose namespaces are called prefix + the name of the host.
func New(prefix string) (*Lab, error) {
	if prefix == "" {
		return nil, errors.New("lab: empty prefix") // Sweep("") would take everybody's namespaces
	}
	return &Lab{prefix: prefix}, nil
}

// Host makes a host: a named namespace, so that `ip netns exec <prefix><name>` gets into it. Its
// loopback is up, and addresses are usable at once: duplicate address detection is off.
func (l *Lab) Host(name string) (*Host, error) {
	if slices.ContainsFunc(l.hosts, func(h *Host) bool { return h.Name == name }) {
		return nil, fmt.Errorf("host %s: exists", name)
	}
	h, err := newHost(name, l.prefix+name)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	l.hosts = append(l.hosts, h)
	if err := h.prepare(); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// Close removes all hosts and switches. Processes that were started with Command die.
func (l *Lab) Close() error {
	var errs []error
	for _, h := range slices.Backward(l.hosts) {
		errs = append(errs, h.close())
	}
	l.hosts = nil
	return errors.Join(errs...)
}
