// Package reconcile makes the kernel and the host equal to a State, in the order that never lets
// a client see half of it.
package reconcile

import (
	"context"
	"fmt"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
)

// An Applier owns both sides. It is not safe for concurrent use.
type Applier struct {
	Datapath *datapath.Datapath
	Host     *netconf.Host

	applied *lb.State // nil before the first success
}

// Apply makes everything equal to want. It may be repeated, and after an error it should be: what
// was done stays done.
//
// A VIP's address comes last and goes first: while this machine holds it without the programs, it
// would answer for it with its own MAC, as every other node would.
func (a *Applier) Apply(ctx context.Context, want *lb.State) (datapath.Report, error) {
	if a.applied != nil {
		if kept := common(a.applied.VIPs, want.VIPs); len(kept) < len(a.applied.VIPs) {
			if err := a.Host.Set(ctx, netconf.Want{VIPs: kept}); err != nil {
				return datapath.Report{}, fmt.Errorf("take back addresses: %w", err)
			}
		}
	}
	report, err := a.Datapath.Set(ctx, want)
	if err != nil {
		return report, err
	}
	if err := a.Host.Set(ctx, netconf.Want{VIPs: want.VIPs}); err != nil {
		return report, err
	}
	a.applied = want
	return report, nil
}

// common returns those of the new VIPs whose address was held before on the same interface.
func common(old, fresh []lb.VIP) []lb.VIP {
	var kept []lb.VIP
	for _, v := range fresh {
		for i := range old {
			if old[i].Addr == v.Addr && old[i].Interface == v.Interface {
				kept = append(kept, v)
			}
		}
	}
	return kept
}

// Drift lists what others changed since the last Apply, a line each, and whether Apply repairs any of
// it: the rest is the operator's.
func (a *Applier) Drift(ctx context.Context) (lines []string, repairable bool, err error) {
	if a.applied == nil {
		return nil, false, nil
	}
	lines = a.Datapath.Missing(a.applied)
	repairable = len(lines) > 0
	found, err := a.Host.Check(ctx, netconf.Want{VIPs: a.applied.VIPs})
	for _, d := range found {
		lines = append(lines, d.String())
		repairable = repairable || !d.Manual
	}
	return lines, repairable, err
}

// Withdraw takes everything back: addresses first, then the programs.
func (a *Applier) Withdraw(ctx context.Context) error {
	if err := a.Host.Withdraw(ctx); err != nil {
		return fmt.Errorf("withdraw addresses: %w", err)
	}
	if err := a.Datapath.Withdraw(); err != nil {
		return fmt.Errorf("withdraw programs: %w", err)
	}
	a.applied = nil
	return nil
}
