package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func nodesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the cluster, drain them, weigh them",
		Long: `Lists the nodes that this node shares its VIPs with, their weights, and which part of all
buckets each of them owns. The node that answers is marked with an asterisk.

STATE is joining, active, draining or down, CONNECTIONS what the node's VIPs have of TCP. Both need
cluster.membership in the configuration; without it the nodes are what the file says.`,
		Example: `  lbctl nodes
  lbctl nodes -o json | jq -r '.[] | select(.local).name'`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(status.Nodes, func(s *screen) { nodesTable(s, status.Nodes) })
		},
	}
	cmd.AddCommand(drainCommand(a), undrainCommand(a), weightCommand(a), removeCommand(a))
	return cmd
}

func nodesTable(s *screen, nodes []control.Node) {
	header := []string{"NODE", "ADDRESSES", " WEIGHT", " SHARE"}
	if slices.ContainsFunc(nodes, func(n control.Node) bool { return n.Member != nil }) {
		header = append(header, "STATE", " CONNECTIONS")
	}
	s.table(header, rows(nodes, func(n control.Node) []string {
		name := n.Name
		if n.Local {
			name += "*"
		}
		addresses := make([]string, len(n.Addresses))
		for i, addr := range n.Addresses {
			addresses[i] = addr.String()
		}
		row := []string{name, strings.Join(addresses, ", "), fmt.Sprint(n.Weight), percent(n.Share)}
		if m := n.Member; m != nil {
			row = append(row, m.State, fmt.Sprint(m.Connections))
		}
		return row
	}))
}
