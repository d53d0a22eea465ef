package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// nodeFlag is for files that do not say which node they are for, as they are the same on all.
func nodeFlag(cmd *cobra.Command, node *string) {
	cmd.Flags().StringVar(node, "node", "", "read a file without cluster.node as this node `NAME` would")
	if err := cmd.RegisterFlagCompletionFunc("node", func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		file := firstOf(args)
		if given := cmd.Flags().Lookup("file"); given != nil {
			file = given.Value.String()
		}
		return namesIn(file), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // there is no such flag
	}
}

// namesIn are the nodes of a file, as far as it can be read.
func namesIn(file string) []cobra.Completion {
	var shape struct {
		Cluster struct {
			Nodes []struct{ Name string }
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || yaml.Load(text, &shape) != nil {
		return nil
	}
	var names []cobra.Completion
	for _, n := range shape.Cluster.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// parseShared parses a file as a node would: this machine, unless there is a name.
func parseShared(file string, text []byte, node string) (*config.Config, error) {
	if node == "" {
		cfg, err := config.Parse(file, text)
		for _, e := range lackingNode(err) {
			e.Hint += ", or check it for one with --node"
		}
		return cfg, err
	}
	cfg, err := config.ParseFor(node, file, text)
	for _, e := range lackingNode(err) {
		e.Message, e.Hint = fmt.Sprintf("missing, and no node is called %q", node), "--node takes a name of cluster.nodes"
	}
	switch {
	case err != nil:
		return nil, err
	case cfg.Backend != nil:
		return nil, usageError{fmt.Errorf("--node %s: %s is for a backend, which is no node", node, file)}
	case cfg.Node != node:
		return nil, usageError{fmt.Errorf("--node %s: %s says that it is for node %s", node, file, cfg.Node)}
	}
	return cfg, nil
}

// lackingNode are the errors about a file that does not say which node it is for.
func lackingNode(err error) config.Errors {
	var lacking config.Errors
	for _, e := range invalid(err) {
		if e.Path == "cluster.node" && strings.HasPrefix(e.Message, "missing, ") {
			lacking = append(lacking, e)
		}
	}
	return lacking
}
