package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Verbs are the names of the verbs, by number.
var Verbs = verbs[:]

// LoadSpec reads the object that is part of this binary.
var LoadSpec = loadLb

// Long is the program that goes the long way, whatever the frame.
func (i *Instance) Long() *ebpf.Program { return i.programs.Programs["lb_trace"] }

// AttachFilters attaches to an interface what kernels without tcx have.
func (d *Datapath) AttachFilters(index int) error {
	for _, hook := range tcHooks {
		if err := attachFilter(index, hook, d.programs.Programs[hook.program]); err != nil {
			return fmt.Errorf("attach %s: %w", hook.program, err)
		}
	}
	return nil
}
