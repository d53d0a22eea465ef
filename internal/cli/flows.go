package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/spf13/cobra"
)

// A flowLine is a flow that the datapath remembers.
type flowLine struct {
	Protocol string  `json:"protocol"`
	Client   string  `json:"client"`
	VIP      string  `json:"vip"`
	Service  string  `json:"service"`
	Slot     int     `json:"slot"`
	Backend  string  `json:"backend"` // its address
	Silent   float64 `json:"silent"`  // seconds since its last packet
	Why      string  `json:"why"`
}

func flowsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "flows [SERVICE]",
		Short: "List the flows that are remembered one by one, and why",
		Long: `Lists the flows that directors remember: those of slots that change their backend, as long as
some may be at another backend than the slot's new ones; those of services whose scheduler, affinity
or maxconn has to know them; and the established ones of services with source-nat, with the port of
the VIP that each leaves from. Of others nothing is remembered, however many there are, so the list
is empty most of the time. Needs root; lbd may be stopped.`,
		Example: `  lbctl flows
  lbctl flows web -o json | jq 'group_by(.backend)[] | {backend: .[0].backend, flows: length}'`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			view, err := datapath.OpenView(a.bpfDir)
			if err != nil {
				return err
			}
			defer view.Close()
			noted, err := view.Exceptions()
			if err != nil {
				return err
			}
			lines := flowLines(noted, firstOf(args))
			return a.print(lines, func(s *screen) { flowsTable(s, lines) })
		},
	}
}

// flowLines are the flows of a service, or all when it has no name, by service, slot and client.
func flowLines(noted []datapath.Exception, service string) []flowLine {
	noted = slices.DeleteFunc(slices.Clone(noted), func(e datapath.Exception) bool { return service != "" && e.Service != service })
	slices.SortFunc(noted, func(a, b datapath.Exception) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Slot, b.Slot), a.Remote.Compare(b.Remote),
			a.Local.Compare(b.Local), cmp.Compare(a.Protocol, b.Protocol))
	})
	lines := make([]flowLine, len(noted))
	for i, e := range noted {
		lines[i] = flowLine{
			Protocol: e.Protocol.String(), Client: flowEnd(e.Remote), VIP: flowEnd(e.Local), Service: e.Service, Slot: e.Slot,
			Backend: e.Addr.String(), Silent: e.Silent.Round(time.Millisecond).Seconds(), Why: whyNoted(e),
		}
	}
	return lines
}

// flowEnd is an address, with the port of a protocol that has some.
func flowEnd(end netip.AddrPort) string {
	if end.Port() == 0 {
		return end.Addr().String()
	}
	return end.String()
}

func whyNoted(e datapath.Exception) string {
	switch {
	case e.Source != 0 && e.Over:
		return fmt.Sprintf("full NAT: it ended, and port %d is nobody's for a while", e.Source)
	case e.Source != 0:
		return fmt.Sprintf("full NAT: it leaves from port %d", e.Source)
	case !e.Current:
		return "older than the move of its slot, and stays"
	case e.Mark&lb.SlotNoting != 0:
		return "its slot is about to move"
	case e.Mark&lb.SlotMoving != 0:
		return "begun since its slot moved"
	}
	return "where its slot is"
}

func flowsTable(s *screen, lines []flowLine) {
	header := []string{"PROTOCOL", "CLIENT", "VIP", "SERVICE", " SLOT", "BACKEND", " SILENT", "WHY"}
	s.table(header, rows(lines, func(l flowLine) []string {
		return []string{l.Protocol, l.Client, l.VIP, l.Service, fmt.Sprint(l.Slot), l.Backend, fmt.Sprintf("%.1fs", l.Silent), l.Why}
	}))
}
