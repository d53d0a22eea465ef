package cli

import (
	"errors"
	"runtime"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/spf13/cobra"
)

// versions is what lbctl version prints.
type versions struct {
	Lbctl    string `json:"lbctl"`
	Lbd      string `json:"lbd"` // of the running daemon; empty when it is not reachable
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of lbctl and of the running lbd",
		Long: `Shows which lbctl this is and which lbd answers. A daemon that is not reachable is no error
here: the line says so.`,
		Example: `  lbctl version
  lbctl version -o json`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.status(cmd.Context())
			if errors.Is(err, control.ErrUnreachable) {
				status, err = &control.Status{}, nil
			}
			if err != nil {
				return err
			}
			v := versions{a.Version, status.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(v, func(s *screen) {
				s.line("lbctl  %s, %s, %s", v.Lbctl, v.Go, v.Platform)
				if v.Lbd == "" {
					v.Lbd = "not reachable"
				}
				s.line("lbd    %s", v.Lbd)
			})
		},
	}
}
