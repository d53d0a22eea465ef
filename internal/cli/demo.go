package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/internal/demo"
	"github.com/spf13/cobra"
)

func demoCommand(a *app) *cobra.Command {
	var clean bool
	opts := demo.Options{Scenario: demo.Serve}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a whole cluster on this machine, in network namespaces",
		Long: `Builds a client, nodes and a switch in network namespaces of its own (lbdemo-*), starts a real
lbd and a real web server on every node, connects all the time, keeps some connections, and shows
which node answers. Nothing of the machine's network is touched, and everything is removed at the
end, at Ctrl-C, and at the next start after a kill. What --keep leaves is removed by --clean, or by
the next demo with --replace. Needs root, and lbd beside lbctl or in PATH.

With the nodes of the configuration:

  serve             connections for --duration, or --connections of them
  restart           every lbd is stopped and killed in turn and starts again

With nodes that are members of a cluster, 2 at least, and 3 for partition:

  drain             the last node is drained and undrained
  join              the last node is added to a cluster that serves
  rolling-restart   every lbd takes its leave and starts again, as in an upgrade
  crash             the last node loses its cable and its processes
  partition         the last node is cut off from the others, but not from the client, and the
                    cut heals
  failover          one node at a time has the addresses; they move, and then their node dies

With two members as directors, which forward to as many backends as --nodes says:

  dr                direct routing: connections for --duration, or --connections of them
  tunnel            the same, with IP in IP
  nat               the same, with addresses rewritten both ways
  backend-drain     as dr, and the last of 2 backends or more is drained and undrained

Exit code 0 when the scenario kept its promise: no connection broke, none was answered by two nodes,
and every node answered some. In drain, join, rolling-restart and backend-drain no answer took over
a second. In crash, partition and failover connections on the node that went may end
(died_with_node), and the others must answer in its place within 0.6 seconds (takeover_ms).`,
		Example: `  lbctl demo
  lbctl demo --scenario drain
  lbctl demo --nodes 5 --scenario crash -o json
  lbctl demo --keep && lbctl demo --clean`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			if os.Geteuid() != 0 {
				return usageError{errors.New("the demo needs root, for network namespaces and BPF")}
			}
			if clean {
				return demo.Clean(cmd.Context(), opts.Name)
			}
			return a.demo(cmd.Context(), opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&opts.Scenario), "scenario", string(opts.Scenario), "`NAME` of what happens")
	flags.IntVar(&opts.Nodes, "nodes", 3, "`NUMBER` of nodes that serve, 1 to 16")
	flags.DurationVar(&opts.Duration, "duration", 10*time.Second, "`TIME` that serve, dr, tunnel and nat last")
	flags.IntVar(&opts.Connections, "connections", 0, "they last for `N` connections instead")
	flags.StringVar(&opts.Attach, "attach", "native", "`MODE` of XDP: native or generic")
	flags.BoolVar(&opts.Keep, "keep", false, "leave the cluster running and tell how to look at it")
	flags.BoolVar(&opts.Replace, "replace", false, "remove a demo that was kept first")
	flags.BoolVar(&clean, "clean", false, "only remove what an earlier demo left or kept")
	flags.StringVar(&opts.Name, "name", "", "`NAME` of the demo, up to 8 letters and digits: of each there is one")
	return cmd
}

func (a *app) demo(ctx context.Context, opts demo.Options) error {
	// a terminal or a pipe that goes away is no reason to leave something behind
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	opts.Progress, opts.Terminal = a.Stdout, a.Terminal && a.Getenv("TERM") != "dumb"
	if a.output != formatTable {
		opts.Progress, opts.Terminal = io.Discard, false
	}
	result, err := demo.Run(ctx, opts)
	if err != nil {
		return err
	}
	// on a screen all of it has been told
	if err := a.print(result, func(*screen) {}); err != nil {
		return err
	}
	if err := result.Failed(); err != nil {
		return fmt.Errorf("the demo failed: %w", err)
	}
	return nil
}

// demoWebCommand is what the demo runs on its nodes.
func demoWebCommand() *cobra.Command {
	return &cobra.Command{
		Use:     demo.WebCommand + " NAME",
		Hidden:  true,
		Short:   "Serve a page with a name, for lbctl demo",
		Long:    `Serves a page that is the name of a node, on the listening socket that lbctl demo hands over.`,
		Example: `  lbctl demo-web n1`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return demo.Web(cmd.Context(), args[0])
		},
	}
}
