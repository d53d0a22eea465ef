package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/spf13/cobra"
)

// A dropLine is one sampled drop as lbctl drops prints it.
type dropLine struct {
	Time        time.Time       `json:"time"`
	Reason      datapath.Reason `json:"reason"`
	Scope       string          `json:"scope"` // "vip 192.0.2.80", "service web 192.0.2.80" or empty
	Interface   string          `json:"interface"`
	Protocol    string          `json:"protocol"`
	Source      string          `json:"source"`
	Destination string          `json:"destination"`
	Length      int             `json:"length"` // bytes on the wire
	Frame       []byte          `json:"frame"`  // the first of them
}

func dropsCommand(a *app) *cobra.Command {
	var count int
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "drops",
		Short: "Follow the frames that are dropped, and why",
		Long: `Prints the frames that the program samples when it drops them, as they come, until it is
interrupted. That another node takes a flow is no drop in this sense: such frames are only counted.
The configuration says how many are sampled (drops.sample). A sample goes to one reader, so run
this once at a time. Works with lbd running or not; needs root. With -o json each drop is one line.`,
		Example: `  lbctl drops
  lbctl drops --count 10 --for 1m
  lbctl drops -o json | jq -r .reason.name`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 0 || limit < 0 {
				return usageError{errors.New("--count and --for cannot be negative")}
			}
			view, err := datapath.OpenView(a.bpfDir)
			if err != nil {
				return err
			}
			defer view.Close()
			dump, err := view.Dump()
			if err != nil {
				return err
			}
			if dump.SampleDrops == 0 {
				return errors.New("no drops are sampled: drops.sample is 0 in the configuration")
			}
			return a.followDrops(cmd.Context(), view.Drops, count, limit)
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "end after `N` drops")
	cmd.Flags().DurationVar(&limit, "for", 0, "end after a `TIME`, such as 30s or 5m")
	return cmd
}

// followDrops prints what the reader calls back with, until one of the limits; 0 is no limit.
func (a *app) followDrops(ctx context.Context, read func(context.Context, func(datapath.Drop)) error,
	count int, limit time.Duration,
) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if limit > 0 {
		ctx, stop = context.WithTimeout(ctx, limit)
		defer stop()
	}
	printed := 0
	var failed error // to print: a pipe that was closed on us
	err := read(ctx, func(drop datapath.Drop) {
		if failed != nil || count > 0 && printed == count {
			return // sampled before the reader saw that it should end
		}
		printed++
		if failed = a.printDrop(newDropLine(drop, a.Now())); failed != nil || printed == count {
			stop()
		}
	})
	return errors.Join(err, failed)
}

func newDropLine(drop datapath.Drop, now time.Time) dropLine {
	d := decode(drop.Frame)
	return dropLine{
		Time:        now.Add(-drop.Ago),
		Reason:      drop.Reason,
		Scope:       drop.Scope,
		Interface:   drop.Interface,
		Protocol:    d.protocol,
		Source:      d.source,
		Destination: d.destination,
		Length:      drop.Length,
		Frame:       drop.Frame,
	}
}

func (a *app) printDrop(d dropLine) error {
	if a.output == formatJSON {
		return writeJSONLine(a.Stdout, d)
	}
	if a.output == formatYAML {
		if _, err := fmt.Fprintln(a.Stdout, "---"); err != nil {
			return err
		}
	}
	return a.print(d, func(s *screen) {
		s.line("%s  %s  %s", d.Time.Format("15:04:05.000"), s.paint(red, d.Reason.Name), d.Reason.Explanation)
		s.line("              %s %s -> %s, %d bytes on %s, %s", d.Protocol, d.Source, d.Destination, d.Length,
			d.Interface, orDash(d.Scope))
	})
}
