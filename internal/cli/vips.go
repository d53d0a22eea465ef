package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func vipsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vips",
		Short: "List and move the shared addresses",
		Long: `Lists the VIPs with the interface they are announced on, the MAC that neighbours know them by, what
happens to traffic that no service names (OTHER), and which part of that traffic, of ping and of
ARP or neighbor discovery this node answers (OWNED). A VIP with "announce: failover" is on one node
at a time (OWNER).`,
		Example: `  lbctl vips
  lbctl vips move 192.0.2.80 n2
  lbctl vips -o json | jq -r '.[] | [.address, .mac] | @tsv'`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(status.VIPs, func(s *screen) { vipsTable(s, status.VIPs) })
		},
	}
	cmd.AddCommand(moveCommand(a))
	return cmd
}

func vipsTable(s *screen, vips []control.VIP) {
	s.table([]string{"VIP", "INTERFACE", "ANNOUNCE", "MAC", "FORM", "OTHER", "OWNER", " OWNED"},
		rows(vips, func(v control.VIP) []string {
			owner := v.Owner
			if owner == "" {
				owner = "-"
			}
			return []string{v.Address.String(), v.Interface, v.Announce, v.MAC, v.MACForm, v.Other, owner,
				percent(v.OwnedShare)}
		}))
}

// moveEvery is how often is looked whether a VIP has come to where it was moved.
const moveEvery = 50 * time.Millisecond

type moveFlags struct {
	auto    bool
	timeout time.Duration
}

func moveCommand(a *app) *cobra.Command {
	var flags moveFlags
	cmd := &cobra.Command{
		Use:   "move VIP [NODE]",
		Short: "Give a failover VIP to a node",
		Long: `Gives a VIP with "announce: failover" to a node, and waits until it is there. Its connections stay
where they are until they end, and no new one is lost.

The decision is kept by all nodes, across restarts. It goes before the order of preference in the
configuration: while the node is down, drained or sick another has the VIP, and with "preempt: true"
the node gets it back. --auto ends that.`,
		Example: `  lbctl vips move 192.0.2.80 n2
  lbctl vips move 192.0.2.80 --auto`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.move(cmd.Context(), args, flags) },
	}
	cmd.Flags().BoolVar(&flags.auto, "auto", false, "to where the configuration says")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", 10*time.Second, "stop waiting after `TIME`, with exit code 6; the decision stands")
	return cmd
}

func (a *app) move(ctx context.Context, args []string, flags moveFlags) error {
	vip, err := netip.ParseAddr(args[0])
	if err != nil {
		return usageError{fmt.Errorf("VIP %q: want an address", args[0])}
	}
	if flags.auto == (len(args) == 2) {
		return usageError{errors.New("want the name of a node, or --auto")}
	}
	client, err := control.Dial(a.socket)
	if err != nil {
		return err
	}
	request := control.MoveRequest{VIP: vip}
	if !flags.auto {
		request.Node = args[1]
	}
	if err := client.Move(ctx, request); err != nil || flags.auto {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	return waitForOwner(ctx, client, request)
}

// waitForOwner returns when the node that answers knows that the VIP has come.
func waitForOwner(ctx context.Context, client *control.Client, request control.MoveRequest) error {
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for {
		status, err := client.Status(ctx)
		if err == nil && slices.ContainsFunc(status.VIPs, func(v control.VIP) bool {
			return v.Address == request.VIP && v.Owner == request.Node
		}) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is not on %s yet; lbctl vips shows where it is", errUnfinished, request.VIP, request.Node)
		case <-tick.C:
			if err != nil {
				return err
			}
		}
	}
}
