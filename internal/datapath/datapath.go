package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// DefaultDir is where an lbd pins, unless told otherwise.
const DefaultDir = "/sys/fs/bpf/lb"

// Options say where and how to attach.
type Options struct {
	Dir  string // below a BPF file system; one for each lbd
	Mode Mode   // "" is ModeAuto
	// SocketNetNS is the network namespace of the servers' sockets, as this one calls it (see
	// ip-netns(8), "nsid"); nil when they are where the interfaces are.
	SocketNetNS *int32
	Log         *slog.Logger
}

// A Datapath is the writing side of one pin directory. It is for one goroutine at a time, but for
// Lease, NewLife, CurrentLease and Routes, which may come from others and do not wait for a Set, for
// News, Notes and Take, which are for one other goroutine, and for Exceptions, which is for any. No Set waits
// for more than a moment for those that read or take many flows.
type Datapath struct {
	opts     Options
	attached []AttachedDevice // by the last Set

	// numbers is held while what services and backends are numbered changes, and before mu.
	numbers sync.RWMutex
	written uint64          // how often that was so
	news    *ringbuf.Reader // nil before somebody asked
	// untold is how many news there was no room for when News last looked for them, which was at missedAt.
	untold   uint64
	missedAt time.Duration

	// mu is held while the two change or are used for the lease, never while the kernel loads.
	mu       sync.Mutex
	maps     *mapSet          // nil before the first Set of a fresh directory
	programs *ebpf.Collection // over maps
	routes   *lb.Routes       // the summary that is in routesIn
	routesIn *mapSet
}

// Open takes over what is pinned, if anything, and changes nothing.
func Open(opts Options) (*Datapath, error) {
	if err := mountBPF(opts.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(opts.Dir, "links"), 0o700); err != nil {
		return nil, fmt.Errorf("create pin directory: %w", err)
	}
	if opts.Mode == "" {
		opts.Mode = ModeAuto
	}
	d := &Datapath{opts: opts}
	set, err := loadMapSet(opts.Dir)
	if errors.Is(err, errNoMapSet) {
		opts.Log.Info("starting with empty maps", "dir", opts.Dir, "reason", err)
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	if d.programs, err = set.load(opts.SocketNetNS); err != nil {
		set.close()
		return nil, err
	}
	d.maps = set
	return d, nil
}

// SetMode says how interfaces are attached from the next Set on.
func (d *Datapath) SetMode(mode Mode) { d.opts.Mode = mode }

// Counters returns all that are not zero; none before the first Set.
func (d *Datapath) Counters() ([]Counter, error) {
	if d.maps == nil {
		return nil, nil
	}
	return d.maps.counters()
}

// Missing lists what others removed since the last Set, a line each. Set brings it back.
func (d *Datapath) Missing() []string {
	if d.maps == nil {
		return nil
	}
	var pins []string
	for name := range d.maps.maps {
		pins = append(pins, mapPin(d.opts.Dir, name))
	}
	slices.Sort(pins)
	var missing []string
	for _, pin := range pins {
		if _, err := os.Lstat(pin); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, "pin "+pin+": gone")
		}
	}
	for _, device := range d.attached {
		if line := d.detached(device.Interface); line != "" {
			missing = append(missing, line)
		}
	}
	return missing
}

// use makes a filled map set the one that programs to be attached work with.
func (d *Datapath) use(set *mapSet) error {
	if set == d.maps {
		return d.repin()
	}
	programs, err := set.load(d.opts.SocketNetNS)
	if err != nil {
		return err
	}
	old := held{set, programs}
	if err := d.replace(&old); err != nil {
		programs.Close()
		return err
	}
	old.close()
	return nil
}

// A held is a map set with the programs over it.
type held struct {
	maps     *mapSet
	programs *ebpf.Collection
}

// replace exchanges what is held. A lease that is renewed meanwhile is that of the old set, which the
// new one takes over, or of the new one.
func (d *Datapath) replace(h *held) error {
	d.numbers.Lock()
	defer d.numbers.Unlock()
	d.written++
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps != nil {
		if err := h.maps.inheritLease(d.maps, h.programs); err != nil {
			return err
		}
	}
	// only now: who finds the pins after a crash must find the lease in them
	if err := h.maps.pin(d.opts.Dir); err != nil {
		return err
	}
	d.maps, h.maps = h.maps, d.maps
	d.programs, h.programs = h.programs, d.programs
	return nil
}

func (h *held) close() {
	if h.programs != nil {
		h.programs.Close()
	}
	if h.maps != nil {
		h.maps.close()
	}
}

// repin brings back what others removed from the pin directory.
func (d *Datapath) repin() error {
	for _, sub := range []string{"maps", "links"} {
		if err := os.MkdirAll(filepath.Join(d.opts.Dir, sub), 0o700); err != nil {
			return err
		}
	}
	for name, m := range d.maps.maps {
		pin := mapPin(d.opts.Dir, name)
		if _, err := os.Lstat(pin); errors.Is(err, os.ErrNotExist) {
			if err := pinMap(m, pin); err != nil {
				return fmt.Errorf("pin map %s: %w", name, err)
			}
		}
	}
	return nil
}

// Close lets go of everything; what is pinned and attached goes on without this process.
func (d *Datapath) Close() {
	d.numbers.Lock()
	defer d.numbers.Unlock()
	if d.news != nil {
		_ = d.news.Close()
		d.news = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := held{d.maps, d.programs}
	d.maps, d.programs = nil, nil
	old.close()
}

// Withdraw detaches every program and removes every pin: the machine is as it was before.
func (d *Datapath) Withdraw() error {
	_, err := d.attach(nil)
	d.Close()
	for _, sub := range []string{"maps", "links", ""} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.opts.Dir, sub)))
	}
	return err
}

// mountBPF makes sure that dir is below a BPF file system: the usual one is mounted when nothing is.
func mountBPF(dir string) error {
	const usual = "/sys/fs/bpf"
	on, err := onBPF(dir)
	if on || err != nil {
		return err
	}
	if !strings.HasPrefix(filepath.Clean(dir), usual+"/") {
		return fmt.Errorf("pin directory %s: not on a BPF file system", dir)
	}
	// two that start at once must not mount over each other: that would hide the first one's pins
	point, err := os.Open(usual)
	if err != nil {
		return err
	}
	defer point.Close()
	if err := unix.Flock(int(point.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", usual, err)
	}
	if on, err := onBPF(dir); on || err != nil {
		return err
	}
	if err := unix.Mount("bpf", usual, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a BPF file system on %s: %w", usual, err)
	}
	return nil
}

// onBPF says whether dir, or what there is of it, is on a BPF file system.
func onBPF(dir string) (bool, error) {
	var fs unix.Statfs_t
	for parent := dir; unix.Statfs(parent, &fs) != nil; parent = filepath.Dir(parent) {
		if parent == filepath.Dir(parent) {
			return false, fmt.Errorf("pin directory %s: no such path", dir)
		}
	}
	return fs.Type == unix.BPF_FS_MAGIC, nil
}
