package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// LoadDecapSpec reads the backend's object that is part of this binary.
var LoadDecapSpec = loadDecap

// DecapReasons are all, by number.
var DecapReasons = decapReasons[:]

// NewDecap loads the backend's program over maps of its own, attached to nothing.
func NewDecap(want Tunnels) (*Decap, error) {
	spec, err := loadDecap()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	d, err := newDecap(Options{}, spec, nil)
	if err != nil {
		return nil, err
	}
	return d, d.SetAddresses(want)
}

// SetAddresses changes what the program knows.
func (d *Decap) SetAddresses(want Tunnels) error { return d.writeAddresses(want) }

// XDP is the program itself.
func (d *Decap) XDP() *ebpf.Program { return d.programs.Programs["lb_decap"] }
