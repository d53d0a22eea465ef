package datapath

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// The map near has the hops of machines on links of our own. Packets may look at it at any time while the
// routes count, so of what they look at only the word changes that makes it somebody's: a way that is
// nobody's any more is filled in when no packet reads it, and is somebody's when all would read it whole.

// A nearAddr is an address as the program has it.
type nearAddr struct{ hi, lo uint64 }

// ways are where near_hop of routes.h looks.
func (s *mapSet) ways(at nearAddr) []lbNeighbour {
	const golden = 0x9e3779b97f4a7c15
	return nearWays(&s.near.items[(at.hi^at.lo)*golden>>(64-lbLimitsNEAR_BITS)])
}

func nearWays(set *lbNearSet) []lbNeighbour {
	// the same struct: what is generated for an array's elements has no name
	return (*[lbLimitsNEAR_WAYS]lbNeighbour)(unsafe.Pointer(&set.Ways))[:]
}

// eachNear calls yield with what is somebody's.
func (s *mapSet) eachNear(yield func(nearAddr, *lbNeighbour)) {
	for i := range s.near.items {
		ways := nearWays(&s.near.items[i])
		for j := range ways {
			if ways[j].AddrLo != 0 {
				yield(nearAddr{ways[j].AddrHi, ways[j].AddrLo}, &ways[j])
			}
		}
	}
}

// retireNear takes out what is not wanted like this, and returns what is not there.
func (s *mapSet) retireNear(want map[netip.Addr]lb.RouteHop) (missing map[nearAddr]lbHop, retired bool) {
	missing = make(map[nearAddr]lbHop, len(want))
	for addr, hop := range want {
		var at nearAddr
		if at.hi, at.lo = flowhash.Halves(addr); at.lo != 0 {
			missing[at] = hopOf(&hop)
		}
	}
	s.eachNear(func(at nearAddr, n *lbNeighbour) {
		if hop, wanted := missing[at]; wanted && hop == n.Hop {
			delete(missing, at)
			return
		}
		atomic.StoreUint64(&n.AddrLo, 0)
		retired = true
	})
	return missing, retired
}

// placeNear fills in what there is room for, where no packet looks.
func (s *mapSet) placeNear(missing map[nearAddr]lbHop) map[*lbNeighbour]uint64 {
	placed := make(map[*lbNeighbour]uint64)
	for at, hop := range missing {
		ways := s.ways(at)
		for i := range ways {
			if _, taken := placed[&ways[i]]; taken || ways[i].AddrLo != 0 {
				continue
			}
			ways[i].AddrHi, ways[i].Hop = at.hi, hop
			atomic.StoreUint64(&ways[i].Used, 0)
			placed[&ways[i]] = at.lo
			break
		}
	}
	return placed
}

func publishNear(placed map[*lbNeighbour]uint64) {
	for n, lo := range placed {
		atomic.StoreUint64(&n.AddrLo, lo)
	}
}

// takeUsed returns to whom packets went since the last call.
func (s *mapSet) takeUsed() []netip.Addr {
	var used []netip.Addr
	s.eachNear(func(at nearAddr, n *lbNeighbour) {
		if atomic.LoadUint64(&n.Used) != 0 {
			atomic.StoreUint64(&n.Used, 0)
			used = append(used, address(at.hi, at.lo))
		}
	})
	return used
}
