package datapath

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A region is the memory of an array map, shared with the kernel: items as the programs see them.
type region[T any] struct {
	memory []byte
	items  []T
}

// mapRegion maps an array whose values are T, a multiple of 8 bytes, as the kernel lays them out.
func mapRegion[T any](m *ebpf.Map) (*region[T], error) {
	var item T
	if size := uint32(unsafe.Sizeof(item)); size != m.ValueSize() {
		return nil, fmt.Errorf("map %s: its values have %d bytes, not %d", m, m.ValueSize(), size)
	}
	bytes := int(m.MaxEntries()) * int(unsafe.Sizeof(item))
	page := os.Getpagesize()
	memory, err := unix.Mmap(m.FD(), 0, (bytes+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: mmap: %w", m, err)
	}
	return &region[T]{memory, unsafe.Slice((*T)(unsafe.Pointer(&memory[0])), m.MaxEntries())}, nil
}

func (r *region[T]) close() {
	if r != nil && r.memory != nil {
		_ = unix.Munmap(r.memory)
		r.memory, r.items = nil, nil
	}
}

// waitForReaders returns when no program runs any more that was running before: membarrier's
// global command is an RCU grace period, and XDP and tc programs run within RCU.
func waitForReaders() error {
	const membarrierCmdGlobal = 1
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierCmdGlobal, 0, 0)
	if errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}

func (s *mapSet) published() *lbDirectory { return &s.directory.items[0] }

func (s *mapSet) word() uint64 { return atomic.LoadUint64(&s.published().Word) }

func (s *mapSet) publish(word uint64) { atomic.StoreUint64(&s.published().Word, word) }

// half returns the slots of one half.
func (s *mapSet) half(half uint64) ([]lbVip, []lbService) {
	d := s.published()
	// the same structs: what is generated for an array's elements has no name
	vips := (*[2][lbLimitsVIP_SLOTS]lbVip)(unsafe.Pointer(&d.Vips))
	services := (*[2][lbLimitsSERVICE_SLOTS]lbService)(unsafe.Pointer(&d.Services))
	return vips[half][:], services[half][:]
}

// liveHalf returns the slots that packets are matched with; nothing before the first publish.
func (s *mapSet) liveHalf() ([]lbVip, []lbService) {
	if s.word() == 0 {
		return nil, nil
	}
	return s.half(halfOf(s.word()))
}

func halfOf(word uint64) uint64 { return word >> 1 & 1 }

// peers returns the MACs of other nodes in one half.
func (s *mapSet) peers(half uint64) []uint64 {
	n := uint64(lbLimitsPEER_SLOTS)
	return s.published().Peers[half*n : (half+1)*n]
}

// keys returns the hash keys of one half.
func (s *mapSet) keys(half uint64) []uint64 {
	n := uint64(lbLimitsHASH_KEYS)
	return s.published().HashKeys[half*n : (half+1)*n]
}
