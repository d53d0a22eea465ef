package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

func statusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is wrong, then what this node serves",
		Long: `Shows the problems that lbd knows of, the worst first, then the node, its configuration, its
interfaces and its VIPs. Ends with exit code 4 when there are problems, so that a script or a
monitoring check needs no more than this command.`,
		Example: `  lbctl status
  lbctl status -o json | jq -r '.problems[]'`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.print(status, func(s *screen) { statusTable(s, status, a.Now()) }); err != nil {
				return err
			}
			if len(status.Problems) > 0 {
				return errDegraded
			}
			return nil
		},
	}
}

// status asks the daemon.
func (a *app) status(ctx context.Context) (*control.Status, error) {
	client, err := control.Dial(a.socket)
	if err != nil {
		return nil, err
	}
	return client.Status(ctx)
}

func statusTable(s *screen, status *control.Status, now time.Time) {
	if len(status.Problems) == 0 {
		s.line("%s", s.paint(green, "no problems"))
	}
	for _, problem := range status.Problems {
		s.line("%s %s", s.paint(red, "problem:"), problem)
	}
	for _, drift := range status.Drift {
		s.line("%s %s", s.paint(yellow, "drift:"), drift)
	}
	s.line("")
	if status.RealServer == nil {
		s.line("node        %s of cluster %s", status.Node, status.Cluster)
	} else {
		s.line("backend     %s, method %s by %s", status.Node, status.RealServer.Method, status.RealServer.Interface)
	}
	s.line("lbd         %s, pid %d, up %s", status.Version, status.PID, since(now, status.Started))
	s.line("generation  %d", status.Generation)
	s.line("config      %s, loaded %s ago", status.Config.File, since(now, status.Config.LoadedAt))
	if status.Config.LastError != "" {
		s.line("            newest version refused: %s", firstLine(status.Config.LastError))
	}
	if g := status.Agreement; g != nil {
		agreed := s.paint(green, "all nodes agree")
		if !g.Agreed {
			agreed = s.paint(yellow, "nodes do not agree yet")
		}
		s.line("view        %s, %s; %d buckets moving; lease ends in %s", g.Fingerprint, agreed, g.Moving, g.LeaseEnds)
	}
	s.line("")
	s.table([]string{"INTERFACE", "MODE", " PROGRAM"}, rows(status.Attach, func(at control.Attachment) []string {
		return []string{at.Interface, at.Mode, fmt.Sprint(at.ProgramID)}
	}))
	s.line("")
	if status.RealServer != nil {
		realServerTables(s, status.RealServer)
		return
	}
	vipsTable(s, status.VIPs)
	if len(status.Backends) > 0 {
		s.line("")
		backendsSummary(s, status.Backends)
	}
	if len(status.Masquerade) > 0 {
		s.line("")
		masqueradeTable(s, status.Masquerade)
	}
	s.line("")
	nodesTable(s, status.Nodes)
}

func masqueradeTable(s *screen, list []control.Masquerade) {
	s.table([]string{"MASQUERADE", "OUT", "AS"}, rows(list, func(m control.Masquerade) []string {
		from := make([]string, len(m.From))
		for i, p := range m.From {
			from[i] = p.String()
		}
		as := "its own address"
		if m.To.IsValid() {
			as = m.To.String()
		}
		return []string{strings.Join(from, ", "), m.Out, as}
	}))
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// since is how long ago something was, as exactly as people want to know it.
func since(now, then time.Time) string {
	age := max(now.Sub(then), 0)
	switch {
	case age < time.Minute:
		return fmt.Sprintf("%ds", int(age.Seconds()))
	case age < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(age.Minutes()), int(age.Seconds())%60)
	case age < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(age.Hours()), int(age.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(age.Hours())/24, int(age.Hours())%24)
}

// percent shows a share of 0..1.
func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

// rows makes a table's rows of a list.
func rows[T any](list []T, row func(T) []string) [][]string {
	out := make([][]string, len(list))
	for i, item := range list {
		out[i] = row(item)
	}
	return out
}
