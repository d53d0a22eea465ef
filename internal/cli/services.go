package cli

import (
	"fmt"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func servicesCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "services",
		Short: "List the services, who shares them, and their traffic",
		Long: `Lists the services of all VIPs: what a flow is hashed by, who chooses its backend and for how
long a client keeps it, which part of the flows each node owns, and how many packets this node has
accepted or forwarded, or ignored because they are another node's. The counts begin when the maps
were made, and survive restarts of lbd.`,
		Example: `  lbctl services
  lbctl services -o yaml`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(status.Services, func(s *screen) { servicesTable(s, status.Services) })
		},
	}
}

func servicesTable(s *screen, services []control.Service) {
	header := []string{"SERVICE", "VIP", "PROTOCOL", "PORTS", "HASH", "FORWARD", "SCHEDULER", "SHARES",
		" ACCEPTED", " BYTES", " IGNORED", " BYTES"}
	s.table(header, rows(services, func(v control.Service) []string {
		return []string{v.Name, v.VIP.String(), v.Protocol, strings.Join(v.Ports, ","), v.Hash, v.Forward, schedulerText(v),
			shares(v.Shares), fmt.Sprint(v.Accepted.Packets), size(v.Accepted.Bytes),
			fmt.Sprint(v.Ignored.Packets), size(v.Ignored.Bytes)}
	}))
}

// schedulerText is "-" of services that are local.
func schedulerText(v control.Service) string {
	switch {
	case v.Scheduler == "":
		return "-"
	case v.Affinity > 0:
		return fmt.Sprintf("%s, affinity %.0f s", v.Scheduler, v.Affinity)
	}
	return v.Scheduler
}

func shares(list []control.Share) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = s.Node + " " + percent(s.Share)
	}
	return strings.Join(words, ", ")
}

// size shows bytes with the prefixes of IEC 80000-13.
func size(bytes uint64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, prefixes := float64(bytes)/1024, "KMGTPE"
	for value >= 1024 {
		value, prefixes = value/1024, prefixes[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, prefixes[0])
}
