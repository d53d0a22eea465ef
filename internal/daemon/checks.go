package daemon

import (
	"fmt"
	"net/netip"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/probe"
)

// checksOf are the checks of a configuration, in the words of those who probe. Those of a service that
// forwards are about each of its backends.
func checksOf(cfg *config.Config) ([]probe.Check, error) {
	var all []probe.Check
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Checks {
			c := &s.Checks[j]
			kind, err := probe.ParseKind(c.Kind.String())
			if err != nil {
				return nil, err
			}
			check := probe.Check{
				Service: s.Name, Name: c.Name, Target: netip.AddrPortFrom(c.Address, c.Port), Spec: specOf(kind, c),
				Rule: health.Rule{
					Interval: c.Interval, FastInterval: c.FastInterval, Timeout: c.Timeout,
					Rise: c.Rise, Fall: c.Fall, Start: startOf(c.Start), Keep: c.Results,
				},
			}
			if s.Forward == lb.ForwardLocal {
				all = append(all, check)
			} else {
				all = append(all, ofBackends(check, s, c)...)
			}
		}
	}
	return all, nil
}

// ofBackends makes a check one of each backend that takes part, and of each VIP if it is to go there.
// Who says sorry is the last resort, whatever a check would find.
func ofBackends(check probe.Check, s *config.Service, c *config.Check) []probe.Check {
	var all []probe.Check
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.Down {
			continue
		}
		one := check
		one.Backend = b.Name
		if c.Via != config.ViaVIP {
			one.Target = netip.AddrPortFrom(b.Address, portOf(s, b, c))
			all = append(all, one)
			continue
		}
		for _, vip := range s.VIPs {
			one.Target, one.Dialled = netip.AddrPortFrom(vip, check.Target.Port()), true
			if len(s.VIPs) > 1 {
				one.Name = check.Name + " " + vip.String()
			}
			all = append(all, one)
		}
	}
	return all
}

// portOf is where a backend is asked, unless the check has a port or needs none.
func portOf(s *config.Service, b *config.Backend, c *config.Check) uint16 {
	switch {
	case c.Port != 0 || c.Kind == config.CheckICMP || s.Ports[0] == lb.AllPorts:
		return c.Port
	case b.Port != 0:
		return b.Port
	}
	return s.Ports[0].First
}

// checkEvent is a check that changed its mind.
func checkEvent(node string, r probe.Report) control.Event {
	e := control.Event{
		Kind: "service", Node: node, What: fmt.Sprintf("service %s: check %s is %s", r.Service, r.Name, r.State), Why: r.Result.Detail,
	}
	if r.Backend != "" {
		e.Kind, e.What = "backend", fmt.Sprintf("service %s: backend %s: check %s is %s", r.Service, r.Backend, r.Name, r.State)
	}
	return e
}

func startOf(s config.CheckStart) health.State {
	if s == config.StartDown {
		return health.Down
	}
	return health.Up
}

func specOf(kind probe.Kind, c *config.Check) probe.Spec {
	var status []probe.StatusRange
	for _, r := range c.HTTP.Status {
		status = append(status, probe.StatusRange(r))
	}
	return probe.Spec{
		Kind: kind,
		TCP:  probe.TCPSpec(c.TCP),
		HTTP: probe.HTTPSpec{
			Method: c.HTTP.Method, Path: c.HTTP.Path, Host: c.HTTP.Host, Headers: c.HTTP.Headers, Status: status, Body: c.HTTP.Body,
		},
		TLS:  probe.TLSSpec{NoVerify: !c.TLS.Verify, SNI: c.TLS.SNI},
		Days: c.Days,
		DNS:  probe.DNSSpec{Name: c.DNS.Query, Type: c.DNS.Record, RCode: c.DNS.RCode, Answer: c.DNS.Answer},
		Exec: probe.ExecSpec{Command: c.Command},
		File: probe.FileSpec(c.File),
		Ask:  c.AgentSend,
	}
}

// nodeHealth is what the checks say about this node, by service. Why they do is told by its status.
func (p *planner) nodeHealth() map[string]health.Service {
	services := make(map[string]health.Service)
	for about, said := range p.checks.Health() {
		if about.Backend == "" {
			said.Why = nil
			services[about.Service] = said
		}
	}
	return services
}
