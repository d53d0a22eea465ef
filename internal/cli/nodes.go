package cli

import (
	"fmt"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func nodesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of the cluster",
		Long: `Lists the nodes that this node shares its VIPs with, their weights, and which part of all
buckets each of them owns. The node that answers is marked with an asterisk.`,
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
}

func nodesTable(s *screen, nodes []control.Node) {
	s.table([]string{"NODE", "ADDRESSES", " WEIGHT", " SHARE"}, rows(nodes, func(n control.Node) []string {
		name := n.Name
		if n.Local {
			name += "*"
		}
		addresses := make([]string, len(n.Addresses))
		for i, addr := range n.Addresses {
			addresses[i] = addr.String()
		}
		return []string{name, strings.Join(addresses, ", "), fmt.Sprint(n.Weight), percent(n.Share)}
	}))
}
