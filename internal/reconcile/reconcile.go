// Package reconcile makes the kernel and the host equal to a State, in the order that never lets
// a client see half of it.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/firewall"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
)

// An Applier owns all sides. It is not safe for concurrent use.
type Applier struct {
	Datapath *datapath.Datapath
	Host     *netconf.Host
	Firewall *firewall.Firewall

	held   netconf.Want  // by this machine, since the last Apply
	masked firewall.Want // the same
}

// Apply makes everything equal to want. It may be repeated, and after an error it should be: what
// was done stays done.
//
// A VIP's address comes last and goes first: while this machine holds it without the programs, it
// would answer for it with its own MAC, as every other node would. For the same reason an interface
// that the programs cannot have keeps its VIPs from this machine, and only its own.
//
// Masquerading comes behind the programs, too: a reply of a backend that they have not seen would become
// a connection of the backend's own.
func (a *Applier) Apply(ctx context.Context, want *lb.State) (datapath.Report, error) {
	if kept := common(a.held.VIPs, want.VIPs); len(kept) < len(a.held.VIPs) {
		if err := a.Host.Set(ctx, netconf.Want{VIPs: kept, Masquerade: a.held.Masquerade}); err != nil {
			return datapath.Report{}, fmt.Errorf("take back addresses: %w", err)
		}
	}
	report, err := a.Datapath.Set(ctx, want)
	if report.Attached == nil {
		return report, err
	}
	hold := want.VIPs
	if err != nil {
		hold = a.running(want.VIPs)
	}
	host := netconf.Want{VIPs: hold, Masquerade: want.Masquerade}
	hostErr := a.Host.Set(ctx, host)
	if hostErr == nil {
		a.held = host
	}
	a.masked = firewall.Of(want)
	return report, errors.Join(err, hostErr, a.Firewall.Set(ctx, a.masked))
}

// Possible says what keeps Apply from doing all of it, as far as that can be known without doing any.
func (a *Applier) Possible(want *lb.State) error {
	return errors.Join(
		a.Datapath.Possible(want),
		a.Host.Possible(netconf.Want{Masquerade: want.Masquerade}), // the datapath said what VIPs lack
		a.Firewall.Possible(firewall.Of(want)),
	)
}

// running returns the VIPs whose interface the programs run on.
func (a *Applier) running(vips []lb.VIP) []lb.VIP {
	return slices.DeleteFunc(slices.Clone(vips), func(v lb.VIP) bool { return !a.Datapath.Runs(v.Interface) })
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
	lines = a.Datapath.Missing()
	repairable = len(lines) > 0
	found, err := a.Host.Check(ctx, a.held)
	for _, d := range found {
		lines = append(lines, d.String())
		repairable = repairable || !d.Manual
	}
	drift, maskErr := a.Firewall.Check(a.masked)
	if drift != "" {
		lines, repairable = append(lines, drift), true
	}
	return lines, repairable, errors.Join(err, maskErr)
}

// Withdraw takes everything back: masquerading and addresses first, then the programs.
func (a *Applier) Withdraw(ctx context.Context) error {
	if err := a.Firewall.Withdraw(ctx); err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	if err := a.Host.Withdraw(ctx); err != nil {
		return fmt.Errorf("withdraw addresses: %w", err)
	}
	if err := a.Datapath.Withdraw(); err != nil {
		return fmt.Errorf("withdraw programs: %w", err)
	}
	a.held, a.masked = netconf.Want{}, firewall.Want{}
	return nil
}
