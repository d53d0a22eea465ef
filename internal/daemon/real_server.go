package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
	"github.com/lbctl/lbctl/internal/netmon"
)

// A realServer keeps a machine equal to the file of a backend: it holds VIPs that directors announce,
// and takes off their tunnels.
type realServer struct {
	opts    Options
	started time.Time
	host    *netconf.Host
	changes chan netmon.Event
	events  history

	mu         sync.Mutex // what follows
	decap      *datapath.Decap
	cfg        *config.Config
	loadedAt   time.Time
	loadError  error
	applyError error
	attached   []datapath.AttachedDevice
	drift      []string
	generation uint64
	ready      bool
}

// runRealServer serves until ctx ends, then leaves or withdraws as the configuration says.
func runRealServer(ctx context.Context, opts Options, cfg *config.Config, listener net.Listener, hangup <-chan os.Signal) error {
	if err := withdrawNode(ctx, opts); err != nil {
		return fmt.Errorf("take off what this machine had as a node: %w", err)
	}
	s := &realServer{
		opts:     opts,
		started:  time.Now(),
		host:     netconf.New(filepath.Join(opts.StateDir, "host.json")),
		changes:  make(chan netmon.Event, 1),
		cfg:      cfg,
		loadedAt: time.Now(),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.run(ctx, hangup) })
	group.Go(func() error { return netmon.Run(ctx, s.changed) })
	group.Go(func() error { return control.Serve(ctx, listener, s.daemon().Handler(), opts.Log) })
	return group.Wait()
}

// withdrawNode takes off what a node's lbd left on this machine.
func withdrawNode(ctx context.Context, opts Options) error {
	if err := newFirewall(opts).Withdraw(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(opts.BPFDir, "links")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	path, err := datapath.Open(datapath.Options{Dir: opts.BPFDir, Log: opts.Log})
	if err != nil {
		return err
	}
	return path.Withdraw()
}

func (s *realServer) changed(event netmon.Event) {
	select {
	case s.changes <- event:
	default: // one note is enough: all of it is looked at again
	}
}

func (s *realServer) run(ctx context.Context, hangup <-chan os.Signal) error {
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	retry := retryFirst
	again := time.After(0)
	pruning := false
	for {
		select {
		case <-ctx.Done():
			return s.leave(context.WithoutCancel(ctx))
		case <-hangup:
			if _, err := s.reload(ctx); err != nil {
				s.opts.Log.Error("configuration not reloaded; the old one stays in force", "err", err)
			}
		case <-s.changes:
			again = time.After(quiet)
		case <-prune.C:
			again, pruning = time.After(0), true
		case <-again:
			again = nil
			err := s.repair(ctx, pruning)
			pruning = false
			if err != nil {
				again = time.After(retry)
				retry = min(2*retry, retryLast)
				break
			}
			retry = retryFirst
		}
	}
}

// repair notes what others changed, and makes all equal to the file again.
func (s *realServer) repair(ctx context.Context, pruning bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready {
		s.look(ctx, pruning)
	}
	return s.apply(ctx)
}

// look tells what others changed and nobody was told of yet. It stays in the status until the next
// pruning, however soon it is repaired.
func (s *realServer) look(ctx context.Context, pruning bool) {
	found, err := s.host.Check(ctx, s.want())
	if err != nil {
		s.opts.Log.Warn("the host could not be checked", "err", err)
	}
	var lines []string
	if s.decap != nil {
		lines = s.decap.Missing()
	}
	for _, d := range found {
		lines = append(lines, d.String())
	}
	known := s.drift
	if pruning {
		s.drift = nil
	}
	for _, line := range lines {
		if !slices.Contains(s.drift, line) {
			s.drift = append(s.drift, line)
		}
		if !slices.Contains(known, line) {
			s.opts.Log.Warn("somebody changed what is ours", "drift", line)
			s.events.add(control.Event{Kind: "drift", Node: hostName(), What: line})
		}
	}
}

// want is what the host is to hold.
func (s *realServer) want() netconf.Want {
	want := netconf.Want{Backend: true}
	for _, a := range s.cfg.Backend.VIPs {
		want.VIPs = append(want.VIPs, lb.VIP{Addr: a, Interface: s.cfg.Backend.Interface, Announce: lb.AnnounceNone})
	}
	return want
}

// apply logs a failure that is new.
func (s *realServer) apply(ctx context.Context) error {
	err := errors.Join(s.host.Set(ctx, s.want()), s.setTunnels())
	if err != nil {
		if s.applyError == nil || s.applyError.Error() != err.Error() {
			s.opts.Log.Error("not all is applied; trying again", "err", err)
			notifyStatus(s.opts.Log, "not all is applied: "+err.Error())
		}
		s.applyError = err
		return err
	}
	if s.applyError != nil {
		s.applyError = nil
		notifyStatus(s.opts.Log, "serving")
	}
	if !s.ready {
		s.ready = true
		s.generation++
		notify(s.opts.Log, "READY=1\nSTATUS=serving")
		s.opts.Log.Info("serving as a backend", "method", s.cfg.Backend.Method.String(), "vips", len(s.cfg.Backend.VIPs))
	}
	return nil
}

// setTunnels attaches the program that takes tunnels off, or takes it away.
func (s *realServer) setTunnels() error {
	b := s.cfg.Backend
	if b.Method != lb.ForwardTunnel {
		return s.withdrawTunnels()
	}
	if s.decap == nil {
		d, err := datapath.OpenDecap(datapath.Options{Dir: s.opts.BPFDir, Log: s.opts.Log})
		if err != nil {
			return fmt.Errorf("open the program for tunnels: %w", err)
		}
		s.decap = d
	}
	own, err := ownAddresses(b.VIPs)
	if err != nil {
		return err
	}
	s.decap.SetMode(datapath.Mode(s.cfg.Attach))
	s.attached, err = s.decap.Set(datapath.Tunnels{
		Interfaces: []string{b.Interface}, Own: own, Directors: b.Directors, VIPs: b.VIPs,
	})
	return err
}

func (s *realServer) withdrawTunnels() error {
	if s.decap != nil {
		s.decap.Close()
	}
	s.decap, s.attached = nil, nil
	return datapath.WithdrawDecap(s.opts.BPFDir)
}

// ownAddresses are those that tunnels to this machine can end at.
func ownAddresses(vips []netip.Addr) ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var own []netip.Addr
	for _, a := range all {
		ipNet, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(ipNet.IP)
		if addr = addr.Unmap(); addr.IsGlobalUnicast() && !slices.Contains(vips, addr) {
			own = append(own, addr)
		}
	}
	return own, nil
}

// reload reads the file again. A file that is invalid, or cannot be applied, changes nothing.
func (s *realServer) reload(ctx context.Context) (control.ReloadResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	notifyReloading(s.opts.Log)
	defer notify(s.opts.Log, "READY=1")
	fresh, err := config.Load(s.opts.Config)
	if err == nil && fresh.Backend == nil {
		err = errRoleChanged
	}
	if err != nil {
		s.loadError = err
		return control.ReloadResult{}, err
	}
	old := s.cfg
	s.cfg = fresh
	if err := s.apply(ctx); err != nil {
		s.cfg = old
		s.loadError = fmt.Errorf("apply the new file (the old one stays in force): %w", err)
		return control.ReloadResult{}, errors.Join(s.loadError, s.apply(ctx))
	}
	s.loadedAt, s.loadError = time.Now(), nil
	s.generation++
	changes := config.Diff(old, fresh)
	s.events.add(control.Event{
		Kind: "config", Node: hostName(), What: fmt.Sprintf("%d changes of the configuration are in force", len(changes)),
	})
	s.opts.Log.Info("configuration reloaded", "changes", len(changes), "gen", s.generation)
	return control.ReloadResult{Generation: s.generation, Changes: changes}, nil
}

// errRoleChanged refuses a file that makes a running node a backend, or the other way round.
var errRoleChanged = errors.New("role changed: restart lbd to use it")

// leave ends as the configuration says.
func (s *realServer) leave(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	notify(s.opts.Log, "STOPPING=1")
	if s.cfg.Shutdown == config.Leave {
		if s.decap != nil {
			s.decap.Close()
		}
		s.opts.Log.Info("leaving; the kernel goes on serving")
		return nil
	}
	s.opts.Log.Info("withdrawing")
	// the addresses first: what comes out of a tunnel afterwards is for nobody
	return errors.Join(s.host.Withdraw(ctx), s.withdrawTunnels())
}

// hostName is this machine's name; a backend has no other.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
