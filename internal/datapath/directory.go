package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// A directory is the content of one half of lbDirectory, and the word that publishes it.
type directory struct {
	word     uint64
	vips     []lbVip
	services []lbService
	peers    []uint64
}

// errDirectoryFull means that no multiplier places every entry within lbLimitsPROBES slots.
var errDirectoryFull = errors.New("too many VIPs, services or port ranges for the directory")

// placementTries bounds the search for a multiplier; half-full maps need a handful.
const placementTries = 4096

// place lays entries out for half 0 or 1: open addressing, every entry within lbLimitsPROBES slots
// of where its key hashes to. Multipliers are tried in a fixed order.
func place(half uint64, vips []lbVip, services []lbService, peers []uint64) (*directory, error) {
	random := rand.New(rand.NewPCG(1, 2))
	for range placementTries {
		word := random.Uint64()&^3 | half<<1 | 1
		d := &directory{
			word:     word,
			vips:     make([]lbVip, lbLimitsVIP_SLOTS),
			services: make([]lbService, lbLimitsSERVICE_SLOTS),
			peers:    make([]uint64, lbLimitsPEER_SLOTS),
		}
		if placeVIPs(d, vips) && placeServices(d, services) && placePeers(d, peers) {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%w: %d VIPs, %d port ranges", errDirectoryFull, len(vips), len(services))
}

func placeVIPs(d *directory, vips []lbVip) bool {
	for _, v := range vips {
		slot := firstSlot(d.word, v.AddrLo^v.AddrHi<<1, len(d.vips))
		free := freeSlot(slot, len(d.vips), func(i int) bool { return d.vips[i].Scope == 0 })
		if free < 0 {
			return false
		}
		d.vips[free] = v
	}
	return true
}

func placeServices(d *directory, services []lbService) bool {
	for _, s := range services {
		slot := firstSlot(d.word, s.Selector, len(d.services))
		free := freeSlot(slot, len(d.services), func(i int) bool { return d.services[i].Selector == 0 })
		if free < 0 {
			return false
		}
		d.services[free] = s
	}
	return true
}

func placePeers(d *directory, peers []uint64) bool {
	for _, p := range peers {
		slot := firstSlot(d.word, p, len(d.peers))
		free := freeSlot(slot, len(d.peers), func(i int) bool { return d.peers[i] == 0 || d.peers[i] == p })
		if free < 0 {
			return false
		}
		d.peers[free] = p
	}
	return true
}

// peerKeys are the MACs of the other nodes as the program looks for them.
func peerKeys(want *lb.State) []uint64 {
	var keys []uint64
	for i := range want.Nodes {
		if n := &want.Nodes[i]; !n.Local && len(n.MAC) == 6 {
			var mac [8]byte
			copy(mac[:], n.MAC)
			keys = append(keys, binary.LittleEndian.Uint64(mac[:]))
		}
	}
	return keys
}

// firstSlot is first_slot of flow.h: the top bits of the product.
func firstSlot(word, key uint64, slots int) int {
	return int(key * word >> (64 - bits.TrailingZeros(uint(slots))))
}

func freeSlot(first, slots int, free func(int) bool) int {
	for i := range int(lbLimitsPROBES) {
		if slot := (first + i) & (slots - 1); free(slot) {
			return slot
		}
	}
	return -1
}

// A portPrefix is an aligned power of two of ports: those whose first Length bits are Port's.
type portPrefix struct {
	Port   uint16
	Length int
}

// prefixes cuts a range of ports into the fewest aligned powers of two, as routers do addresses.
func prefixes(r lb.PortRange) []portPrefix {
	var list []portPrefix
	for first, last := int(r.First), int(r.Last); first <= last; {
		size := 1 << 16
		for first%size != 0 || first+size-1 > last {
			size >>= 1
		}
		list = append(list, portPrefix{uint16(first), 16 - bits.TrailingZeros(uint(size))})
		first += size
	}
	return list
}

// selector is what find_service of flow.h looks for.
func selector(vipScope uint16, p lb.Protocol, prefix portPrefix) uint64 {
	return uint64(vipScope)<<32 | uint64(p)<<24 | uint64(prefix.Length)<<16 | uint64(prefix.Port)
}

// serviceSlots returns the slots of a service, one for each of its port prefixes, and notes on
// its VIP what there is to look for.
func serviceSlots(s *lb.Service, addr4 bool, vip *lbVip, scope uint16, table, region, pool uint32) []lbService {
	mask := flowhash.NewMask(s.Hash, addr4)
	slot := lbService{
		SourceMaskHi: mask.Hi,
		SourceMaskLo: mask.Lo,
		PortsMask:    mask.Ports,
		Table:        table,
		Scope:        scope,
		Region:       region,
		Forward:      uint8(s.Forward),
		TcpIdle:      uint32(s.TCPIdle / time.Second),
		UdpIdle:      uint32(s.UDPIdle / time.Second),
	}
	if s.Schedule != nil {
		slot.schedule(s.Schedule, pool)
	}
	if s.Protocol == lb.ProtocolAny {
		vip.Flags |= uint16(lbVipFlagsVIP_HAS_ANY)
		slot.Selector = selector(vip.Scope, s.Protocol, portPrefix{})
		return []lbService{slot}
	}
	var slots []lbService
	for _, ports := range s.Ports {
		for _, prefix := range prefixes(ports) {
			if s.Protocol == lb.ProtocolTCP {
				vip.TcpLengths |= 1 << prefix.Length
			} else {
				vip.UdpLengths |= 1 << prefix.Length
			}
			slot.Selector = selector(vip.Scope, s.Protocol, prefix)
			slots = append(slots, slot)
		}
	}
	return slots
}
