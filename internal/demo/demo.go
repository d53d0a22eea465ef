// Package demo shows a whole cluster on one machine: a client, nodes and a switch in network
// namespaces of their own, with real lbds, real servers and real connections. It touches nothing else
// and removes all that it made.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
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
	Scenario    Scenario
	Nodes       int           // 1..16
	Attach      string        // native or generic
	Duration    time.Duration // of Serve; Restart ends by itself
	Connections int           // Serve ends after so many instead; 0: after Duration
	Keep        bool          // leave everything running, for the next demo or Clean to remove
	Progress    io.Writer     // for people; one line for each step and a picture of the shares
	Terminal    bool          // Progress is a terminal: the picture is drawn in place
}

// A Result is what the clients saw.
type Result struct {
	Scenario         Scenario       `json:"scenario"`
	Connections      int            `json:"connections"`       // made, half of them over IPv6
	Broken           int            `json:"broken"`            // failed, or held ones that broke
	PerNode          map[string]int `json:"per_node"`          // who answered
	DuplicateAnswers int            `json:"duplicate_answers"` // SYNs that two nodes answered
	StalledOver1s    int            `json:"stalled_over_1s"`   // answers that took longer, as after a lost SYN
	LongestGapMS     float64        `json:"longest_gap_ms"`    // slowest answer, of a new connection or a held one
}

// Failed tells what did not go as it should, or returns nil. A slow answer is no failure by itself:
// the machine may be busy.
func (r *Result) Failed() error {
	var wrong []string
	if r.Connections == 0 {
		wrong = append(wrong, "no connection was made")
	}
	if r.Broken > 0 {
		wrong = append(wrong, fmt.Sprintf("%d connections broke", r.Broken))
	}
	if r.DuplicateAnswers > 0 {
		wrong = append(wrong, fmt.Sprintf("%d connections were answered twice", r.DuplicateAnswers))
	}
	for _, name := range slices.Sorted(maps.Keys(r.PerNode)) {
		if r.PerNode[name] == 0 {
			wrong = append(wrong, name+" answered nobody")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, ", "))
}

// Validate tells what cannot be served.
func (o *Options) Validate() error {
	switch {
	case !slices.Contains(Scenarios, o.Scenario):
		return fmt.Errorf("scenario %q is not one of %v", o.Scenario, Scenarios)
	case o.Nodes < 1 || o.Nodes > 16:
		return fmt.Errorf("%d nodes are not 1 to 16", o.Nodes)
	case o.Attach != "native" && o.Attach != "generic":
		return fmt.Errorf("attach %q is not native or generic", o.Attach)
	case o.Duration <= 0:
		return fmt.Errorf("a duration of %s is not positive", o.Duration)
	case o.Connections < 0:
		return fmt.Errorf("%d connections are not 1 or more", o.Connections)
	case o.Connections > 0 && o.Scenario != Serve:
		return fmt.Errorf("scenario %s ends when every lbd was restarted, not after some connections", o.Scenario)
	}
	return nil
}

// Run builds the cluster, plays the scenario and removes everything. It removes first what a demo
// that was killed, or kept its cluster, left behind. The options are valid. Needs root.
func Run(ctx context.Context, opts Options) (*Result, error) {
	programs, err := findBinaries()
	if err != nil {
		return nil, err
	}
	lock, err := claim(ctx)
	if err != nil {
		return nil, err
	}
	defer release(lock)
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("remove what an earlier demo left: %w", err)
	}
	lab, err := netlab.New(prefix)
	if err != nil {
		return nil, err
	}
	c := &cluster{opts: opts, binaries: programs}
	result, err := c.run(ctx, lab)
	if ctx.Err() != nil {
		err = errors.New("interrupted; everything is removed")
	}
	if err == nil && opts.Keep {
		c.explain()
		return result, nil
	}
	// processes while their namespaces have names, then the threads that hold these, then the rest
	return result, errors.Join(err, endProcesses(), lab.Close(), sweep())
}

// Clean removes what an earlier demo left. Needs root.
func Clean(ctx context.Context) error {
	lock, err := claim(ctx)
	if err != nil {
		return err
	}
	defer release(lock)
	return sweep()
}
