package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/spf13/cobra"
)

func keysCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "keys",
		Short: "Make and change the key of the cluster",
		Long: `The nodes of a cluster encrypt what they tell each other with a key that all of them have in a
file, cluster.membership.key-file in the configuration.`,
		Example: `  lbctl keys generate --out /etc/lb/cluster.key`,
	},
		keysGenerateCommand(a),
	)
}

func keysGenerateCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make a key for a new cluster, without lbd",
		Long: `Makes a random key and prints it, or writes a file that only its owner can read. A file that
is there already is never replaced: a running cluster gets another key by "lbctl keys rotate". All
nodes need the same file, with mode 0600.`,
		Example: `  lbctl keys generate --out /etc/lb/cluster.key`,
		Args:    args(noArgs),
		RunE: func(*cobra.Command, []string) error {
			text := cluster.GenerateKey().Text()
			if file == "" {
				_, err := fmt.Fprintln(a.Stdout, text)
				return err
			}
			return writeNew(file, text+"\n")
		},
	}
	cmd.Flags().StringVar(&file, "out", "", "write `FILE` in place of printing")
	return cmd
}

// writeNew writes a secret to a file that must not be there. One that could not be written whole is
// removed.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and is not replaced", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
