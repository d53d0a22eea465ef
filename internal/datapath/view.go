package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/lbctl/lbctl/internal/lb"
)

// A View reads what is pinned, whether or not an lbd runs.
type View struct {
	dir string
	set *mapSet
}

// OpenView opens the pins of one lbd for reading.
func OpenView(dir string) (*View, error) {
	set, err := loadMapSet(dir)
	if errors.Is(err, errNoMapSet) {
		return nil, fmt.Errorf("nothing is pinned in %s: %w; has lbd ever run here?", dir, err)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w: reading the maps needs root", err)
	}
	if err != nil {
		return nil, err
	}
	return &View{dir, set}, nil
}

// Close lets go of the pins.
func (v *View) Close() { v.set.close() }

// A Counter is the number of frames that ended for one reason, for one VIP or service.
type Counter struct {
	Scope   string  `json:"scope"` // "", "vip 192.0.2.80" or "service web 192.0.2.80"
	Reason  string  `json:"reason"`
	Verdict Verdict `json:"verdict"`
	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes"`
}

// Counters returns all that are not zero, by scope, then in the order of the reasons.
func (v *View) Counters() ([]Counter, error) { return v.set.counters() }

func (s *mapSet) counters() ([]Counter, error) {
	labels, err := s.labels()
	if err != nil {
		return nil, err
	}
	names := make([]string, s.sizes.scopes)
	for name, scope := range labels {
		names[scope] = name
	}
	sums, err := s.sums()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	var list []Counter
	for i, sum := range sums {
		scope, r := i/int(lbReasonREASON_COUNT), uint32(i%int(lbReasonREASON_COUNT))
		if sum.Packets == 0 || scope > 0 && names[scope] == "" {
			continue
		}
		list = append(list, Counter{names[scope], reasonOf(r).Name, reasonOf(r).Verdict, sum.Packets, sum.Bytes})
	}
	slices.SortStableFunc(list, func(a, b Counter) int { return strings.Compare(a.Scope, b.Scope) })
	return list, nil
}

// countersAtOnce are read by one system call.
const countersAtOnce = 2048

// sums adds up what the processors counted, by key.
func (s *mapSet) sums() ([]lbCounter, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	sums := make([]lbCounter, 0, s.maps["counters"].MaxEntries())
	keys, values := make([]uint32, countersAtOnce), make([]lbCounter, countersAtOnce*cpus)
	var cursor ebpf.MapBatchCursor
	for len(sums) < cap(sums) {
		n, err := s.maps["counters"].BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) || n == 0 {
			return nil, fmt.Errorf("%d of %d: %w", len(sums), cap(sums), err)
		}
		for i := range n { // an array is in the order of its keys
			var sum lbCounter
			for _, cpu := range values[i*cpus:][:cpus] {
				sum.Packets += cpu.Packets
				sum.Bytes += cpu.Bytes
			}
			sums = append(sums, sum)
		}
	}
	return sums, nil
}

// A Dump is everything the maps hold, by name.
type Dump struct {
	Cluster     string         `json:"cluster"`
	Nodes       []NodeEntry    `json:"nodes"`
	VIPs        []VIPEntry     `json:"vips"`
	Services    []ServiceEntry `json:"services"`
	Tables      []TableEntry   `json:"tables"`
	SampleDrops uint32         `json:"sample_drops"`
}

// A NodeEntry is a node as the tables name it.
type NodeEntry struct {
	Number  int    `json:"number"`
	Name    string `json:"name"`
	Address string `json:"address"`
	Weight  int    `json:"weight"`
	Local   bool   `json:"local"`
}

// A VIPEntry is a slot of the vips map.
type VIPEntry struct {
	Address     string `json:"address"`
	Interface   string `json:"interface"`
	MAC         string `json:"mac"`
	OwnMAC      string `json:"own_mac"`
	DropUnnamed bool   `json:"drop_unnamed"`
	Table       uint32 `json:"table"`
	Scope       uint16 `json:"scope"`
}

// A ServiceEntry is a slot of the services map: one aligned power of two of ports.
type ServiceEntry struct {
	Name     string `json:"name"` // "web 192.0.2.80"
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
	Length   int    `json:"length"` // 16: one port; 0: all
	Hash     string `json:"hash"`   // "source+port", "source-net/24" for the VIP's family
	Table    uint32 `json:"table"`
	Scope    uint16 `json:"scope"`
}

// A TableEntry says how many buckets each node owns, "" being nobody, and how many are in
// transition: by flag, and "delegate" for those that this node still holds for another.
type TableEntry struct {
	Table      uint32         `json:"table"`
	Owners     map[string]int `json:"owners"`
	Transition map[string]int `json:"transition,omitempty"`
}

// Dump reads everything but counters and single buckets.
func (v *View) Dump() (*Dump, error) {
	nodes, err := v.set.readNodes()
	if err != nil {
		return nil, err
	}
	labels, err := v.set.labels()
	if err != nil {
		return nil, err
	}
	names := make(map[uint16]string)
	for name, scope := range labels {
		names[scope] = name
	}
	d := &Dump{SampleDrops: v.set.published().Sample}
	if d.Cluster, err = v.set.cluster(); err != nil {
		return nil, err
	}
	for n := range nodes {
		if e := &nodes[n]; e.Used != 0 {
			d.Nodes = append(d.Nodes, NodeEntry{n, text(e.Name[:]), address(e.AddrHi, e.AddrLo).String(),
				int(e.Weight), e.Local != 0})
		}
	}
	tables := make(map[uint32]bool)
	family4 := make(map[uint16]bool) // scopes of VIPs of IPv4
	vips, services := v.set.liveHalf()
	for i := range vips {
		e := &vips[i]
		if e.Scope == 0 {
			continue
		}
		tables[e.Table] = true
		family4[e.Scope] = address(e.AddrHi, e.AddrLo).Is4()
		d.VIPs = append(d.VIPs, VIPEntry{
			Address:     address(e.AddrHi, e.AddrLo).String(),
			Interface:   interfaceName(int(e.Ifindex)),
			MAC:         net.HardwareAddr(e.Mac[:]).String(),
			OwnMAC:      net.HardwareAddr(e.OwnMac[:]).String(),
			DropUnnamed: e.Flags&uint16(lbVipFlagsVIP_DROP_UNNAMED) != 0,
			Table:       e.Table,
			Scope:       e.Scope,
		})
	}
	for i := range services {
		e := &services[i]
		if e.Selector == 0 {
			continue
		}
		tables[e.Table] = true
		d.Services = append(d.Services, ServiceEntry{
			Name:     strings.TrimPrefix(names[e.Scope], "service "),
			Protocol: lb.Protocol(e.Selector >> 24).String(),
			Port:     uint16(e.Selector),
			Length:   int(e.Selector >> 16 & 0xff),
			Hash:     hashName(e, family4[uint16(e.Selector>>32)]),
			Table:    e.Table,
			Scope:    e.Scope,
		})
	}
	for table := range tables {
		owners, transition := make(map[string]int), make(map[string]int)
		for _, word := range v.set.tables.items[int(table)*lb.Buckets:][:lb.Buckets] {
			owners[owner(nodes[:], word)]++
			if verbOf(word) == verbs[lbVerbVERB_DELEGATE] {
				transition[verbOf(word)]++
			}
			for _, flag := range flagsOf(word) {
				transition[flag]++
			}
		}
		d.Tables = append(d.Tables, TableEntry{table, owners, transition})
	}
	slices.SortFunc(d.VIPs, func(a, b VIPEntry) int { return strings.Compare(a.Address, b.Address) })
	slices.SortFunc(d.Services, func(a, b ServiceEntry) int {
		return cmpAll(strings.Compare(a.Name, b.Name), int(a.Port)-int(b.Port), b.Length-a.Length)
	})
	slices.SortFunc(d.Tables, func(a, b TableEntry) int { return int(a.Table) - int(b.Table) })
	return d, nil
}

// hashName reads from a slot's masks what the operator chose, as the configuration calls it.
func hashName(e *lbService, v4 bool) string {
	length, whole := bits.OnesCount64(e.SourceMaskHi)+bits.OnesCount64(e.SourceMaskLo), 128
	if v4 {
		length, whole = length-96, 32 // ::ffff:0:0/96
	}
	fields := lb.HashSource
	fields.SourcePort, fields.DestPort = e.PortsMask>>16 != 0, e.PortsMask&0xffff != 0
	if length < whole {
		return fmt.Sprintf("source-net/%d", length)
	}
	return fields.String()
}

func cmpAll(results ...int) int {
	for _, r := range results {
		if r != 0 {
			return r
		}
	}
	return 0
}

func address(hi, lo uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.AddrFrom16(b).Unmap()
}

// interfaceName falls back to the number: the interface may be gone.
func interfaceName(index int) string {
	if dev, err := net.InterfaceByIndex(index); err == nil {
		return dev.Name
	}
	return fmt.Sprintf("if%d", index)
}

func owner(nodes []lbNode, word uint64) string {
	if word&0xff == uint64(lbVerbVERB_NONE) {
		return ""
	}
	return text(nodes[word>>lbBucketLayoutBUCKET_TARGET_SHIFT&(lb.MaxNodes-1)].Name[:])
}

// A Bucket is one entry of a table.
type Bucket struct {
	Verb  string `json:"verb"`
	Node  string `json:"node"`
	Flags string `json:"flags,omitempty"` // with commas between them
}

var verbs = [lbVerbVERB_COUNT]string{"none", "accept", "ignore", "delegate"}

// bucketFlagNames are by bit.
var bucketFlagNames = [...]string{"maybe-local", "contested", "udp-noted", "udp-kept", "udp-away"}

// Buckets reads one table of the kernel's numbering.
func (v *View) Buckets(table int) ([]Bucket, error) {
	if table < 0 || table >= v.set.sizes.tables {
		return nil, fmt.Errorf("table %d: there are %d", table, v.set.sizes.tables)
	}
	nodes, err := v.set.readNodes()
	if err != nil {
		return nil, err
	}
	list := make([]Bucket, lb.Buckets)
	for i, word := range v.set.tables.items[table*lb.Buckets:][:lb.Buckets] {
		list[i] = bucketOf(nodes[:], word)
	}
	return list, nil
}

func bucketOf(nodes []lbNode, word uint64) Bucket {
	return Bucket{verbOf(word), owner(nodes, word), strings.Join(flagsOf(word), ",")}
}

func verbOf(word uint64) string { return verbs[min(word&0xff, uint64(len(verbs)-1))] }

func flagsOf(word uint64) []string {
	var names []string
	for bit, name := range bucketFlagNames {
		if word>>lbBucketLayoutBUCKET_FLAGS_SHIFT>>bit&1 == 1 {
			names = append(names, name)
		}
	}
	return names
}

// A Drop is a sampled frame that was dropped.
type Drop struct {
	Ago       time.Duration `json:"ago"` // since the frame came
	Interface string        `json:"interface"`
	Scope     string        `json:"scope"`
	Reason    Reason        `json:"reason"`
	Length    int           `json:"length"` // bytes on the wire
	Frame     []byte        `json:"frame"`  // its first bytes
}

// Drops calls f for each sampled drop until ctx ends. A sample goes to one reader only.
func (v *View) Drops(ctx context.Context, f func(Drop)) error {
	reader, err := ringbuf.NewReader(v.set.maps["drops"])
	if err != nil {
		return fmt.Errorf("open ring buffer: %w", err)
	}
	defer reader.Close()
	stop := context.AfterFunc(ctx, func() { reader.Close() })
	defer stop()
	for {
		record, err := reader.Read()
		if errors.Is(err, ringbuf.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read ring buffer: %w", err)
		}
		drop, err := v.drop(record.RawSample)
		if err != nil {
			return err
		}
		f(drop)
	}
}

func (v *View) drop(sample []byte) (Drop, error) {
	var raw lbDrop
	if _, err := binary.Decode(sample, binary.NativeEndian, &raw); err != nil {
		return Drop{}, fmt.Errorf("decode drop: %w", err)
	}
	var label lbLabel
	if raw.Scope != 0 {
		if err := v.set.maps["labels"].Lookup(uint32(raw.Scope), &label); err != nil {
			return Drop{}, fmt.Errorf("read label: %w", err)
		}
	}
	return Drop{
		Ago:       Monotonic() - time.Duration(raw.TimeNs),
		Interface: interfaceName(int(raw.Ifindex)),
		Scope:     text(label.Text[:]),
		Reason:    reasonOf(uint32(raw.Reason)),
		Length:    int(raw.Length),
		Frame:     raw.Frame[:min(raw.Captured, uint32(len(raw.Frame)))],
	}, nil
}
