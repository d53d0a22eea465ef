package datapath

import (
	"github.com/cilium/ebpf"
)

// Verbs are the names of the verbs, by number.
var Verbs = verbs[:]

// LoadSpec reads the object that is part of this binary.
var LoadSpec = loadLb

// Long is the program that goes the long way, whatever the frame.
func (i *Instance) Long() *ebpf.Program { return i.programs.Programs["lb_trace"] }
