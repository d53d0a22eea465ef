// Package demo shows a whole cluster on one machine: a client, nodes and a switch in network
// namespaces of their own, with real lbds, real servers and real connections. It touches nothing else
// and removes all that it made.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// Everything that a demo makes is below these names, and what is there is a demo's.
const (
	prefix  = "lbdemo-"
	workDir = "/run/lbdemo"
	pinRoot = "/sys/fs/bpf"
)

// A Scenario is what happens while clients are served.
type Scenario string

// The scenarios.
const (
	Serve   Scenario = "serve"   // nothing
	Restart Scenario = "restart" // every lbd is restarted and killed in turn
)

// Scenarios lists all.
var Scenarios = []Scenario{Serve, Restart}

// Options say what to show.
type Options struct {
	Scenario Scenario
	Nodes    int           // 1..16
	Attach   string        // native or generic
	Duration time.Duration // of Serve; Restart ends by itself
	Keep     bool          // wait for the context to end before removing everything
	LBD      string        // path of the lbd to run
	Progress io.Writer     // for people; one line for each step and a picture of the shares
	Terminal bool          // Progress is a terminal: the picture is drawn in place
}

// ErrUsage means that the options, or who asks, cannot be served.
var ErrUsage = errors.New("demo")

// A Result is what the clients saw.
type Result struct {
	Scenario         Scenario       `json:"scenario"`
	Connections      int            `json:"connections"`       // made, half of them over IPv6
	Broken           int            `json:"broken"`            // failed, or held ones that broke
	PerNode          map[string]int `json:"per_node"`          // who answered
	DuplicateAnswers int            `json:"duplicate_answers"` // SYNs that two nodes answered
	StalledOver1s    int            `json:"stalled_over_1s"`   // connections that took longer: a SYN was lost
	LongestGapMS     float64        `json:"longest_gap_ms"`    // of a held connection
}

// OK says whether it went as it should: nothing broke, and every node had a part.
func (r *Result) OK() bool {
	for _, n := range r.PerNode {
		if n == 0 {
			return false
		}
	}
	return r.Connections > 0 && r.Broken == 0 && r.DuplicateAnswers == 0 && r.StalledOver1s == 0
}

// FindLBD returns the lbd beside the running program, or the one in PATH.
func FindLBD() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if beside := filepath.Join(filepath.Dir(self), "lbd"); exec.Command(beside, "-version").Run() == nil {
		return beside, nil
	}
	found, err := exec.LookPath("lbd")
	if err != nil {
		return "", fmt.Errorf("find lbd beside %s or in PATH: %w", self, err)
	}
	return found, nil
}

// Run builds the cluster, plays the scenario and removes everything. It removes first what a demo
// that was killed left behind.
func Run(ctx context.Context, opts Options) (result *Result, err error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: network namespaces need root", ErrUsage)
	}
	if opts.Nodes < 1 || opts.Nodes > 16 {
		return nil, fmt.Errorf("%w: %d nodes are not 1 to 16", ErrUsage, opts.Nodes)
	}
	unlock, err := lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("remove what an earlier demo left: %w", err)
	}
	defer func() { err = errors.Join(err, sweep()) }()

	lab, err := netlab.New(prefix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	c, err := build(ctx, lab, opts)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	result, err = c.play(ctx)
	if err == nil && opts.Keep {
		c.explain()
		<-ctx.Done()
	}
	return result, err
}

// lock keeps a second demo out. The kernel lets go of it when this process ends, however it does.
func lock() (unlock func(), err error) {
	if err := os.MkdirAll(workDir, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(workDir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		return nil, fmt.Errorf("%w: another demo is running (%s is locked)", ErrUsage, workDir)
	}
	return func() {
		_ = os.Remove(workDir)
		dir.Close()
	}, nil
}

// sweep removes everything of ours: processes in our namespaces, namespaces, pins and files.
func sweep() error {
	pids, err := netlab.Processes(prefix)
	errs := []error{err}
	for _, pid := range pids {
		if pid != os.Getpid() {
			errs = append(errs, ignoreGone(unix.Kill(pid, unix.SIGKILL)))
		}
	}
	errs = append(errs, netlab.Sweep(prefix))
	pins, err := filepath.Glob(filepath.Join(pinRoot, prefix+"*"))
	errs = append(errs, err)
	files, err := filepath.Glob(filepath.Join(workDir, "*"))
	errs = append(errs, err)
	for _, path := range append(pins, files...) {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
