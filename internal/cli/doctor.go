package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/doctor"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/spf13/cobra"
)

// doctorFlags describe a backend on which no lbd runs.
type doctorFlags struct {
	file, node, ifname, method string
	vips, directors            []string
}

func doctorCommand(a *app) *cobra.Command {
	var flags doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find the usual mistakes on a backend or a director, with the fix of each",
		Long: `Looks at this machine and changes nothing. On a backend: VIPs that are not on lo, or elsewhere,
ARP that is answered for them, a strict rp_filter, a way back that is missing or a director, tunnels
that nothing takes off; of nat, a gateway that is no director. On a director: backends that cannot
be reached as the service needs it, tunnels that are too small, routing that is off and needed for
nat, redirects that lead its backends elsewhere, masquerading without an address for it, who cannot
be a client of nat, and, by asking on the link, who else answers for a VIP.

What the machine is to be is known from its lbd, from a file, or for a backend without lbd from
--vips and the flags beside it: with --file, lbd need not answer. Needs root. Exit code 4 when
something is wrong.`,
		Example: `  lbctl doctor
  lbctl doctor --vips 192.0.2.80,2001:db8::80 --interface ens3 --directors 192.0.2.11
  lbctl doctor -o json | jq '.[] | select(.ok == false)'`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.file, "file", "", "the configuration `FILE`, instead of lbd's")
	nodeFlag(cmd, &flags.node)
	f.StringSliceVar(&flags.vips, "vips", nil, "this machine is a backend of these `ADDRESSES`")
	f.StringVar(&flags.ifname, "interface", "eth0", "with --vips: `NAME` of the interface for directors")
	f.StringVar(&flags.method, "method", "dr", "with --vips: how packets come: dr, nat or tunnel")
	f.StringSliceVar(&flags.directors, "directors", nil, "with --vips: the directors' own `ADDRESSES`")
	return cmd
}

func (a *app) doctor(ctx context.Context, flags doctorFlags) error {
	findings, err := a.examine(ctx, flags)
	if findings == nil && err != nil {
		return err
	}
	failed := err
	if err := a.print(findings, func(s *screen) { findingsText(s, findings) }); err != nil {
		return err
	}
	for _, f := range findings {
		if !f.OK && failed == nil {
			failed = errDegraded
		}
	}
	return failed
}

func (a *app) examine(ctx context.Context, flags doctorFlags) ([]doctor.Finding, error) {
	if len(flags.vips) > 0 {
		if flags.file != "" || flags.node != "" {
			return nil, usageError{errors.New("--vips is for a backend without a file: leave out --file and --node")}
		}
		backend, err := flags.backend()
		if err != nil {
			return nil, usageError{err}
		}
		return a.examineBackend(backend)
	}
	cfg, err := a.configuration(ctx, flags.file, flags.node)
	if err != nil {
		return nil, err
	}
	if b := cfg.Backend; b != nil {
		return a.examineBackend(doctor.Backend{Interface: b.Interface, Method: b.Method, VIPs: b.VIPs, Directors: b.Directors})
	}
	return a.examineDirector(ctx, cfg)
}

// backend is what the flags describe.
func (f doctorFlags) backend() (b doctor.Backend, err error) {
	methods := map[string]lb.Forward{"dr": lb.ForwardDR, "nat": lb.ForwardNAT, "tunnel": lb.ForwardTunnel}
	method, known := methods[f.method]
	if !known {
		return b, fmt.Errorf("--method %q: want dr, nat or tunnel", f.method)
	}
	b.Interface, b.Method = f.ifname, method
	if b.VIPs, err = addressList(f.vips); err != nil {
		return b, fmt.Errorf("--vips: %w", err)
	}
	if b.Directors, err = addressList(f.directors); err != nil {
		return b, fmt.Errorf("--directors: %w", err)
	}
	return b, nil
}

func addressList(words []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, word := range words {
		addr, err := netip.ParseAddr(word)
		if err != nil {
			return nil, fmt.Errorf("%q is not an IPv4 or IPv6 address", word)
		}
		list = append(list, addr)
	}
	return list, nil
}

func (a *app) examineBackend(b doctor.Backend) ([]doctor.Finding, error) {
	b.Unwraps = datapath.Unwraps(a.bpfDir, b.Interface)
	return b.Examine()
}

func (a *app) examineDirector(ctx context.Context, cfg *config.Config) ([]doctor.Finding, error) {
	d := directorOf(cfg)
	if len(d.Backends) == 0 {
		return nil, errors.New("no service forwards to backends: there is nothing to look at; see lbctl status")
	}
	view, err := datapath.OpenView(a.bpfDir)
	if err == nil {
		defer view.Close()
		d.Claims = func() (map[netip.Addr]uint64, error) { return claims(view) }
	}
	findings, examined := d.Examine(ctx)
	if err != nil {
		err = fmt.Errorf("nobody was asked who answers for VIPs: %w", err)
	}
	return findings, errors.Join(examined, err)
}

// directorOf lists each backend of each service that forwards.
func directorOf(cfg *config.Config) doctor.Director {
	d := doctor.Director{Masquerade: cfg.Masquerade}
	for i := range cfg.VIPs {
		d.VIPs = append(d.VIPs, doctor.VIP{Addr: cfg.VIPs[i].Address, Interface: cfg.VIPs[i].Interface})
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Forward == lb.ForwardLocal {
			continue
		}
		v6 := false // whose headers are longer, if any VIP is IPv6
		for _, vip := range s.VIPs {
			v6 = v6 || vip.Is6()
		}
		all := lb.ProtocolAny
		if slices.Equal(s.Ports, []lb.PortRange{lb.AllPorts}) {
			all = s.Protocol
		}
		for _, b := range s.Backends {
			d.Backends = append(d.Backends, doctor.Target{
				Service: s.Name, Name: b.Name, Addr: b.Address, Method: s.Forward, Encap: s.Encap, MSS: int(s.MSS), V6: v6,
				Protocol: all, SourceNAT: s.SourceNAT,
			})
		}
	}
	return d
}

// claims is how often another machine claimed each VIP, as the datapath counted.
func claims(view *datapath.View) (map[netip.Addr]uint64, error) {
	counters, err := view.Counters()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	found := make(map[netip.Addr]uint64)
	for _, c := range counters {
		if c.Reason != "arp-conflict" && c.Reason != "nd-conflict" {
			continue
		}
		_, text, _ := strings.Cut(c.Scope, " ")
		if addr, err := netip.ParseAddr(text); err == nil {
			found[addr] += c.Packets
		}
	}
	return found, nil
}

// findingsText shows what is wrong first, each with its fix.
func findingsText(s *screen, findings []doctor.Finding) {
	wrong := 0
	for _, f := range findings {
		if f.OK {
			continue
		}
		wrong++
		s.line("%s %s %s: %s", s.paint(red, "wrong:"), f.Check, f.Subject, f.Found)
		for _, fix := range f.Fix {
			s.line("    %s", fix)
		}
	}
	if wrong > 0 {
		s.line("")
	}
	s.table([]string{"CHECK", "OF", "FOUND"}, rows(findings, func(f doctor.Finding) []string {
		if f.OK {
			return []string{f.Check, f.Subject, f.Found}
		}
		return []string{f.Check, f.Subject, s.paint(red, "wrong, see above")}
	}))
}
