// Package netconf makes this machine hold the VIPs: addresses on lo, shared MACs in the filters of
// the interfaces, multicast groups, and the sysctls that keep the kernel from spoiling it.
//
// Everything it sets lives in the kernel, not in this process: a node whose lbd was killed goes on
// serving. What lbd has to take back one day is therefore written to a state file first.
//
// All calls act on the network namespace of the calling thread.
package netconf

import (
	"context"
	"errors"

	"github.com/lbctl/lbctl/internal/lb"
)

// Want is all that this machine is to hold.
type Want struct {
	VIPs []lb.VIP
	// Backend says that directors forward the VIPs' packets to this machine: what they share by a
	// multicast MAC is not for it, and clients may be answered by another way than their packets come.
	Backend bool
	// Masquerade is what machines behind this one begin themselves: it is passed on.
	Masquerade []lb.Masquerade
}

// A Host is this machine's network configuration as far as it is ours. What it holds is in the
// kernel and in the state file; members are the exception. It is not safe for concurrent use.
type Host struct {
	statePath string
	members   map[item]member
}

// New returns a Host that records in the file at statePath what it added. The file belongs on a
// file system that a reboot empties; one that does not is harmless.
func New(statePath string) *Host {
	return &Host{statePath: statePath, members: make(map[item]member)}
}

// Set makes the machine hold exactly what want says. It adds what is missing, whoever removed it,
// and removes what an earlier Set added and nobody wants any more. What others had set before is
// used and left alone. An error is about the VIPs it names; the others are held.
func (h *Host) Set(ctx context.Context, want Want) error {
	now, err := observe()
	if err != nil {
		return err
	}
	needs, missing := now.needs(want)
	return errors.Join(missing, h.apply(ctx, now, needs))
}

// Possible says what keeps Set from making the machine hold all of it, as far as that can be known
// without doing it.
func (h *Host) Possible(want Want) error {
	now, err := observe()
	if err != nil {
		return err
	}
	_, missing := now.needs(want)
	return missing
}

// Withdraw removes everything that Set added and restores the sysctls it changed.
func (h *Host) Withdraw(ctx context.Context) error {
	now, err := observe()
	if err != nil {
		return err
	}
	return h.apply(ctx, now, nil)
}

func (h *Host) apply(ctx context.Context, now *snapshot, needs []need) error {
	rec, err := loadRecord(h.statePath, now)
	if err != nil {
		return err
	}
	var errs []error
	for i := range needs {
		errs = append(errs, needs[i].compare(now, rec))
	}
	if err := rec.note(needs); err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, rec.removeOthers(ctx, now, needs))
	added := make(map[item]bool)
	for _, n := range needs {
		errs = append(errs, n.add(ctx, added))
	}
	errs = append(errs, h.keepMembers(now, needs, added))
	return errors.Join(append(errs, rec.save())...)
}
