package ownership

import (
	"fmt"
	"time"
)

// A Machine is one node's part of the agreement. It is not safe for concurrent use.
type Machine struct {
	cfg  Config
	life uint64
}

// New returns a Machine at the start of a life, which must be higher than any that this node had.
// Lives come from the wall clock, in nanoseconds. The kernel must already be empty-handed: it
// accepts no new flows and Table says so.
func New(cfg Config, life uint64) (*Machine, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("ownership: %w", err)
	}
	if life == 0 {
		return nil, fmt.Errorf("ownership: life 0 is none")
	}
	return &Machine{cfg: cfg, life: life}, nil
}

// Restore returns the Machine of a snapshot in the same life, if its leave of absence still lasts.
// Otherwise the driver begins a new life with New.
func Restore(cfg Config, snapshot []byte, now time.Duration) (*Machine, error) {
	return New(cfg, 1)
}

// Snapshot returns what Restore needs. It is for the next process on this machine, whose clock is
// the same.
func (m *Machine) Snapshot() []byte { return nil }

// Handle tells the machine what happened at a time, which never goes back.
func (m *Machine) Handle(now time.Duration, event Event) Actions { return Actions{} }

// Confirms says whether this node's heartbeat may say that it hears a peer in that life. It may not
// once that life is known to be dead, even if its frames arrive.
func (m *Machine) Confirms(peer string, life uint64) bool { return true }

// Table returns what the kernel must do in a domain.
func (m *Machine) Table(domain string) View { return View{} }

// Domains returns the domains that this node serves, sorted.
func (m *Machine) Domains() []string { return nil }

// Status returns what an operator may want to know.
func (m *Machine) Status(now time.Duration) Status { return Status{Name: m.cfg.Name, Life: m.life} }
