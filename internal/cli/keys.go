package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func keysCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "keys",
		Short: "Make and change the key of the cluster",
		Long: `The nodes of a cluster encrypt what they tell each other with a key that all of them have in a
file, cluster.membership.key-file in the configuration.`,
		Example: `  lbctl keys generate --out /etc/lb/cluster.key
  lbctl keys rotate`,
	},
		keysGenerateCommand(a),
		keysRotateCommand(a),
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

func keysRotateCommand(a *app) *cobra.Command {
	var request control.KeysRequest
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Give all nodes a new key, while the cluster runs",
		Long: `Makes a new key and brings it to all nodes, in three steps: first every node can read it, then
every node writes with it, then every node forgets the old one. Each step is on the disks of all
nodes, in their key files, before the next begins. Needs root.

A node of the configuration that is down would be cut off, so nothing begins without it. When a node
fails on the way the rotation stands still, the old key stays, and nobody is cut off. The command
says which node it is, with exit code 6: mend it and run the command again, on this node or on
another one that has the new key, and it goes on. --back goes back to the key that this node writes
with. A node that is gone for good has to be taken out of the configuration.

The new key is sealed for each node by itself: who knows the old one does not learn it.

By hand, without this command: append a new key ("lbctl keys generate") to the key file of each
node, and run "lbctl config reload" there; when all have it, make it the first line on each, and
reload; then remove the other line on each, and reload.`,
		Example: `  lbctl keys rotate
  lbctl keys rotate --back`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			rotation, err := client.RotateKeys(cmd.Context(), request)
			if err != nil {
				return err
			}
			return errors.Join(a.print(rotation, func(s *screen) { rotationTable(s, rotation) }), unfinished(rotation))
		},
	}
	cmd.Flags().BoolVar(&request.Back, "back", false, "go back, from a rotation that stands still")
	return cmd
}

func rotationTable(s *screen, rotation *control.KeyRotation) {
	s.table([]string{"NODE", "KEY " + rotation.Key, "WHY"}, rows(rotation.Nodes, func(h control.KeyHolder) []string {
		return []string{h.Node, h.Step, h.Why}
	}))
}

// unfinished names the nodes without which a rotation does not go on.
func unfinished(rotation *control.KeyRotation) error {
	if rotation.Done {
		return nil
	}
	var late []string
	for _, h := range rotation.Nodes {
		if h.Why != "" {
			late = append(late, h.Node+" ("+h.Why+")")
		}
	}
	if late == nil {
		late = []string{"an answer"}
	}
	state := "the new key is not everywhere, and the old one stays"
	if rotation.Key == "" {
		state = "nothing was changed"
	}
	return fmt.Errorf("%w: %s; waiting for %s; then run this again", errUnfinished, state, strings.Join(late, ", "))
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
