package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

func configCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Check, compare and reload the configuration",
		Long: `Looks at configuration files and at the configuration that lbd has in force. A file that is
invalid never replaces one that is not.`,
		Example: `  lbctl config check /etc/lb/lb.yaml && lbctl config reload`,
	},
		configCheckCommand(a),
		configDiffCommand(a),
		configReloadCommand(a),
		configShowCommand(a),
	)
}

// A checkResult is what lbctl config check prints for programs.
type checkResult struct {
	File   string        `json:"file"`
	Valid  bool          `json:"valid"`
	Errors config.Errors `json:"errors"`
}

func configCheckCommand(a *app) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file, without lbd",
		Long: `Reads a file as lbd would and reports everything that is wrong with it, each error with its
place. Neither lbd nor root is needed. A dash reads the standard input. A file that is the same on
all nodes does not say which one it is for: --node does. Exit code 3 when the file is invalid.`,
		Example: `  lbctl config check /etc/lb/lb.yaml
  lbctl config check deploy/examples/dr.yaml --node director1
  lbctl config check -o json - < lb.yaml | jq '.errors[].message'`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := a.readFile(args[0])
			if err != nil {
				return err
			}
			_, err = parseShared(args[0], text, node)
			if errors.As(err, new(usageError)) {
				return err
			}
			result := checkResult{args[0], err == nil, append(config.Errors{}, invalid(err)...)}
			return errors.Join(err, a.print(result, func(s *screen) {
				if result.Valid { // else the errors are on stderr
					s.line("%s: %s", result.File, s.paint(green, "ok"))
				}
			}))
		},
	}
	nodeFlag(cmd, &node)
	return cmd
}

func (a *app) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(a.Stdin)
	}
	return os.ReadFile(name)
}

func configDiffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff FILE",
		Short: "Show what a configuration file would change",
		Long: `Compares a file with the configuration that lbd has in force, and changes nothing. A dash reads
the standard input. It also says what the changes would do: whether a reload would take the file,
and whether all nodes need it; how much of what is new would go to another backend; how many of the
open flows would come to another node or backend and break. This node's connections are counted.
Flows to backends are mostly known to nobody, and stay while slots move; when another hash finds
them, their share is told. Exit code 0 whether or not there are differences, 3 when the file is
invalid.`,
		Example: `  lbctl config diff /etc/lb/lb.yaml.new
  lbctl config diff -o json /etc/lb/lb.yaml | jq '.changes | length'`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			candidate, err := a.readFile(args[0])
			if err != nil {
				return err
			}
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			diff, err := client.Diff(cmd.Context(), candidate)
			if err != nil {
				for _, e := range invalid(err) {
					e.File = args[0] // lbd was sent the text alone
				}
				return err
			}
			return a.print(diff, func(s *screen) {
				changesText(s, diff.Changes)
				forecastText(s, diff)
			})
		},
	}
}

// forecastText says what the changes would do.
func forecastText(s *screen, diff control.ConfigDiff) {
	if diff.Refused != "" {
		s.line("%s %s", s.paint(red, "a reload would refuse it:"), diff.Refused)
	}
	if diff.Alike {
		s.line("%s must have this alike: reload them one right after the other", s.paint(yellow, "all nodes"))
	}
	for _, m := range diff.Moves {
		s.line("service %s: %.1f %% of new flows would go to another backend (%d slots of %d)", m.Service, 100*m.Share, m.Slots, lb.Slots)
	}
	for _, m := range diff.Flows {
		s.line("service %s: %s", m.Service, flowsText(m, "would move and break"))
	}
}

func flowsText(m control.FlowMoves, breaks string) string {
	var which []string
	if m.Moved > 0 {
		which = append(which, fmt.Sprintf("%d of %d open flows that this node knows %s", m.Moved, m.Known, breaks))
	}
	if m.Share > 0 {
		which = append(which, fmt.Sprintf("%.1f %% of those that it does not know %s", 100*m.Share, breaks))
	}
	if m.Uncounted {
		which = append(which, "what it does not know may break")
	}
	if !m.Breaks() {
		return "no open flow would move: " + m.Why
	}
	return strings.Join(which, "; ") + ": " + m.Why
}

func configReloadCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make lbd read its configuration file again",
		Long: `Makes lbd read its file again and shows what changed, and of which services open flows broke. A
file that is invalid is refused with exit code 3, and the configuration in force stays. It stays,
too, and nothing is begun, when the file names what this machine does not have, such as an
interface.`,
		Example: `  lbctl config check /etc/lb/lb.yaml && lbctl config reload`,
		Args:    args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			result, err := client.Reload(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(result, func(s *screen) {
				changesText(s, result.Changes)
				for _, m := range result.Flows {
					s.line("%s service %s: %s", s.paint(yellow, "broken:"), m.Service, flowsText(m, "moved and broke"))
				}
				s.line("generation %d", result.Generation)
			})
		},
	}
}

func configShowCommand(a *app) *cobra.Command {
	var showSeed bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration in force",
		Long: `Prints the configuration that lbd has in force as a file, with every default filled in. With
-o json the same as JSON. The seed is hidden, as who knows it can choose a node; for "config diff"
<hidden> is the seed in force. Root may see it, and needs to for a file that lbd can start from.`,
		Example: `  lbctl config show
  lbctl config show --show-seed > lb.yaml
  lbctl config show -o json | jq .nodes`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			text, err := client.Config(cmd.Context(), showSeed)
			if err != nil {
				return err
			}
			if a.output != formatJSON {
				_, err := a.Stdout.Write(text)
				return err
			}
			var value any
			if err := yaml.Load(text, &value); err != nil {
				return fmt.Errorf("understand lbd's configuration: %w", err)
			}
			return writeJSON(a.Stdout, value)
		},
	}
	cmd.Flags().BoolVar(&showSeed, "show-seed", false, "show the cluster's seed; needs root")
	return cmd
}

func changesText(s *screen, changes []config.Change) {
	if len(changes) == 0 {
		s.line("no changes")
	}
	for _, change := range changes {
		switch {
		case change.Old == "":
			s.line("%s %s: %s", s.paint(green, "+"), change.Path, change.New)
		case change.New == "":
			s.line("%s %s: %s", s.paint(red, "-"), change.Path, change.Old)
		default:
			s.line("%s %s: %s -> %s", s.paint(yellow, "~"), change.Path, change.Old, change.New)
		}
	}
}
