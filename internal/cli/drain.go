package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// drainEvery is how often progress is looked at: a node counts its connections once a second.
const drainEvery = 500 * time.Millisecond

type drainFlags struct {
	waitFlags
	self, force bool
	killAfter   time.Duration
}

func drainCommand(a *app) *cobra.Command {
	var flags drainFlags
	cmd := &cobra.Command{
		Use:   "drain [NODE]",
		Short: "Give a node's new flows to the others and wait for its connections to end",
		Long: `Moves the new flows of a node to the others at once. Connections that exist stay until they end,
and none is broken. The node stays drained, across restarts, until "lbctl nodes undrain".

On a terminal the command shows how many connections are left and ends when there are none. Ctrl-C
stops showing; the node goes on draining. Elsewhere it returns at once unless --wait is given, and
then prints a line when something changed.

The last node that takes new flows is drained only with --force (exit code 7 without).`,
		Example: `  lbctl nodes drain n2 --wait --timeout 10m
  lbctl nodes drain --self --kill-after 5m`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.drain(cmd.Context(), args, flags) },
	}
	f := cmd.Flags()
	f.BoolVar(&flags.self, "self", false, "drain the node that answers")
	flags.add(f, "connection")
	f.BoolVar(&flags.force, "force", false, "drain the last node, too")
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
			weight, err := numberOrConfig("weight", args[1])
			if err != nil {
				return err
			}
			request := control.AdminRequest{Node: args[0], Weight: weight, ResetWeight: weight == nil}
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			return client.Admin(cmd.Context(), request)
		},
	}
}

// numberOrConfig reads the number of what is set by hand, nil for "config": that of the configuration.
func numberOrConfig(what, text string) (*int, error) {
	if text == "config" {
		return nil, nil
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s %q: want a number or \"config\"", what, text)}
	}
	return &number, nil
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
	return a.await(ctx, client, flags.waitFlags, waiting{
		name: node, what: "node " + node, shownBy: "lbctl nodes",
		left: func(status *control.Status) remainder { return nodeLeft(status, node) },
	})
}

// waitFlags say how long a drain is watched.
type waitFlags struct {
	wait, detach bool
	timeout      time.Duration
}

func (w *waitFlags) add(f *pflag.FlagSet, until string) {
	f.BoolVar(&w.wait, "wait", false, "wait for the last "+until+" to end")
	f.BoolVar(&w.detach, "detach", false, "do not wait")
	f.DurationVar(&w.timeout, "timeout", 0, "stop waiting after `TIME`, with exit code 6; the drain goes on")
}

// A waiting is for something that drains.
type waiting struct {
	name    string // of its bar
	what    string // in messages
	shownBy string // the command that shows how far it is
	left    func(*control.Status) remainder
}

// A remainder is what something that is drained still has.
type remainder struct {
	done bool
	bar  int // what the bar's length follows, going down to 0
	text string
}

// await shows what is left until nothing is, if it is wanted.
func (a *app) await(ctx context.Context, client *control.Client, flags waitFlags, w waiting) error {
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
	return a.watch(ctx, client, w)
}

func (a *app) watch(ctx context.Context, client *control.Client, w waiting) error {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	var bar progress
	for {
		status, err := client.Status(ctx)
		if err == nil {
			left := w.left(status)
			bar.show(a, w.name, left)
			if left.done {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s goes on draining; %s shows how far it is", errUnfinished, w.what, w.shownBy)
		case <-tick.C:
			if err != nil {
				return err
			}
		}
	}
}

func nodeLeft(status *control.Status, node string) remainder {
	for _, n := range status.Nodes {
		if m := n.Member; m != nil && n.Name == node {
			left := remainder{
				done: m.Draining && m.State != "active" && m.Held == 0 && m.Connections == 0,
				bar:  m.Connections,
				text: fmt.Sprintf("%d connections left", m.Connections),
			}
			if m.Held > 0 {
				left.text += fmt.Sprintf(", %d buckets to hand over", m.Held)
			}
			return left
		}
	}
	return remainder{text: "0 connections left"}
}

// A progress is a bar on a terminal, and lines elsewhere: one when something changed, but no more often than
// a log can bear, and one now and then to show that it is still waited for.
type progress struct {
	most   int
	last   string // line
	lastAt time.Time
}

const (
	lineEvery = 5 * time.Second // at most
	signEvery = time.Minute     // at least
)

func (p *progress) show(a *app, name string, left remainder) {
	const width = 40
	p.most = max(p.most, left.bar)
	full := width
	if p.most > 0 {
		full = width * (p.most - left.bar) / p.most
	}
	text := fmt.Sprintf("%s  [%-*s]  %s", name, width, hashes(full), left.text)
	if a.Terminal {
		fmt.Fprintf(a.Stderr, "\r\x1b[K%s", text)
		if left.done {
			fmt.Fprintln(a.Stderr)
		}
		return
	}
	since := a.Now().Sub(p.lastAt)
	if left.done || since >= signEvery || since >= lineEvery && text != p.last {
		fmt.Fprintln(a.Stderr, text)
		p.last, p.lastAt = text, a.Now()
	}
}

func hashes(n int) string {
	const all = "########################################"
	return all[:min(max(n, 0), len(all))]
}
