package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

// drainEvery is how often progress is looked at: a node counts its connections once a second.
const drainEvery = 500 * time.Millisecond

type drainFlags struct {
	self, wait, detach, force bool
	timeout, killAfter        time.Duration
}

func drainCommand(a *app) *cobra.Command {
	var flags drainFlags
	cmd := &cobra.Command{
		Use:   "drain [NODE]",
		Short: "Give a node's new flows to the others and wait for its connections to end",
		Long: `Moves the new flows of a node to the others at once. Connections that exist stay until they end,
and none is broken. The node stays drained, across restarts, until "lbctl nodes undrain".

On a terminal the command shows how many connections are left and ends when there are none. Ctrl-C
stops showing; the node goes on draining. Elsewhere it returns at once unless --wait is given.

The last node that takes new flows is drained only with --force (exit code 7 without).`,
		Example: `  lbctl nodes drain n2 --wait --timeout 10m
  lbctl nodes drain --self --kill-after 5m`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.drain(cmd.Context(), args, flags) },
	}
	f := cmd.Flags()
	f.BoolVar(&flags.self, "self", false, "drain the node that answers")
	f.BoolVar(&flags.wait, "wait", false, "wait for the last connection to end")
	f.BoolVar(&flags.detach, "detach", false, "do not wait")
	f.BoolVar(&flags.force, "force", false, "drain the last node, too")
	f.DurationVar(&flags.timeout, "timeout", 0, "stop waiting after `TIME`, with exit code 6; the node goes on draining")
	f.DurationVar(&flags.killAfter, "kill-after", 0, "close the connections that are left after `TIME`")
	cmd.MarkFlagsMutuallyExclusive("wait", "detach")
	return cmd
}

func undrainCommand(a *app) *cobra.Command {
	var self bool
	cmd := &cobra.Command{
		Use:     "undrain [NODE]",
		Short:   "Let a node take new flows again",
		Long:    `Ends a drain: the node takes its share of new flows again.`,
		Example: `  lbctl nodes undrain n2`,
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, node, err := a.nodeOf(cmd.Context(), args, self)
			if err != nil {
				return err
			}
			return client.Admin(cmd.Context(), control.AdminRequest{Node: node, Drain: new(false)})
		},
	}
	cmd.Flags().BoolVar(&self, "self", false, "the node that answers")
	return cmd
}

func weightCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "weight NODE WEIGHT",
		Short: "Set a node's share of new flows by hand",
		Long: `Sets a node's weight, 0 to 256, instead of the one in its configuration, on all nodes and across
restarts. "config" as the weight goes back to the configuration's. No connection is broken.`,
		Example: `  lbctl nodes weight n2 50
  lbctl nodes weight n2 config`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := control.AdminRequest{Node: args[0], ResetWeight: args[1] == "config"}
			if !request.ResetWeight {
				var weight int
				if _, err := fmt.Sscanf(args[1]+"\n", "%d\n", &weight); err != nil {
					return usageError{fmt.Errorf("weight %q: want a number or \"config\"", args[1])}
				}
				request.Weight = &weight
			}
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			return client.Admin(cmd.Context(), request)
		},
	}
}

func removeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Forget a node that is down for good",
		Long: `Forgets a node that is down: what operators decided about it, and its public key. A machine that
comes back under that name is a new node.`,
		Example: `  lbctl nodes remove n3`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			return client.Admin(cmd.Context(), control.AdminRequest{Node: args[0], Remove: true})
		},
	}
}

// nodeOf finds which node is meant, by name or as the one that answers.
func (a *app) nodeOf(ctx context.Context, args []string, self bool) (*control.Client, string, error) {
	if self == (len(args) == 1) {
		return nil, "", usageError{errors.New("want the name of a node, or --self")}
	}
	client, err := control.Dial(a.socket)
	if err != nil || !self {
		return client, firstOf(args), err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return nil, "", err
	}
	return client, status.Node, nil
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *app) drain(ctx context.Context, args []string, flags drainFlags) error {
	client, node, err := a.nodeOf(ctx, args, flags.self)
	if err != nil {
		return err
	}
	request := control.AdminRequest{Node: node, Drain: new(true), Force: flags.force, KillAfter: flags.killAfter}
	if err := client.Admin(ctx, request); err != nil {
		return err
	}
	if flags.detach || !flags.wait && !a.Terminal {
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	if flags.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flags.timeout)
		defer cancel()
	}
	return a.watchDrain(ctx, client, node)
}

// watchDrain shows what is left until nothing is.
func (a *app) watchDrain(ctx context.Context, client *control.Client, node string) error {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	var bar progress
	for {
		status, err := client.Status(ctx)
		if err == nil {
			left := drainLeft(status, node)
			bar.show(a, node, left)
			if left.done() {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: node %s goes on draining; lbctl nodes shows how far it is", errUnfinished, node)
		case <-tick.C:
			if err != nil {
				return err
			}
		}
	}
}

// A remainder is what a node that is drained still has.
type remainder struct {
	draining    bool // the node itself knows
	buckets     int
	connections int
}

func (r remainder) done() bool { return r.draining && r.buckets == 0 && r.connections == 0 }

func drainLeft(status *control.Status, node string) remainder {
	for _, n := range status.Nodes {
		if m := n.Member; m != nil && n.Name == node {
			return remainder{m.Draining && m.State != "active", m.Held, m.Connections}
		}
	}
	return remainder{}
}

// A progress is a bar on a terminal, and lines elsewhere.
type progress struct{ most int }

func (p *progress) show(a *app, node string, left remainder) {
	const width = 40
	p.most = max(p.most, left.connections)
	full := width
	if p.most > 0 {
		full = width * (p.most - left.connections) / p.most
	}
	text := fmt.Sprintf("%s  [%-*s]  %d connections left", node, width, hashes(full), left.connections)
	if left.buckets > 0 {
		text += fmt.Sprintf(", %d buckets to hand over", left.buckets)
	}
	if a.Terminal {
		fmt.Fprintf(a.Stderr, "\r\x1b[K%s", text)
		if left.done() {
			fmt.Fprintln(a.Stderr)
		}
		return
	}
	fmt.Fprintln(a.Stderr, text)
}

func hashes(n int) string {
	const all = "########################################"
	return all[:min(max(n, 0), len(all))]
}
