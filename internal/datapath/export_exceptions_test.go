package datapath

import (
	"fmt"
	"net"
	"time"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/lb"
)

// AgeExceptions makes all that is known of flows of slots in transition older.
func (i *Instance) AgeExceptions(by time.Duration) error {
	exceptions, glimpses := i.set.maps["exceptions"], i.set.maps["glimpses"]
	aged := make(map[lbNotedFlow]lbNoted)
	var key lbNotedFlow
	var value lbNoted
	it := exceptions.Iterate()
	for it.Next(&key, &value) {
		value.SeenNs -= uint64(by) // before the machine was started, perhaps
		value.SinceNs -= uint64(by)
		if value.HeardNs != 0 { // it was heard of
			value.HeardNs -= uint64(by)
		}
		aged[key] = value
	}
	for key, value := range aged {
		if err := exceptions.Put(&key, &value); err != nil {
			return fmt.Errorf("age a noted flow: %w", err)
		}
	}
	const seconds = 1<<19 - 1
	keys, values := make([]uint32, lbLimitsGLIMPSE_SETS), make([]lbGlimpseSet, lbLimitsGLIMPSE_SETS)
	var cursor ebpf.MapBatchCursor
	if n, err := glimpses.BatchLookup(&cursor, keys, values, nil); n != len(keys) {
		return fmt.Errorf("read %d of %d glimpses: %w", n, len(keys), err)
	}
	for i := range values {
		for way, glimpse := range values[i].Ways {
			if glimpse != 0 {
				values[i].Ways[way] = glimpse&^seconds | (glimpse-uint64(by/time.Second))&seconds
			}
		}
	}
	if _, err := glimpses.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("age glimpses: %w", err)
	}
	return it.Err()
}

// Exceptions is Datapath.Exceptions.
func (i *Instance) Exceptions() (list []Exception, err error) {
	d := Datapath{maps: i.set}
	err = d.Exceptions(func(e *Exception) { list = append(list, *e) })
	return list, err
}

// Director is the instance as a Datapath, for what is noted.
func (i *Instance) Director() *Datapath { return &Datapath{maps: i.set} }

// FillExceptions makes entries of a client until there is no room, and returns how many it made.
func (i *Instance) FillExceptions() (int, error) {
	m := i.set.maps["exceptions"]
	keys, values := make([]lbNotedFlow, m.MaxEntries()), make([]lbNoted, m.MaxEntries())
	for n := range keys {
		keys[n] = lbNotedFlow{SrcHi: 1, SrcLo: uint64(n), Protocol: 6}
		values[n].SeenNs = uint64(Monotonic())
	}
	return m.BatchUpdate(keys, values, nil)
}

// Recall is Datapath.Recall.
func (i *Instance) Recall() (map[string]Recalled, error) {
	d := Datapath{maps: i.set}
	return d.Recall()
}

// Write is the part of Set that waits for who reads numbers.
func (d *Datapath) Write(want *lb.State, device func(string) (*net.Interface, error)) error {
	_, err := d.write(d.maps, want, device)
	return err
}

// AllNotes are what Notes yields.
func (d *Datapath) AllNotes(within time.Duration) (all []Note, err error) {
	for notes, err := range d.Notes(within) {
		if err != nil {
			return nil, err
		}
		all = append(all, notes...)
	}
	return all, nil
}

// CloseNews lets go of what News reads.
func (d *Datapath) CloseNews() {
	if d.news != nil {
		_ = d.news.Close()
	}
}

// Grow is what Set does when a state does not fit: another instance, which replaces this one.
func (i *Instance) Grow(want *lb.State, device func(string) (*net.Interface, error)) (*Instance, error) {
	set, err := i.set.grow(sizesFor(want))
	if err != nil {
		return nil, err
	}
	grown := &Instance{set: set}
	if _, err = grown.Set(want, device); err == nil {
		grown.programs, err = set.load(nil)
	}
	if err != nil {
		grown.Close()
		return nil, err
	}
	return grown, nil
}

// Loads is Datapath.Loads.
func (i *Instance) Loads() (map[string][]int, error) {
	d := Datapath{maps: i.set}
	return d.Loads()
}

// Forget makes it as if there had been no flows.
func (i *Instance) Forget() error {
	var keys []lbNotedFlow
	for b, err := range batches[lbNotedFlow, lbNoted](i.set.maps["exceptions"]) {
		if err != nil {
			return err
		}
		keys = append(keys, b.keys...)
	}
	for _, key := range keys {
		if err := i.set.maps["exceptions"].Delete(&key); err != nil {
			return fmt.Errorf("forget a noted flow: %w", err)
		}
	}
	clear(i.set.loads.items)
	sets := make([]uint32, lbLimitsGLIMPSE_SETS)
	for n := range sets {
		sets[n] = uint32(n)
	}
	if _, err := i.set.maps["glimpses"].BatchUpdate(sets, make([]lbGlimpseSet, len(sets)), nil); err != nil {
		return fmt.Errorf("forget glimpses: %w", err)
	}
	for region := range uint32(i.set.sizes.regions) {
		if err := i.set.maps["turns"].Put(region, &lbRota{}); err != nil {
			return fmt.Errorf("begin an order anew: %w", err)
		}
	}
	return nil
}
