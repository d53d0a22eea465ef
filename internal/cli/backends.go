package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/spf13/cobra"
)

func backendsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backends [SERVICE]",
		Short: "List the real servers behind services that forward, drain them, weigh them",
		Long: `Lists the backends of all services that forward, or of one: whether they get new flows, and if
not, why; which part of a service's slots they have (SHARE), and of which slots they keep only the
older flows (LEAVING) and how many of those are remembered one by one (FLOWS); how many connections
it has, and may have (CONNS), where a scheduler, affinity or maxconn has them counted; the way
there.

STATE is up, starting (its weight still grows), standby (a backup that is not needed), draining (no
new flows, but older ones are left), drained, failing (clients' connections to it fail: the same),
down, out (down by the configuration), disabled, or removed (from the configuration, and older flows
are left). WEIGHT is "20 of 100" while a backend has less than its own.`,
		Example: `  lbctl backends
  lbctl backends web -o json | jq -r '.[] | select(.state == "down") | .name'`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			status, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			backends, err := backendsOf(status, firstOf(args))
			if err != nil {
				return err
			}
			return a.print(backends, func(s *screen) { backendsTable(s, backends) })
		},
	}
	cmd.AddCommand(backendsDrainCommand(a), backendsUndrainCommand(a), backendsDisableCommand(a),
		backendsEnableCommand(a), backendsWeightCommand(a), backendsMaxConnCommand(a))
	return cmd
}

// backendsOf are those of a service, or all when it has no name.
func backendsOf(status *control.Status, service string) ([]control.Backend, error) {
	list := slices.Clone(status.Backends)
	if service != "" {
		list = slices.DeleteFunc(list, func(b control.Backend) bool { return b.Service != service })
		if len(list) == 0 {
			return nil, fmt.Errorf("service %s: no such service forwards to backends", service)
		}
	}
	return append([]control.Backend{}, list...), nil
}

func backendsTable(s *screen, backends []control.Backend) {
	header := []string{"SERVICE", "BACKEND", "ADDRESS", "STATE", " WEIGHT", " SHARE", " LEAVING", " FLOWS", " CONNS", "NEXT HOP", "WHY"}
	s.table(header, rows(backends, func(b control.Backend) []string {
		weight := fmt.Sprint(b.Weight)
		if b.Effective < b.Weight {
			weight = fmt.Sprintf("%d of %d", b.Effective, b.Weight)
		}
		return []string{b.Service, b.Name, backendAddress(b), b.State, weight,
			percent(b.Share), percent(b.Leaving), fmt.Sprint(b.Flows), connections(b), hopText(b.Hop), b.Why}
	}))
}

// connections is "12 of 100", or "-" where nobody counts them.
func connections(b control.Backend) string {
	switch {
	case b.Connections == nil:
		return "-"
	case b.MaxConn == 0:
		return fmt.Sprint(*b.Connections)
	}
	return fmt.Sprintf("%d of %d", *b.Connections, b.MaxConn)
}

func backendAddress(b control.Backend) string {
	switch {
	case b.Port == 0:
		return b.Address.String()
	case b.Address.Is4():
		return fmt.Sprintf("%s:%d", b.Address, b.Port)
	}
	return fmt.Sprintf("[%s]:%d", b.Address, b.Port)
}

func hopText(h *control.Hop) string {
	if h == nil {
		return "none"
	}
	return h.MAC + " on " + h.Interface
}

// backendsSummary says of each service how many of its backends are up.
func backendsSummary(s *screen, backends []control.Backend) {
	var lines [][]string
	for first := 0; first < len(backends); {
		service := backends[first].Service
		all, up := 0, 0
		for ; first < len(backends) && backends[first].Service == service; first++ {
			all++
			if backends[first].State == "up" {
				up++
			}
		}
		lines = append(lines, []string{service, fmt.Sprint(all), fmt.Sprint(up)})
	}
	s.table([]string{"SERVICE", " BACKENDS", " UP"}, lines)
}

// backendRequest begins a request about SERVICE/BACKEND.
func backendRequest(name string) (control.BackendRequest, error) {
	service, backend, ok := strings.Cut(name, "/")
	if !ok || service == "" || backend == "" || strings.Contains(backend, "/") {
		return control.BackendRequest{}, usageError{fmt.Errorf("backend %q: want SERVICE/BACKEND", name)}
	}
	return control.BackendRequest{Service: service, Backend: backend}, nil
}

// adminBackend asks lbd for a change of a backend.
func (a *app) adminBackend(ctx context.Context, name string, change func(*control.BackendRequest)) (*control.Client, error) {
	request, err := backendRequest(name)
	if err != nil {
		return nil, err
	}
	change(&request)
	client, err := control.Dial(a.socket)
	if err != nil {
		return nil, err
	}
	return client, client.AdminBackend(ctx, request)
}

func backendsDrainCommand(a *app) *cobra.Command {
	var flags waitFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "drain SERVICE/BACKEND",
		Short: "Give a backend's new flows to the others and wait for its older ones to end",
		Long: `Moves the new flows of a backend to the others at once, on all directors. Flows that exist stay
until they end, and none is broken. The backend stays drained, across restarts, until "lbctl
backends undrain".

On a terminal the command shows what is left and ends when the backend can be switched off; a slot's
older flows are known one by one only after the service's flow-idle. Ctrl-C stops showing; the
backend goes on draining. Elsewhere it returns at once unless --wait is given, and then prints a
line when something changed.

The last backend that takes new flows is drained only with --force (exit code 7 without).`,
		Example: `  lbctl backends drain web/b2 --wait --timeout 30m`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.adminBackend(cmd.Context(), args[0], func(r *control.BackendRequest) { r.Drain, r.Force = new(true), force })
			if err != nil {
				return err
			}
			return a.await(cmd.Context(), client, flags, waiting{
				name: args[0], what: "backend " + args[0], shownBy: "lbctl backends",
				left: func(status *control.Status) remainder { return backendLeft(status, args[0]) },
			})
		},
	}
	flags.add(cmd.Flags(), "flow")
	cmd.Flags().BoolVar(&force, "force", false, "drain the last backend, too")
	cmd.MarkFlagsMutuallyExclusive("wait", "detach")
	return cmd
}

// backendLeft is what a backend that drains still has.
func backendLeft(status *control.Status, name string) remainder {
	for _, b := range status.Backends {
		if b.Service+"/"+b.Name == name {
			moving := b.Share + b.Leaving
			return remainder{
				done: b.State == "drained" || b.State == "disabled",
				bar:  int(moving*lb.Slots) + b.Flows,
				text: fmt.Sprintf("%s of the slots and %d flows left", percent(moving), b.Flows),
			}
		}
	}
	return remainder{text: "it is not there"}
}

func backendsUndrainCommand(a *app) *cobra.Command {
	return backendSwitch(a, &cobra.Command{
		Use:     "undrain SERVICE/BACKEND",
		Short:   "Let a backend take new flows again",
		Long:    `Ends a drain: the backend takes its share of new flows again. No flow is broken.`,
		Example: `  lbctl backends undrain web/b2`,
	}, func(r *control.BackendRequest) { r.Drain = new(false) })
}

func backendsDisableCommand(a *app) *cobra.Command {
	var force bool
	cmd := backendSwitch(a, &cobra.Command{
		Use:   "disable SERVICE/BACKEND",
		Short: "Send nothing more to a backend, as if it were down",
		Long: `Takes a backend out at once, on all directors: its new flows go to the others, and its connections
break, as when it dies. It stays disabled, across restarts, until "lbctl backends enable". To take
one out without breaking anything, drain it.

The last backend that takes new flows is disabled only with --force (exit code 7 without).`,
		Example: `  lbctl backends disable web/b2`,
	}, func(r *control.BackendRequest) { r.Disable, r.Force = new(true), force })
	cmd.Flags().BoolVar(&force, "force", false, "disable the last backend, too")
	return cmd
}

func backendsEnableCommand(a *app) *cobra.Command {
	return backendSwitch(a, &cobra.Command{
		Use:     "enable SERVICE/BACKEND",
		Short:   "Use a backend again that was disabled",
		Long:    `Ends what "lbctl backends disable" began. A backend that is drained as well stays drained.`,
		Example: `  lbctl backends enable web/b2`,
	}, func(r *control.BackendRequest) { r.Disable = new(false) })
}

// backendSwitch completes a command whose only argument is a backend.
func backendSwitch(a *app, cmd *cobra.Command, change func(*control.BackendRequest)) *cobra.Command {
	cmd.Args = args(cobra.ExactArgs(1))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, err := a.adminBackend(cmd.Context(), args[0], change)
		return err
	}
	return cmd
}

func backendsWeightCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "weight SERVICE/BACKEND WEIGHT",
		Short: "Set a backend's share of new flows by hand",
		Long: `Sets a backend's weight, 0 to 256, instead of the one in the configuration, on all directors and
across restarts. "config" as the weight goes back to the configuration's. No flow is broken.`,
		Example: `  lbctl backends weight web/b2 50
  lbctl backends weight web/b2 config`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			weight, err := numberOrConfig("weight", args[1])
			if err != nil {
				return err
			}
			_, err = a.adminBackend(cmd.Context(), args[0], func(r *control.BackendRequest) {
				r.Weight, r.ResetWeight, r.Force = weight, weight == nil, force
			})
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "weigh the last backend 0, too")
	return cmd
}

func backendsMaxConnCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "maxconn SERVICE/BACKEND CONNECTIONS",
		Short: "Set how many connections a backend may have by hand",
		Long: `Sets how many connections a backend may have at the same time, all directors together, instead of
the number in the configuration, on all directors and across restarts. 0 is any number; "config"
goes back to the configuration's. What comes while it has as many goes where the service's overflow
says. No flow is broken.`,
		Example: `  lbctl backends maxconn web/b2 500
  lbctl backends maxconn web/b2 config`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			most, err := numberOrConfig("maxconn", args[1])
			if err != nil {
				return err
			}
			_, err = a.adminBackend(cmd.Context(), args[0], func(r *control.BackendRequest) {
				r.MaxConn, r.ResetMaxConn = most, most == nil
			})
			return err
		},
	}
}
