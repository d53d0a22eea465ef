package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/recipe"
	"github.com/spf13/cobra"
)

func backendCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "backend",
		Short: "Make a machine a backend",
		Long: `Helps to set up the real servers that directors forward to. One that runs lbd needs nothing of
this: see deploy/backend.yaml.`,
		Example: `  lbctl backend recipe web`,
	}, recipeCommand(a))
}

// A serviceRecipe is what makes a machine a backend of a service.
type serviceRecipe struct {
	Service   string        `json:"service"`
	Method    string        `json:"method"`
	VIPs      []netip.Addr  `json:"vips"`
	Interface string        `json:"interface"` // of the backend
	Steps     []recipe.Step `json:"steps"`
}

func recipeCommand(a *app) *cobra.Command {
	var file, ifname, node string
	cmd := &cobra.Command{
		Use:   "recipe [SERVICE]",
		Short: "Print the commands that make a machine without lbd a backend",
		Long: `Prints the commands (ip, sysctl, nft) that make a machine a backend of a service, or of all that
forward: a script for sh, to be run there by root. It may be run again. What it does is gone after a
reboot.

Asks the lbd of this machine, a director, unless a file is given.`,
		Example: `  lbctl backend recipe web | ssh root@192.0.2.21 sh -e
  lbctl backend recipe --file /etc/lb/lb.yaml --interface ens3`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.configuration(cmd.Context(), file, node)
			if err != nil {
				return err
			}
			recipes, err := recipesOf(cfg, firstOf(args), ifname)
			if err != nil {
				return err
			}
			return a.print(recipes, func(s *screen) { recipeScript(s, recipes) })
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "the configuration `FILE`, instead of lbd's")
	nodeFlag(cmd, &node)
	cmd.Flags().StringVar(&ifname, "interface", "eth0", "`NAME` of the backend's interface that the directors reach")
	return cmd
}

// configuration is that of a file, or the one that lbd has in force. The seed of the latter is not known.
func (a *app) configuration(ctx context.Context, file, node string) (*config.Config, error) {
	if file == "" && node != "" {
		return nil, usageError{errors.New("--node is for --file")}
	}
	if file != "" {
		text, err := a.readFile(file)
		if err != nil {
			return nil, err
		}
		return parseShared(file, text, node)
	}
	text, err := a.shownConfig(ctx)
	if errors.Is(err, control.ErrUnreachable) {
		return nil, fmt.Errorf("%w; without it, say what it is to do: --file /etc/lb/lb.yaml", err)
	}
	if err != nil {
		return nil, err
	}
	return new(config.Config).ParseShown("lbd's configuration", text)
}

// shownConfig is what lbd has in force, as everybody may see it. One that hangs is not waited for as long as
// for an answer that takes work.
func (a *app) shownConfig(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := control.Dial(a.socket)
	if err != nil {
		return nil, err
	}
	return client.Config(ctx, false)
}

func recipesOf(cfg *config.Config, service, ifname string) ([]serviceRecipe, error) {
	if cfg.Backend != nil {
		return nil, errors.New("this machine is a backend, and lbd does all of it: ask a director, or give its file")
	}
	var directors []netip.Addr
	for _, n := range cfg.Nodes {
		directors = append(directors, n.Addresses...)
	}
	recipes := []serviceRecipe{}
	var names []string
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Forward == lb.ForwardLocal {
			continue
		}
		names = append(names, s.Name)
		if service != "" && s.Name != service {
			continue
		}
		b := recipe.Backend{Interface: ifname, Method: s.Forward, Encap: s.Encap, VIPs: s.VIPs, Directors: directors}
		recipes = append(recipes, serviceRecipe{s.Name, s.Forward.String(), s.VIPs, ifname, b.Steps()})
	}
	switch {
	case len(names) == 0:
		return nil, errors.New("no service forwards to backends")
	case len(recipes) == 0:
		slices.Sort(names)
		return nil, fmt.Errorf("no service %q forwards to backends (have: %s)", service, strings.Join(names, ", "))
	}
	return recipes, nil
}

// recipeScript is for sh: what people need to know is a comment.
func recipeScript(s *screen, recipes []serviceRecipe) {
	for i, r := range recipes {
		if i > 0 {
			s.line("")
		}
		var vips []string
		for _, vip := range r.VIPs {
			vips = append(vips, vip.String())
		}
		s.line("# A backend of service %s: %s, forward: %s", r.Service, strings.Join(vips, ", "), r.Method)
		for _, step := range r.Steps {
			s.line("# %s", step.Why)
			for _, command := range step.Commands {
				s.line("%s", command)
			}
		}
	}
}
