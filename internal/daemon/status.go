package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
)

// daemon is what the control socket may do.
func (p *planner) daemon() control.Daemon {
	return control.Daemon{
		Status: func(ctx context.Context) (status control.Status, err error) {
			asked := p.within(ctx, func() { status, err = p.status() })
			if err := errors.Join(asked, err); err != nil {
				return status, err
			}
			describeChecks(&status, p.checks.Status())
			if p.member == nil {
				return status, nil
			}
			cluster, err := p.member.Status(ctx)
			if err != nil {
				return status, err
			}
			describeCluster(&status, cluster)
			return status, nil
		},
		ConfigYAML: func(seed bool) []byte {
			if seed {
				return p.inForce().YAML()
			}
			return p.inForce().PublicYAML()
		},
		ConfigDiff: p.diff,
		Reload:     p.reload,
		Admin:      p.admin,
		Move:       p.move,
		Backends:   p.adminBackend,
		Keys:       p.rotateKeys,
		Events:     p.events.after,
	}
}

// inForce returns the configuration, which nobody changes: a reload makes another one.
func (p *planner) inForce() (cfg *config.Config) {
	_ = p.within(context.Background(), func() { cfg = p.cfg }) // its context does not end
	return cfg
}

func (p *planner) status() (control.Status, error) {
	s := control.Status{
		Version:    p.opts.Version,
		PID:        os.Getpid(),
		Started:    p.started,
		Cluster:    p.cfg.ClusterName,
		Node:       p.cfg.Node,
		Generation: p.generation,
		Config:     control.ConfigStatus{File: p.opts.Config, LoadedAt: p.loadedAt},
		Drift:      p.drift,
	}
	if p.applyError != nil {
		s.Problems = append(s.Problems, p.applyError.Error())
	}
	if p.loadError != nil {
		s.Config.LastError = p.loadError.Error()
		s.Problems = append(s.Problems, "the newest configuration is not in force: "+p.loadError.Error())
	}
	for _, d := range p.drift {
		s.Problems = append(s.Problems, "changed by somebody else: "+d)
	}
	describeClaims(&s, p.claims)
	describeHooks(&s, p.notices.runner.Status())
	for _, a := range p.report.Attached {
		s.Attach = append(s.Attach, control.Attachment{
			Interface: a.Interface, Mode: string(a.Mode), ProgramID: a.ProgramID,
		})
	}
	if p.state == nil {
		return s, nil
	}
	for _, m := range p.state.Masquerade {
		s.Masquerade = append(s.Masquerade, control.Masquerade{From: m.From, Out: m.Out, To: m.To})
	}
	counters, err := p.path.Counters()
	if err != nil {
		return s, fmt.Errorf("read counters: %w", err)
	}
	describe(&s, p.state, counters)
	loads, err := p.path.Loads()
	if err != nil {
		return s, err
	}
	p.forwarder.loads = loads
	describeBackends(&s, p.cfg, p.state, p.forwarder, p.backendAdmins())
	return s, nil
}

// describe adds what a state serves, and what was counted for it.
func describe(s *control.Status, state *lb.State, counters []datapath.Counter) {
	shares := make([][]float64, len(state.Tables))
	for i, t := range state.Tables {
		shares[i] = sharesOf(t, len(state.Nodes))
	}
	for i := range state.VIPs {
		v := &state.VIPs[i]
		entry := control.VIP{
			Address: v.Addr, Interface: v.Interface, MAC: v.MAC.String(), MACForm: v.MACForm.String(),
			Announce: v.Announce.String(), Other: v.Other.String(),
		}
		if n := state.Local(); n != nil {
			entry.OwnedShare = shares[v.Table][n.Index]
		}
		if n := holderOf(state, v); n != nil && v.Announce == lb.AnnounceFailover {
			entry.Owner = n.Name
		}
		s.VIPs = append(s.VIPs, entry)
	}
	total := make([]float64, len(state.Nodes))
	for i := range state.Services {
		svc := &state.Services[i]
		v := &state.VIPs[svc.VIP]
		entry := control.Service{
			Name: svc.Name, VIP: v.Addr, Protocol: svc.Protocol.String(),
			Hash: svc.Hash.String(), Forward: svc.Forward.String(),
		}
		if svc.Forward != lb.ForwardLocal {
			entry.Scheduler = lb.SchedulerMaglev.String()
		}
		if schedule := svc.Schedule; schedule != nil {
			entry.Scheduler = schedule.Scheduler.String()
			entry.Affinity = schedule.Affinity.Seconds()
		}
		for _, p := range svc.Ports {
			entry.Ports = append(entry.Ports, p.String())
		}
		for n := range state.Nodes {
			entry.Shares = append(entry.Shares, control.Share{Node: state.Nodes[n].Name, Share: shares[svc.Table][n]})
			total[n] += shares[svc.Table][n] / float64(len(state.Services))
		}
		for _, c := range counters {
			if c.Scope != datapath.ServiceScope(svc, v) {
				continue
			}
			count := &entry.Ignored
			if c.Verdict == datapath.VerdictAccept || c.Verdict == datapath.VerdictForward {
				count = &entry.Accepted
			}
			count.Packets += c.Packets
			count.Bytes += c.Bytes
		}
		s.Services = append(s.Services, entry)
	}
	for n := range state.Nodes {
		node := &state.Nodes[n]
		s.Nodes = append(s.Nodes, control.Node{
			Name: node.Name, Addresses: node.Addrs, Weight: node.Weight, Local: node.Local, Share: total[n],
		})
	}
}

// sharesOf is the part of a table's buckets that each node owns, 0..1.
func sharesOf(t *lb.Table, nodes int) []float64 {
	shares := make([]float64, nodes)
	for _, owner := range t.Owners {
		if owner != lb.NoNode {
			shares[owner] += 1.0 / lb.Buckets
		}
	}
	return shares
}
