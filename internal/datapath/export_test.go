package datapath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/lbctl/lbctl/internal/lb"
)

// Verbs are the names of the verbs, by number.
var Verbs = verbs[:]

// LoadSpec reads the object that is part of this binary.
var LoadSpec = loadLb

// Long is the program that goes the long way, whatever the frame: loaded when it is first asked for.
func (i *Instance) Long() (*ebpf.Program, error) {
	if program := i.programs.Programs["lb_trace"]; program != nil {
		return program, nil
	}
	spec, err := sizedSpec(i.set.sizes)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return name != "lb_trace" })
	loaded, err := i.set.loadSpec(spec)
	if err != nil {
		return nil, err
	}
	defer loaded.Close()
	i.programs.Programs["lb_trace"] = loaded.DetachProgram("lb_trace")
	return i.programs.Programs["lb_trace"], nil
}

// RunLong is Run by the long way, whatever the frame.
func (i *Instance) RunLong(frame []byte, ifindex int) (Outcome, error) {
	program, err := i.Long()
	if err != nil {
		return Outcome{}, err
	}
	return run(program, frame, ifindex)
}

// AttachFilters attaches to an interface what kernels without tcx have.
func (d *Datapath) AttachFilters(index int) error {
	for _, hook := range tcHooks {
		if err := attachFilter(index, hook, d.programs.Programs[hook.program]); err != nil {
			return fmt.Errorf("attach %s: %w", hook.program, err)
		}
	}
	return nil
}

// HotMisfits counts the buckets of which the hot part says something else than their words.
func (i *Instance) HotMisfits() int {
	n := 0
	for b, word := range i.set.tables.items {
		hot := i.set.hot.items[b/int(lbLimitsHOT_BUCKETS)]
		if hot>>(b%int(lbLimitsHOT_BUCKETS)*int(lbHotLayoutHOT_BITS))&uint64(lbHotLayoutHOT_MASK) != hotBits(word) {
			n++
		}
	}
	return n
}

// ForgetHot leaves the hot part as a writer does that is killed before it gets there.
func (i *Instance) ForgetHot() { clear(i.set.hot.items) }

// FlagNames are the names of the flags of a bucket, by bit.
var FlagNames = bucketFlagNames[:]

// LeaseWord is what the program compares the clock with, or LeaseEnded.
func (i *Instance) LeaseWord() uint64 { return atomic.LoadUint64(&i.set.published().Lease) }

// LeaseEnded is the word of a lease that has ended.
const LeaseEnded = leaseEnded

// SpoilLease makes the lease end at a time that the timer knows nothing of.
func (i *Instance) SpoilLease(until time.Duration) {
	atomic.StoreUint64(&i.set.published().Lease, uint64(until))
}

// UndecideFragments makes first fragments that were sent from a VIP ones whose place and port are still looked for,
// as a program on another processor finds them.
func (i *Instance) UndecideFragments() error {
	const wanted, sourced = 1 << 22, 1 << 23
	return i.changeFragments(func(value *lbFragment) {
		if value.Target&sourced != 0 {
			value.Target = value.Target&^(uint32(lbLimitsBACKENDS)-1) | wanted
		}
	})
}

// AgeFragments makes all first fragments that the program remembers older.
func (i *Instance) AgeFragments(by time.Duration) error {
	return i.changeFragments(func(value *lbFragment) { value.SeenNs -= uint64(by) })
}

func (i *Instance) changeFragments(change func(*lbFragment)) error {
	m := i.set.maps["fragments"]
	changed := make(map[lbFragmentKey]lbFragment)
	var key lbFragmentKey
	var value lbFragment
	it := m.Iterate()
	for it.Next(&key, &value) {
		change(&value)
		changed[key] = value
	}
	for key, value := range changed {
		if err := m.Put(&key, &value); err != nil {
			return fmt.Errorf("change a fragment: %w", err)
		}
	}
	return it.Err()
}

// A Sampler reads the drops that an instance sampled.
type Sampler struct {
	view   View
	reader *ringbuf.Reader
}

// Sampler returns a reader, of which there may be one.
func (i *Instance) Sampler() (*Sampler, error) {
	reader, err := ringbuf.NewReader(i.set.maps["drops"])
	return &Sampler{View{set: i.set}, reader}, err
}

// Close ends reading.
func (s *Sampler) Close() { _ = s.reader.Close() }

// Take returns what was sampled since the last call.
func (s *Sampler) Take() ([]Drop, error) {
	s.reader.SetDeadline(time.Now())
	var drops []Drop
	for {
		record, err := s.reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return drops, nil
		}
		if err != nil {
			return drops, err
		}
		drop, err := s.view.drop(record.RawSample)
		if err != nil {
			return drops, err
		}
		drops = append(drops, drop)
	}
}

// A Routing is what Datapath.Routes does, for an instance.
type Routing struct {
	instance *Instance

	mu      sync.Mutex
	routes  *lb.Routes
	renewed time.Time
}

// Routing has no routes at first.
func (i *Instance) Routing() *Routing { return &Routing{instance: i} }

// Give is Datapath.Routes.
func (r *Routing) Give(routes *lb.Routes) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	set, before := r.instance.set, r.routes
	if routes == nil || before != nil && before != routes && !sameTables(before, routes) {
		set.dropRoutes()
		r.routes, before = nil, nil
	}
	if routes == nil {
		return nil
	}
	if before != routes {
		if _, err := set.follow(routes, before, func(write func()) bool { write(); return true }); err != nil {
			return err
		}
		r.routes = routes
	}
	r.renewed = time.Now()
	return countRoutes(r.instance.programs.Programs["lb_routes"])
}

// Counts says whether packets go by the routes.
func (r *Routing) Counts() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.routes != nil && time.Since(r.renewed) < RoutesLease
}

// Used is Datapath.UsedNeighbours.
func (r *Routing) Used() []netip.Addr { return r.instance.set.takeUsed() }

// Keep is Give for good.
func (r *Routing) Keep(routes *lb.Routes) error {
	err := r.Give(routes)
	atomic.StoreUint64(&r.instance.set.published().Routes.Until, 1<<62)
	return err
}

// A Tracer is a view that loads the program once for many traces.
type Tracer struct {
	view     *View
	instance *Instance
}

// Tracer returns one for the caller to close.
func (v *View) Tracer() (*Tracer, error) {
	instance, err := v.privateInstance()
	return &Tracer{v, instance}, err
}

// Trace is View.Trace.
func (t *Tracer) Trace(frame []byte, iface string) (*Trace, error) {
	for _, name := range []string{traceMap, "fragments"} { // what one trace would tell the next
		if err := empty(t.instance.programs.Maps[name]); err != nil {
			return nil, fmt.Errorf("empty map %s: %w", name, err)
		}
	}
	return t.view.traceIn(t.instance, frame, iface)
}

// Close frees the program.
func (t *Tracer) Close() { t.instance.programs.Close() }
