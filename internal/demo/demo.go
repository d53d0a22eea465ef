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
	"regexp"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

// A Scenario is what happens while clients are served.
type Scenario string

// The scenarios. In the first two the nodes are those of the file; in the others they are members
// of a cluster that decides by itself who owns what. In the last ones two nodes are directors, and the
// others backends behind them.
const (
	Serve          Scenario = "serve"           // nothing
	Restart        Scenario = "restart"         // every lbd is restarted and killed in turn
	Drain          Scenario = "drain"           // a node is drained and undrained
	Join           Scenario = "join"            // a node is added
	RollingRestart Scenario = "rolling-restart" // every lbd takes its leave and starts again
	Crash          Scenario = "crash"           // a node dies
	Partition      Scenario = "partition"       // a node is cut off from the others, and healed
	Failover       Scenario = "failover"        // one node at a time has the VIPs; they move, and their node dies
	DR             Scenario = "dr"              // directors rewrite MACs, backends answer clients by themselves
	Tunnel         Scenario = "tunnel"          // the same with packets in packets, to backends anywhere
	NAT            Scenario = "nat"             // directors rewrite addresses, and are the backends' way back
	BackendDrain   Scenario = "backend-drain"   // as dr, and a backend is drained and undrained
)

// Scenarios lists all.
var Scenarios = []Scenario{Serve, Restart, Drain, Join, RollingRestart, Crash, Partition, Failover, DR, Tunnel, NAT, BackendDrain}

// members says whether the nodes are members of a cluster.
func (s Scenario) members() bool { return s != Serve && s != Restart }

// planned says whether all that happens is meant to.
func (s Scenario) planned() bool {
	return s == Drain || s == Join || s == RollingRestart || s == BackendDrain
}

// faulty says whether a node goes without a word.
func (s Scenario) faulty() bool { return s == Crash || s == Partition || s == Failover }

// lasts says whether nothing happens but time.
func (s Scenario) lasts() bool { return s == Serve || s == DR || s == Tunnel || s == NAT }

// Options say what to show.
type Options struct {
	Scenario    Scenario
	Nodes       int           // that serve, 1..16; at least 2 where one of them leaves or comes, 3 for Partition
	Attach      string        // native or generic
	Duration    time.Duration // of Serve, DR, Tunnel and NAT; the others end by themselves
	Connections int           // those end after so many instead; 0: after Duration
	Name        string        // demos of different names can run at a time; "" is one, too
	Keep        bool          // leave everything running, for Clean or a demo that is to Replace it to remove
	Replace     bool          // a demo that was kept
	Progress    io.Writer     // for people; one line for each step and a picture of the shares
	Terminal    bool          // Progress is a terminal: the picture is drawn in place
}

// Validate tells what cannot be served.
func (o *Options) Validate() error {
	switch {
	case !slices.Contains(Scenarios, o.Scenario):
		return fmt.Errorf("scenario %q is not one of %v", o.Scenario, Scenarios)
	case o.Nodes < 1 || o.Nodes > 16:
		return fmt.Errorf("%d nodes are not 1 to 16", o.Nodes)
	case o.Nodes < 2 && o.Scenario.members() && !o.Scenario.lasts():
		return fmt.Errorf("scenario %s needs 2 nodes", o.Scenario)
	case o.Nodes < 3 && o.Scenario == Partition:
		return fmt.Errorf("scenario %s needs 3 nodes: of two, none is the majority", o.Scenario)
	case o.Attach != "native" && o.Attach != "generic":
		return fmt.Errorf("attach %q is not native or generic", o.Attach)
	case o.Duration <= 0:
		return fmt.Errorf("a duration of %s is not positive", o.Duration)
	case !validName.MatchString(o.Name):
		return fmt.Errorf("name %q is not of up to 8 letters and digits", o.Name)
	case o.Connections < 0:
		return fmt.Errorf("%d connections are not 1 or more", o.Connections)
	case o.Connections > 0 && !o.Scenario.lasts():
		return fmt.Errorf("scenario %s ends by itself, not after some connections", o.Scenario)
	}
	return nil
}

// validName is short, as a namespace's name is it and more.
var validName = regexp.MustCompile(`^[a-z0-9]{0,8}$`)

// Run builds the cluster, plays the scenario and removes everything. It removes first what a demo
// that was killed left behind, and what one kept if it is to. The options are valid. Needs root.
func Run(ctx context.Context, opts Options) (*Result, error) {
	programs, err := findBinaries()
	if err != nil {
		return nil, err
	}
	p := placeOf(opts.Name)
	lock, err := p.claim(ctx)
	if err != nil {
		return nil, err
	}
	defer p.release(lock)
	if p.isKept() && !opts.Replace {
		return nil, fmt.Errorf("a demo was kept and still runs (namespaces %s*): --replace or --clean removes it, and --name makes another one beside it", p.prefix)
	}
	if err := p.sweep(); err != nil {
		return nil, fmt.Errorf("remove what an earlier demo left: %w", err)
	}
	lab, err := netlab.New(p.prefix)
	if err != nil {
		return nil, err
	}
	c := &cluster{opts: opts, place: p, binaries: programs}
	result, err := c.run(ctx, lab)
	if ctx.Err() != nil {
		err = errors.New("interrupted; everything is removed")
	}
	if opts.Keep && ctx.Err() == nil {
		c.explain()
		return result, errors.Join(err, os.WriteFile(p.kept(), nil, 0o600))
	}
	// processes while their namespaces have names, then the threads that hold these, then the rest
	return result, errors.Join(err, p.endProcesses(), lab.Close(), p.sweep())
}

// Clean removes what an earlier demo of that name left, or kept. Needs root.
func Clean(ctx context.Context, name string) error {
	p := placeOf(name)
	lock, err := p.claim(ctx)
	if err != nil {
		return err
	}
	defer p.release(lock)
	return p.sweep()
}
