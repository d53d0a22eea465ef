// Package daemon is lbd: it reads the configuration, keeps kernel and host equal to it, and answers
// on the control socket.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lbctl/lbctl/internal/announce"
	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/firewall"
	"github.com/lbctl/lbctl/internal/hooks"
	"github.com/lbctl/lbctl/internal/netconf"
	"github.com/lbctl/lbctl/internal/netmon"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/probe"
	"github.com/lbctl/lbctl/internal/reconcile"
)

// Where lbd looks and writes unless told otherwise.
const (
	DefaultConfig   = "/etc/lb/lb.yaml"
	DefaultStateDir = "/run/lb"
	DefaultDataDir  = "/var/lib/lb"
	DefaultSocket   = control.DefaultSocket
	DefaultBPFDir   = datapath.DefaultDir
)

// Options say which lbd this is.
type Options struct {
	Config   string // the file, read again on reload
	Socket   string // of control
	BPFDir   string // below a BPF file system
	StateDir string // for what has to be taken back from the host one day; a reboot may empty it
	DataDir  string // for what the cluster decided and this node's identity; it must outlive reboots
	Version  string
	Log      *slog.Logger
}

// Run serves until ctx ends, then leaves or withdraws as the configuration says. hangup asks for a
// reload. A configuration that is invalid at the start is returned as config.Errors.
func Run(ctx context.Context, opts Options, hangup <-chan os.Signal) error {
	cfg, err := config.Load(opts.Config)
	if err != nil {
		return err
	}
	for _, dir := range []string{opts.StateDir, filepath.Dir(opts.Socket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create directory: %w", err)
		}
	}
	if cfg.Membership != nil {
		if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
			return fmt.Errorf("create directory: %w", err)
		}
		if err := hurry(); err != nil {
			opts.Log.Warn("other programs may make this node late", "err", err)
		}
	}
	// the socket is also the lock: two daemons must not share pins
	listener, err := control.Listen(opts.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	if cfg.Backend != nil {
		return runRealServer(ctx, opts, cfg, listener, hangup)
	}
	if err := datapath.WithdrawDecap(opts.BPFDir); err != nil {
		return fmt.Errorf("take off what this machine had as a backend: %w", err)
	}
	path, err := datapath.Open(datapath.Options{Dir: opts.BPFDir, Log: opts.Log})
	if err != nil {
		return fmt.Errorf("open datapath: %w", err)
	}
	p := &planner{
		opts:    opts,
		started: time.Now(),
		path:    path,
		applier: &reconcile.Applier{
			Datapath: path,
			Host:     netconf.New(filepath.Join(opts.StateDir, "host.json")),
			Firewall: newFirewall(opts),
		},
		asks:    make(chan ask),
		changes: make(chan netmon.Event, 1),
		checked: make(chan struct{}, 1),
		stirred: make(chan struct{}, 1),
		notices: newNotices(hooks.NewRunner(filepath.Join(opts.StateDir, "hooks"), opts.Log)),

		announcer: announce.New(opts.Log),
		forwarder: newForwarder(opts.Log),
		routes:    nexthop.NewSummary(opts.Log, path.Routes, path.UsedNeighbours),
	}
	p.checks = probe.NewRunner(probe.Options{
		Node: cfg.Node, Log: opts.Log, Dial: p.forwarder.dialler.dial, Report: func(r probe.Report) { p.probed(cfg.Node, r) },
	})
	if p.forwarder.recalled, err = path.Recall(); err != nil {
		return fmt.Errorf("read what services send to: %w", err)
	}
	if err := p.use(cfg); err != nil {
		return err
	}
	if cfg.Membership != nil {
		if err := p.join(); err != nil {
			return err
		}
		defer p.store.Close()
	}
	return p.serve(ctx, listener, hangup)
}

func newFirewall(opts Options) *firewall.Firewall {
	return firewall.New(filepath.Join(opts.StateDir, "firewall"))
}

// serve runs the tasks until ctx ends or one of them fails.
func (p *planner) serve(ctx context.Context, listener net.Listener, hangup <-chan os.Signal) error {
	group, ctx := errgroup.WithContext(ctx)
	memberCtx, stopMember := context.WithCancel(context.WithoutCancel(ctx))
	hooksCtx, stopHooks := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stopHooks()  // not before they were told how it ended
		defer stopMember() // not before this node has taken its leave
		return p.run(ctx)
	})
	group.Go(func() error { return p.notices.runner.Run(hooksCtx) })
	if p.member != nil {
		group.Go(func() error { return p.member.Run(memberCtx) })
		group.Go(func() error { return p.watchNodes(ctx) })
	}
	group.Go(func() error { return p.checks.Run(ctx) })
	group.Go(func() error { return netmon.Run(ctx, p.changed) })
	group.Go(func() error { return p.announcer.Run(ctx) })
	group.Go(func() error { return p.forwarder.ways.Run(ctx) })
	group.Go(func() error { return p.routes.Run(ctx) })
	group.Go(func() error { return p.forwarder.dialler.passage.Run(ctx) })
	group.Go(func() error {
		return control.Serve(ctx, listener, p.daemon().Handler(), p.opts.Log)
	})
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangup:
				if _, err := p.reload(ctx); err != nil {
					p.opts.Log.Error("configuration not reloaded; the old one stays in force", "err", err)
				}
			}
		}
	})
	return group.Wait()
}

// Invalid says whether Run ended because of what the configuration says, and what that is.
func Invalid(err error) (report string, invalid bool) {
	found, invalid := errors.AsType[config.Errors](err)
	if !invalid {
		return "", false
	}
	return found.Report(), true
}
