package daemon

import (
	"context"
	"net/http"
	"os"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
)

// daemon is what the control socket may do.
func (s *realServer) daemon() control.Daemon {
	return control.Daemon{
		Status:     s.status,
		ConfigYAML: func(bool) []byte { return s.inForce().YAML() },
		ConfigDiff: func(candidate []byte) (control.ConfigDiff, error) {
			fresh, err := s.inForce().ParseShown("candidate", candidate)
			if err != nil {
				return control.ConfigDiff{}, err
			}
			return control.ConfigDiff{Changes: config.Diff(s.inForce(), fresh)}, nil
		},
		Reload:   s.reload,
		Admin:    func(context.Context, control.AdminRequest) error { return errNoNode },
		Move:     func(context.Context, control.MoveRequest) error { return errNoNode },
		Backends: func(context.Context, control.BackendRequest) error { return errNoNode },
		Keys: func(context.Context, control.KeysRequest) (control.KeyRotation, error) {
			return control.KeyRotation{}, errNoNode
		},
		Events: s.events.after,
	}
}

var errNoNode = &control.Error{Code: http.StatusConflict, Message: "this machine is a backend: it is in no cluster; ask a node"}

func (s *realServer) inForce() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

func (s *realServer) status(context.Context) (control.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.cfg.Backend
	status := control.Status{
		Version: s.opts.Version, PID: os.Getpid(), Started: s.started, Node: hostName(), Generation: s.generation,
		Config: control.ConfigStatus{File: s.opts.Config, LoadedAt: s.loadedAt},
		Drift:  s.drift,
		RealServer: &control.RealServer{
			Interface: b.Interface, Method: b.Method.String(), VIPs: b.VIPs, Directors: b.Directors,
		},
	}
	if s.applyError != nil {
		status.Problems = append(status.Problems, s.applyError.Error())
	}
	if s.loadError != nil {
		status.Config.LastError = s.loadError.Error()
		status.Problems = append(status.Problems, "the newest configuration is not in force: "+s.loadError.Error())
	}
	for _, d := range s.drift {
		status.Problems = append(status.Problems, "changed by somebody else: "+d)
	}
	for _, a := range s.attached {
		status.Attach = append(status.Attach, control.Attachment{Interface: a.Interface, Mode: string(a.Mode), ProgramID: a.ProgramID})
	}
	if s.decap == nil {
		return status, nil
	}
	counters, err := s.decap.Counters()
	for _, c := range counters {
		status.RealServer.Tunnels = append(status.RealServer.Tunnels, control.TunnelCount{
			Reason: c.Reason, Verdict: string(c.Verdict), Count: control.Count{Packets: c.Packets, Bytes: c.Bytes},
		})
	}
	return status, err
}
