package datapath

import (
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// directoryMap is what the loader calls the map that holds the variable "directory", and
// directoryPin its pin: a BPF file system has no names with dots.
const (
	directoryMap = ".bss"
	directoryPin = "directory"
	traceMap     = ".data.trace"
)

// sizes are what a map set has room for. Growing means a new map set and one program swap.
type sizes struct {
	tables  int
	scopes  int
	regions int // of choices and backends, one for each service that forwards
}

// minSizes leaves room to grow without a swap: 4 MiB of tables, 16 KiB of counters a CPU.
var minSizes = sizes{tables: 8, scopes: 32, regions: 1}

// sizesFor returns room for a state, in powers of two.
func sizesFor(want *lb.State) sizes {
	// a table that changes users is written beside the one in use, so there may be twice as many
	need := sizes{
		tables:  max(minSizes.tables, ceilPow2(2*len(want.Tables))),
		scopes:  max(minSizes.scopes, ceilPow2(1+len(want.VIPs)+len(want.Services))),
		regions: minSizes.regions,
	}
	if n := forwarding(want); n > 0 {
		// services that replace others are written beside them, too
		need.regions = max(firstRegions, ceilPow2(2*n))
	}
	return need
}

// firstRegions leaves room for services to come without a swap: 5 MiB.
const firstRegions = 16

// kept are the maps that a larger map set has in common with the one that it replaces: what the
// programs found out about flows, which no Set could write again.
var kept = []string{"glimpses", "exceptions", "sources", "returns", "new_sources", "new_returns", "flows", "fragments", "news", "drops", "nodes"}

// forwarding is the number of services that have backends.
func forwarding(want *lb.State) int {
	n := 0
	for i := range want.Services {
		if want.Services[i].Forward != lb.ForwardLocal {
			n++
		}
	}
	return n
}

func (s sizes) holds(other sizes) bool {
	return s.tables >= other.tables && s.scopes >= other.scopes && s.regions >= other.regions
}

// with is room for both.
func (s sizes) with(other sizes) sizes {
	return sizes{max(s.tables, other.tables), max(s.scopes, other.scopes), max(s.regions, other.regions)}
}

func ceilPow2(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

// A mapSet is every map of one loaded object, with direct access to what is changed in place.
type mapSet struct {
	maps      map[string]*ebpf.Map // by name in the object
	sizes     sizes
	directory *region[lbDirectory]
	tables    *region[uint64]
	hot       *region[uint64]
	choices   *region[uint64]
	backends  *region[lbBackend]
	orders    *region[uint64]
	loads     *region[lbLoad]
	replies   *region[lbReply]
	near      *region[lbNearSet]

	inherited map[uint16]uint32 // regions by scope, of the set that this one replaces
	noted     atomic.Int64      // flows, when they were last looked at
}

// newMapSet creates empty maps in the kernel, pinned nowhere.
func newMapSet(s sizes) (*mapSet, error) { return makeMapSet(s, nil) }

// grow makes a map set that replaces this one. What flows have in their memory by number, services,
// backends, nodes, has the same numbers there.
func (s *mapSet) grow(need sizes) (*mapSet, error) {
	common := make(map[string]*ebpf.Map)
	for _, name := range kept {
		clone, err := s.maps[name].Clone()
		if err != nil {
			closeMaps(common)
			return nil, fmt.Errorf("keep map %s: %w", name, err)
		}
		common[name] = clone
	}
	grown, err := makeMapSet(s.sizes.with(need), common)
	if err != nil {
		return nil, err
	}
	if err := grown.inherit(s); err != nil {
		grown.close()
		return nil, err
	}
	return grown, nil
}

// inherit takes over the numbers of scopes and regions, and what was counted where there is one counter.
func (s *mapSet) inherit(old *mapSet) error {
	labels, err := old.labels()
	if err != nil {
		return err
	}
	for name, scope := range labels {
		var label lbLabel
		setText(label.Text[:], name)
		if err := s.maps["labels"].Put(uint32(scope), &label); err != nil {
			return fmt.Errorf("write label %q: %w", name, err)
		}
	}
	s.inherited = old.regionsInUse()
	s.published().Unnoted, s.published().Untold = old.published().Unnoted, old.published().Untold
	return nil
}

// makeMapSet creates the maps that are not common with another set. Those are its own, even if it fails.
func makeMapSet(s sizes, common map[string]*ebpf.Map) (*mapSet, error) {
	all := make(map[string]*ebpf.Map)
	maps.Copy(all, common)
	spec, err := sizedSpec(s)
	if err != nil {
		closeMaps(all)
		return nil, err
	}
	for name, m := range spec.Maps {
		if !shared(name) || all[name] != nil {
			continue
		}
		if all[name], err = ebpf.NewMap(m); err != nil {
			closeMaps(all)
			return nil, fmt.Errorf("create map %s: %w", name, err)
		}
	}
	if err := noteLayout(all["labels"], spec); err != nil {
		closeMaps(all)
		return nil, err
	}
	return openMapSet(all, s)
}

// noteLayout says whose maps these are, where a label of no scope is.
func noteLayout(labels *ebpf.Map, spec *ebpf.CollectionSpec) error {
	label := lbLabel{}
	setText(label.Text[:], layout(spec))
	if err := labels.Put(uint32(0), &label); err != nil {
		return fmt.Errorf("note the layout: %w", err)
	}
	return nil
}

// shared says whether a map belongs to the map set and not to one program instance.
func shared(name string) bool { return name != traceMap && !strings.HasPrefix(name, ".rodata") }

func sizedSpec(s sizes) (*ebpf.CollectionSpec, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	spec.Maps["tables"].MaxEntries = uint32(s.tables) * uint32(lbLimitsBUCKETS)
	spec.Maps["hot"].MaxEntries = uint32(s.tables) * hotWords
	spec.Maps["choices"].MaxEntries = uint32(s.regions) * uint32(lbLimitsCHOICE_WORDS)
	spec.Maps["backends"].MaxEntries = uint32(s.regions) * uint32(lbLimitsBACKENDS)
	spec.Maps["orders"].MaxEntries = uint32(s.regions) * uint32(lbLimitsORDER_WORDS)
	spec.Maps["loads"].MaxEntries = uint32(s.regions) * uint32(lbLimitsBACKENDS)
	spec.Maps["turns"].MaxEntries = uint32(s.regions)
	spec.Maps["counters"].MaxEntries = uint32(s.scopes) * uint32(lbReasonREASON_COUNT)
	spec.Maps["labels"].MaxEntries = uint32(s.scopes)
	spec.Maps[directoryMap].Flags |= unix.BPF_F_MMAPABLE
	return spec, nil
}

// loadMapSet opens pinned maps. errNoMapSet means there are none that this program can use.
func loadMapSet(dir string) (*mapSet, error) {
	spec, err := sizedSpec(minSizes)
	if err != nil {
		return nil, err
	}
	maps := make(map[string]*ebpf.Map)
	for _, name := range pinNames(spec) {
		m, err := ebpf.LoadPinnedMap(mapPin(dir, name), nil)
		if errors.Is(err, os.ErrNotExist) {
			closeMaps(maps)
			return nil, fmt.Errorf("%w: %s does not exist", errNoMapSet, mapPin(dir, name))
		}
		if err != nil {
			closeMaps(maps)
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		maps[name] = m
	}
	var label lbLabel
	if err := maps["labels"].Lookup(uint32(0), &label); err != nil || text(label.Text[:layoutLength]) != layout(spec) {
		closeMaps(maps)
		return nil, fmt.Errorf("%w: its layout is of another version", errNoMapSet)
	}
	return openMapSet(maps, sizes{
		tables:  int(maps["tables"].MaxEntries() / uint32(lbLimitsBUCKETS)),
		scopes:  int(maps["labels"].MaxEntries()),
		regions: int(maps["backends"].MaxEntries() / uint32(lbLimitsBACKENDS)),
	})
}

var errNoMapSet = errors.New("no usable map set is pinned")

func openMapSet(maps map[string]*ebpf.Map, s sizes) (*mapSet, error) {
	set := &mapSet{maps: maps, sizes: s}
	var errs [9]error
	set.directory, errs[0] = mapRegion[lbDirectory](maps[directoryMap])
	set.tables, errs[1] = mapRegion[uint64](maps["tables"])
	set.hot, errs[2] = mapRegion[uint64](maps["hot"])
	set.choices, errs[3] = mapRegion[uint64](maps["choices"])
	set.backends, errs[4] = mapRegion[lbBackend](maps["backends"])
	set.orders, errs[5] = mapRegion[uint64](maps["orders"])
	set.loads, errs[6] = mapRegion[lbLoad](maps["loads"])
	set.replies, errs[7] = mapRegion[lbReply](maps["replies"])
	set.near, errs[8] = mapRegion[lbNearSet](maps["near"])
	if err := errors.Join(errs[:]...); err != nil {
		set.close()
		return nil, err
	}
	return set, nil
}

// load puts the programs into the kernel, over these maps, but for the one that only a private
// instance needs: it takes the verifier as long as all others do. Sockets are looked up in a namespace by
// its id, or where the interface is.
func (s *mapSet) load(sockets *int32) (*ebpf.Collection, error) {
	spec, err := sizedSpec(s.sizes)
	if err != nil {
		return nil, err
	}
	delete(spec.Programs, "lb_trace")
	if sockets != nil {
		if err := spec.Variables["socket_netns"].Set(*sockets); err != nil {
			return nil, err
		}
	}
	return s.loadSpec(spec)
}

func (s *mapSet) loadSpec(spec *ebpf.CollectionSpec) (*ebpf.Collection, error) {
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: s.maps})
	if _, refused := errors.AsType[*ebpf.VerifierError](err); refused {
		return nil, fmt.Errorf("load programs: the kernel's verifier refuses them: %w", err)
	}
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("load programs: %w (needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	return coll, nil
}

// pin makes the maps outlive this process, each pin replacing an older one in one step.
func (s *mapSet) pin(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "maps"), 0o700); err != nil {
		return err
	}
	for name, m := range s.maps {
		if err := pinMap(m, mapPin(dir, name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return nil
}

func pinMap(m *ebpf.Map, pin string) error {
	fresh := pin + "_new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	clone, err := m.Clone() // Pin notes the path, which is not the last one
	if err != nil {
		return err
	}
	defer clone.Close()
	if err := clone.Pin(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, pin)
}

func (s *mapSet) close() {
	s.directory.close()
	s.tables.close()
	s.hot.close()
	s.choices.close()
	s.backends.close()
	s.orders.close()
	s.loads.close()
	s.replies.close()
	s.near.close()
	closeMaps(s.maps)
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		m.Close()
	}
}

func pinNames(spec *ebpf.CollectionSpec) []string {
	var names []string
	for name := range spec.Maps {
		if shared(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func mapPin(dir, name string) string {
	if name == directoryMap {
		name = directoryPin
	}
	return filepath.Join(dir, "maps", name)
}

// setText and text convert the NUL-padded strings of abi.h. Longer text is cut.
func setText(to []int8, s string) {
	clear(to)
	for i := range min(len(s), len(to)) {
		to[i] = int8(s[i])
	}
}

func text(from []int8) string {
	var b strings.Builder
	for _, c := range from {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
