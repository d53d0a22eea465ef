package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// RoutesLease is how long a summary of routes counts after it was given.
const RoutesLease = time.Second

// Routes makes packets find their way by a summary for RoutesLease; the same one again renews that. After
// it, or with nil, packets ask the kernel. It may be called while a Set runs, by one goroutine.
func (d *Datapath) Routes(routes *lb.Routes) error {
	set, before := d.routesSet(routes)
	if set != nil {
		written, err := set.follow(routes, before, func(write func()) bool { return d.within(set, write) })
		if err != nil || !written {
			return err // of another set the next call finds out
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil || routes == nil || set != nil && set != d.maps {
		return nil
	}
	if set != nil {
		d.routes, d.routesIn = routes, set
	}
	return countRoutes(d.programs.Programs["lb_routes"])
}

// UsedNeighbours are those of the summary to whom packets went since the last call. The kernel does not
// know of it.
func (d *Datapath) UsedNeighbours() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return nil
	}
	return d.maps.takeUsed()
}

// routesSet returns where to write a summary, if it is to be written, and what is there and counts. One of
// other routes is taken back; neighbours may change while it counts.
func (d *Datapath) routesSet(routes *lb.Routes) (set *mapSet, before *lb.Routes) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return nil, nil
	}
	if d.routesIn == d.maps && routes != nil && d.routes != nil {
		if d.routes == routes {
			return nil, nil
		}
		if sameTables(d.routes, routes) {
			return d.maps, d.routes
		}
	}
	d.routes, d.routesIn = nil, nil
	d.maps.dropRoutes()
	if routes == nil {
		return nil, nil
	}
	return d.maps, nil
}

// within calls write if a set is still the one in use.
func (d *Datapath) within(set *mapSet, write func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps != set {
		return false
	}
	write()
	return true
}

func sameTables(a, b *lb.Routes) bool {
	return reflect.DeepEqual(a.V4, b.V4) && reflect.DeepEqual(a.V6, b.V6)
}

func (s *mapSet) dropRoutes() { atomic.StoreUint64(&s.published().Routes.Until, 0) }

// follow writes a summary in the place of the one before, nil if it was taken back. It returns false when
// within does.
func (s *mapSet) follow(routes, before *lb.Routes, within func(func()) bool) (bool, error) {
	var missing map[nearAddr]lbHop
	var placed map[*lbNeighbour]uint64
	var retired bool
	if !within(func() { missing, retired = s.retireNear(routes.Near) }) {
		return false, nil
	}
	if before == nil || retired {
		// who still reads what was there would meet half of what comes
		if err := waitForReaders(); err != nil {
			return false, err
		}
	}
	if !within(func() {
		if before == nil {
			s.writeRoutes(routes)
		}
		placed = s.placeNear(missing)
	}) {
		return false, nil
	}
	if len(placed) == 0 {
		return true, nil
	}
	if err := waitForReaders(); err != nil {
		return false, err
	}
	return within(func() { publishNear(placed) }), nil
}

// writeRoutes fills in what no packet looks at.
func (s *mapSet) writeRoutes(routes *lb.Routes) {
	// the same struct: what is generated for a member has no name
	r := (*lbRoutes)(unsafe.Pointer(&s.published().Routes))
	fresh := lbRoutes{Forwards4: bitsOf(routes.V4.Forwards), Forwards6: bitsOf(routes.V6.Forwards)}
	for i := range lb.MaxRoutes {
		fresh.Prefixes4[i].Addr = 1 // nothing is outside of its mask
		fresh.Prefixes6[i].Addr[0] = 1
	}
	for i, route := range routes.V4.Routes {
		addr, mask := wordsOf(route)
		fresh.Prefixes4[i].Addr = binary.LittleEndian.Uint32(addr)
		fresh.Prefixes4[i].Mask = binary.LittleEndian.Uint32(mask)
		fresh.Hops4[i] = hopOf(route.Hop)
	}
	for i, route := range routes.V6.Routes {
		addr, mask := wordsOf(route)
		for half := range 2 {
			fresh.Prefixes6[i].Addr[half] = binary.LittleEndian.Uint64(addr[8*half:])
			fresh.Prefixes6[i].Mask[half] = binary.LittleEndian.Uint64(mask[8*half:])
		}
		fresh.Hops6[i] = hopOf(route.Hop)
	}
	*r = fresh
}

// bitsOf has a bit for each interface, and none where one that does not forward would share it.
func bitsOf(forwards map[int]bool) uint64 {
	var does, doesNot uint64
	for index, forwards := range forwards {
		if forwards {
			does |= 1 << (index % 64)
		} else {
			doesNot |= 1 << (index % 64)
		}
	}
	return does &^ doesNot
}

// wordsOf are a prefix's address and mask as they lie in packets.
func wordsOf(r lb.Route) (addr, mask []byte) {
	addr = r.Prefix.Masked().Addr().AsSlice()
	mask = make([]byte, len(addr))
	for bit := range r.Prefix.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return addr, mask
}

func hopOf(hop *lb.RouteHop) lbHop {
	if hop == nil {
		return lbHop{}
	}
	return lbHop{
		Mac: [6]byte(hop.MAC), OwnMac: [6]byte(hop.Own), Ifindex: uint32(hop.Index), Mtu: uint16(min(hop.MTU, 1<<16-1)),
	}
}

// countRoutes lets what was written count from now on.
func countRoutes(program *ebpf.Program) error {
	var tick unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick); err != nil {
		return fmt.Errorf("length of a jiffy: %w", err)
	}
	request := make([]byte, 16)
	binary.NativeEndian.PutUint64(request, uint64(int64(RoutesLease)/max(1, tick.Nano())))
	answer, err := program.Run(&ebpf.RunOptions{Data: request})
	if err != nil {
		return fmt.Errorf("renew routes: %w", err)
	}
	if lbLeaseAnswer(answer) != lbLeaseAnswerLEASE_RUNS {
		return errors.New("renew routes: refused")
	}
	return nil
}
