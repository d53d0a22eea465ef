package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/spf13/cobra"
)

func mapsCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "maps",
		Short: "Read the maps in the kernel, with or without lbd",
		Long: `Reads the pinned maps that the programs in the kernel work with. They are there while lbd is
stopped or restarts; reading them needs root.`,
		Example: `  lbctl maps dump`,
	}, mapsDumpCommand(a))
}

// A mapsDump is what lbctl maps dump prints.
type mapsDump struct {
	*datapath.Dump
	Counters []datapath.Counter `json:"counters"`
}

func mapsDumpCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "dump",
		Short: "Print what the maps hold",
		Long: `Prints the cluster, nodes, VIPs and services, who owns how many buckets of each table, and every
counter that is not zero. A range of ports is several lines, one for each aligned power of two of
ports in it, as the programs look them up.`,
		Example: `  lbctl maps dump
  lbctl maps dump -o json | jq '.counters[] | select(.verdict == "drop")'`,
		Args: args(noArgs),
		RunE: func(*cobra.Command, []string) error {
			view, err := datapath.OpenView(a.bpfDir)
			if err != nil {
				return err
			}
			defer view.Close()
			dump, err := view.Dump()
			if err != nil {
				return err
			}
			counters, err := view.Counters()
			if err != nil {
				return err
			}
			// null is no list
			dump.Nodes = append([]datapath.NodeEntry{}, dump.Nodes...)
			dump.VIPs = append([]datapath.VIPEntry{}, dump.VIPs...)
			dump.Services = append([]datapath.ServiceEntry{}, dump.Services...)
			dump.Tables = append([]datapath.TableEntry{}, dump.Tables...)
			all := mapsDump{dump, append([]datapath.Counter{}, counters...)}
			return a.print(all, func(s *screen) { mapsTables(s, all) })
		},
	}
}

func mapsTables(s *screen, dump mapsDump) {
	s.line("cluster %s", orDash(dump.Cluster))
	s.line("")
	s.table([]string{" NUMBER", "NODE", "ADDRESS", " WEIGHT"},
		rows(dump.Nodes, func(n datapath.NodeEntry) []string {
			name := n.Name
			if n.Local {
				name += "*"
			}
			return []string{fmt.Sprint(n.Number), name, n.Address, fmt.Sprint(n.Weight)}
		}))
	s.line("")
	s.table([]string{"VIP", "INTERFACE", "MAC", "OWN MAC", "OTHER", " TABLE", " SCOPE"},
		rows(dump.VIPs, func(v datapath.VIPEntry) []string {
			other := lb.OtherPass
			if v.DropUnnamed {
				other = lb.OtherDrop
			}
			return []string{v.Address, v.Interface, v.MAC, v.OwnMAC, other.String(), fmt.Sprint(v.Table),
				fmt.Sprint(v.Scope)}
		}))
	s.line("")
	s.table([]string{"SERVICE", "PROTOCOL", "PORTS", "HASH", " TABLE", " SCOPE"},
		rows(dump.Services, func(v datapath.ServiceEntry) []string {
			return []string{v.Name, v.Protocol, portsOf(v).String(), v.Hash, fmt.Sprint(v.Table), fmt.Sprint(v.Scope)}
		}))
	s.line("")
	s.table([]string{" TABLE", "BUCKETS"}, rows(dump.Tables, func(t datapath.TableEntry) []string {
		return []string{fmt.Sprint(t.Table), owners(t.Owners)}
	}))
	s.line("")
	s.table([]string{"SCOPE", "REASON", "VERDICT", " PACKETS", " BYTES"},
		rows(dump.Counters, func(c datapath.Counter) []string {
			scope := c.Scope
			if scope == "" {
				scope = "-"
			}
			return []string{scope, c.Reason, string(c.Verdict), fmt.Sprint(c.Packets), size(c.Bytes)}
		}))
}

// portsOf turns a port prefix back into the ports it stands for.
func portsOf(v datapath.ServiceEntry) lb.PortRange {
	return lb.PortRange{First: v.Port, Last: v.Port | uint16(1<<(16-v.Length)-1)}
}

// owners lists who owns how many buckets, by name; "" is nobody.
func owners(counts map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		count := counts[name]
		if name == "" {
			name = "nobody"
		}
		words = append(words, fmt.Sprintf("%s %d", name, count))
	}
	return strings.Join(words, ", ")
}
