package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/lbctl/lbctl/internal/demo"
	"github.com/spf13/cobra"
)

func demoCommand(a *app) *cobra.Command {
	opts := demo.Options{Scenario: demo.Serve}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a whole cluster on this machine, in network namespaces",
		Long: `Builds a client, nodes and a switch in network namespaces of its own (lbdemo-*), starts a real
lbd and a real web server on every node, connects all the time, and shows which node answers.
Nothing of the machine's network is touched, and everything is removed at the end, at Ctrl-C, and
at the next start after a kill. Needs root, and lbd beside lbctl or in PATH.

  serve     connections for --duration
  restart   every lbd is restarted and killed in turn; nothing may break

Exit code 0 when nothing broke, no SYN was answered twice or lost, and every node answered.`,
		Example: `  lbctl demo
  lbctl demo --nodes 5 --scenario restart -o json`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(demo.Scenarios, opts.Scenario) {
				return usageError{fmt.Errorf("scenario %q is not one of %v", opts.Scenario, demo.Scenarios)}
			}
			if opts.Attach != "native" && opts.Attach != "generic" {
				return usageError{fmt.Errorf("--attach %q is not native or generic", opts.Attach)}
			}
			return a.demo(cmd.Context(), opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar((*string)(&opts.Scenario), "scenario", string(opts.Scenario), "serve or restart")
	flags.IntVar(&opts.Nodes, "nodes", 3, "number of `NODES`, 1 to 16")
	flags.DurationVar(&opts.Duration, "duration", 8*time.Second, "how long serve lasts")
	flags.StringVar(&opts.Attach, "attach", "native", "native or generic XDP")
	flags.BoolVar(&opts.Keep, "keep", false, "leave everything running until Ctrl-C")
	return cmd
}

func (a *app) demo(ctx context.Context, opts demo.Options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	lbd, err := demo.FindLBD()
	if err != nil {
		return err
	}
	opts.LBD = lbd
	opts.Progress, opts.Terminal = a.Stdout, a.Terminal
	if a.output != formatTable {
		opts.Progress, opts.Terminal = io.Discard, false
	}
	result, err := demo.Run(ctx, opts)
	if errors.Is(err, demo.ErrUsage) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if err := a.print(result, func(*screen) {}); err != nil {
		return err
	}
	if !result.OK() {
		return errors.New("demo: not everything went as it should")
	}
	return nil
}
