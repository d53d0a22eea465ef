package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpCommand replaces cobra's own, which exits with 0 when there is no such command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long:  `Explains lbctl, or one of its commands with its flags and an example.`,
		Example: `  lbctl help
  lbctl help config check`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("no command %q to explain", strings.Join(args, " "))}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
