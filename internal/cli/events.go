package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

// followEvery is how often --follow asks.
const followEvery = 250 * time.Millisecond

func eventsCommand(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Tell what changed in the cluster, why, and how long it took",
		Long: `Tells what this node saw happen since its lbd started, oldest first: nodes that came and went,
checks that changed their mind, buckets that moved. lbd keeps the last thousand, the journal all.`,
		Example: `  lbctl events
  lbctl events --follow -o json`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := control.Dial(a.socket)
			if err != nil {
				return err
			}
			if follow {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
				defer stop()
				return a.followEvents(ctx, client)
			}
			events, err := client.Events(cmd.Context(), 0)
			if err != nil {
				return err
			}
			return a.print(events, func(s *screen) { eventsTable(s, events) })
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new ones until Ctrl-C; -o json prints one a line")
	return cmd
}

func (a *app) followEvents(ctx context.Context, client *control.Client) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for after := uint64(0); ; {
		events, err := client.Events(ctx, after)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			after = e.Number
			if a.output == formatJSON {
				err = writeJSONLine(a.Stdout, e)
			} else {
				_, err = fmt.Fprintln(a.Stdout, eventLine(e))
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func eventsTable(s *screen, events []control.Event) {
	for _, e := range events {
		s.line("%s", eventLine(e))
	}
}

func eventLine(e control.Event) string {
	line := fmt.Sprintf("%s  %-9s  %s", e.Time.Local().Format("2006-01-02 15:04:05.000"), e.Kind, e.What)
	if e.Why != "" {
		line += ": " + e.Why
	}
	if e.Took > 0 {
		line += fmt.Sprintf(" (%s)", e.Took.Round(time.Millisecond))
	}
	return line
}
