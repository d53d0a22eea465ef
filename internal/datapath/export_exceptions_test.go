package datapath

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// AgeExceptions makes all that is known of flows of slots in transition older.
func (i *Instance) AgeExceptions(by time.Duration) error {
	exceptions, glimpses := i.set.maps["exceptions"], i.set.maps["glimpses"]
	aged := make(map[lbNotedFlow]lbNoted)
	var key lbNotedFlow
	var value lbNoted
	it := exceptions.Iterate()
	for it.Next(&key, &value) {
		value.SeenNs -= uint64(by)
		aged[key] = value
	}
	for key, value := range aged {
		if err := exceptions.Put(&key, &value); err != nil {
			return fmt.Errorf("age a noted flow: %w", err)
		}
	}
	const seconds = 1<<19 - 1
	keys, values := make([]uint32, lbLimitsGLIMPSES), make([]uint64, lbLimitsGLIMPSES)
	var cursor ebpf.MapBatchCursor
	if n, err := glimpses.BatchLookup(&cursor, keys, values, nil); n != len(keys) {
		return fmt.Errorf("read %d of %d glimpses: %w", n, len(keys), err)
	}
	for i, glimpse := range values {
		if glimpse != 0 {
			values[i] = glimpse&^seconds | (glimpse-uint64(by/time.Second))&seconds
		}
	}
	if _, err := glimpses.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("age glimpses: %w", err)
	}
	return it.Err()
}

// Exceptions is Datapath.Exceptions.
func (i *Instance) Exceptions() ([]Exception, error) {
	d := Datapath{maps: i.set}
	return d.Exceptions()
}

// Note is Datapath.Note.
func (i *Instance) Note(flows []Exception) error {
	d := Datapath{maps: i.set}
	return d.Note(flows)
}

// Recall is Datapath.Recall.
func (i *Instance) Recall() (map[string]Recalled, error) {
	d := Datapath{maps: i.set}
	return d.Recall()
}
