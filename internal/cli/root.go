package cli

import (
	"fmt"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/spf13/cobra"
)

// An app is what the commands of one run share.
type app struct {
	Env
	socket string
	bpfDir string
	output format
}

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "lbctl",
		Short: "Look at and operate a node of a load-balanced cluster",
		Long: `lbctl asks the lbd of this machine, or reads the maps in the kernel that serve its traffic.

  status, vips, services, backends, nodes, config, events, keys
                                          ask lbd over its socket
  maps, flows, trace, owner, drops        read the pinned maps as root, with lbd running or not
  doctor, backend                         find mistakes on a backend or a director; set up a backend

` + exitCodes,
		Example: `  lbctl status
  lbctl trace tcp 198.51.100.7:40000 192.0.2.80:443
  lbctl services -o json`,
	},
		statusCommand(a),
		vipsCommand(a),
		servicesCommand(a),
		backendsCommand(a),
		nodesCommand(a),
		configCommand(a),
		mapsCommand(a),
		flowsCommand(a),
		traceCommand(a),
		ownerCommand(a),
		dropsCommand(a),
		demoCommand(a),
		demoWebCommand(),
		backendCommand(a),
		doctorCommand(a),
		eventsCommand(a),
		keysCommand(a),
		completionCommand(a),
		versionCommand(a),
	)
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.ValidateFlagGroups(); err != nil {
			return usageError{err}
		}
		return nil
	}

	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", control.DefaultSocket, "lbd's `PATH`")
	flags.StringVar(&a.bpfDir, "bpf-dir", datapath.DefaultDir, "`DIR` of the pinned maps")
	flags.VarP(&a.output, "output", "o", "`FORMAT`: table, json or yaml")
	if err := root.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was defined two lines above
	}
	return root
}

// group makes a command of its subcommands. By itself it does nothing, and says so: a script that
// lost its verb must not go on as if it had been carried out.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(subcommands...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if cmd.SuggestionsMinimumDistance == 0 {
			cmd.SuggestionsMinimumDistance = 2 // cobra's own default, set too late for this
		}
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			text += ", did you mean " + strings.Join(similar, " or ") + "?"
		}
		return usageError{fmt.Errorf("%s", text)}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(cmd.ErrOrStderr())
		if err := cmd.Help(); err != nil {
			return err
		}
		return usageError{fmt.Errorf("which command? see %s --help", cmd.CommandPath())}
	}
	return cmd
}

// args turns what cobra says about a command's arguments into a usage error that shows the form.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}
