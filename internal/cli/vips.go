package cli

import (
	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func vipsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "vips",
		Short: "List the shared addresses",
		Long: `Lists the VIPs with the interface they are announced on, the MAC that all nodes share, what
happens to traffic that no service names (OTHER), and which part of that traffic, of ping and of
ARP or neighbor discovery this node answers (OWNED).`,
		Example: `  lbctl vips
  lbctl vips -o json | jq -r '.[] | [.address, .mac] | @tsv'`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(status.VIPs, func(s *screen) { vipsTable(s, status.VIPs) })
		},
	}
}

func vipsTable(s *screen, vips []control.VIP) {
	s.table([]string{"VIP", "INTERFACE", "ANNOUNCE", "MAC", "FORM", "OTHER", " OWNED"},
		rows(vips, func(v control.VIP) []string {
			return []string{v.Address.String(), v.Interface, v.Announce, v.MAC, v.MACForm, v.Other,
				percent(v.OwnedShare)}
		}))
}
