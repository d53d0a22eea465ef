package datapath

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
)

const (
	readAtOnce     = 4096 // entries, by one system call
	resolvedAtOnce = 256  // entries, notes or news while a Set waits: well below a millisecond
)

// A look reads what is remembered of flows. What it reads it has by maps of its own, without keeping a
// Set waiting; what the numbers in it mean it asks for a few entries at a time.
type look struct {
	d    *Datapath
	maps map[string]*ebpf.Map

	// What numbers meant last, and when that was written.
	owners  map[uint32]regionOwner
	written uint64

	// The connections of backends when it began, and which of them it found.
	set       *mapSet
	pools     map[string]uint32
	before    []lbLoad
	found     []uint64
	renumbers bool // since it began, so that nothing can be said of connections
}

// look begins one; nil before the first Set.
func (d *Datapath) look() (*look, error) {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return nil, nil
	}
	l := &look{d: d, set: d.maps, maps: make(map[string]*ebpf.Map)}
	for _, name := range []string{"exceptions", "sources", "returns"} {
		clone, err := d.maps.maps[name].Clone()
		if err != nil {
			l.close()
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		l.maps[name] = clone
	}
	l.before = slices.Clone(d.maps.loads.items)
	l.found = make([]uint64, len(l.before))
	if err := l.renumber(); err != nil {
		l.close()
		return nil, err
	}
	l.pools = scheduledPools(l.owners)
	return l, nil
}

func (l *look) close() { closeMaps(l.maps) }

// renumber asks what numbers mean; they must not change meanwhile.
func (l *look) renumber() (err error) {
	l.owners, err = l.d.maps.regionOwners()
	l.written = l.d.written
	return err
}

// each calls do for indices below n, with numbers that mean what owners say. It does not when the
// datapath was closed.
func (l *look) each(n int, do func(s *mapSet, i int)) error {
	for from := 0; from < n; from += resolvedAtOnce {
		err := l.d.resolve(func(s *mapSet) error {
			if l.written != l.d.written {
				if err := l.renumber(); err != nil {
					return err
				}
				l.renumbers = l.renumbers || s != l.set || !maps.Equal(l.pools, scheduledPools(l.owners))
			}
			for i := from; i < min(n, from+resolvedAtOnce); i++ {
				do(s, i)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resolve calls do, while a Set waits. Nothing is called when there are no maps.
func (d *Datapath) resolve(do func(*mapSet) error) error {
	d.numbers.RLock()
	defer d.numbers.RUnlock()
	if d.maps == nil {
		return nil
	}
	return do(d.maps)
}

// scheduledPools are the pools of services that remember their flows, by name.
func scheduledPools(owners map[uint32]regionOwner) map[string]uint32 {
	pools := make(map[string]uint32)
	for _, owner := range owners {
		if owner.scheduled {
			pools[owner.service] = owner.pool
		}
	}
	return pools
}

// A batch is what one system call read of a hash map. It is good until the next one is read.
type batch[K, V any] struct {
	keys   []K
	values []V
}

// batches are what is in a hash map: each entry once or, where entries come and go meanwhile, twice or never.
func batches[K, V any](m *ebpf.Map) iter.Seq2[batch[K, V], error] {
	return func(yield func(batch[K, V], error) bool) {
		keys, values := make([]K, readAtOnce), make([]V, readAtOnce)
		var cursor ebpf.MapBatchCursor
		for {
			n, err := m.BatchLookup(&cursor, keys, values, nil)
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				yield(batch[K, V]{}, err)
				return
			}
			if n > 0 && !yield(batch[K, V]{keys[:n], values[:n]}, nil) || err != nil {
				return
			}
		}
	}
}
