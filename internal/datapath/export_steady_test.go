package datapath

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"reflect"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Memory is what a map holds: its size, the bytes that the kernel says it takes, its entries, and a
// sum of all of them.
type Memory struct {
	Type    string
	Size    uint32
	Bytes   uint64
	Entries int
	Content [sha256.Size]byte
}

// Memory returns what every map holds. Of maps with values for each processor it leaves out the
// content: they are counters, and what is left to do with the packet at hand. So it does of ring
// buffers, which nobody can look into.
func (i *Instance) Memory() (map[string]Memory, error) {
	all := make(map[string]Memory)
	for name, m := range i.set.maps {
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		is := Memory{Type: info.Type.String(), Size: info.MaxEntries}
		is.Bytes, _ = info.Memlock()
		switch info.Type {
		case ebpf.PerCPUArray, ebpf.RingBuf:
		case ebpf.PerCPUHash:
			var keys [][]byte
			keys, err = keysOf(m)
			is.Entries = len(keys)
		case ebpf.Array:
			is.Entries, is.Content, err = elements(m)
		default:
			is.Entries, is.Content, err = entries(m)
		}
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		all[name] = is
	}
	return all, nil
}

// elements are as many as the array has, whatever is in them.
func elements(m *ebpf.Map) (n int, sum [sha256.Size]byte, err error) {
	if m.Flags()&unix.BPF_F_MMAPABLE != 0 {
		err := mapped(m, func(memory []byte) { sum = sha256.Sum256(memory) })
		return int(m.MaxEntries()), sum, err
	}
	keys := make([]uint32, m.MaxEntries())
	element := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
	values := reflect.MakeSlice(reflect.SliceOf(element), len(keys), len(keys))
	var cursor ebpf.MapBatchCursor
	n, err = m.BatchLookup(&cursor, keys, values.Interface(), nil)
	if n != len(keys) {
		return n, sum, fmt.Errorf("read %d of %d elements: %w", n, len(keys), err)
	}
	return n, sha256.Sum256(bytesOf(values)), nil
}

// mapped gives a function the memory of a large array, which is faster than any batch.
func mapped(m *ebpf.Map, do func([]byte)) error {
	page := os.Getpagesize()
	size := int(m.MaxEntries()) * ((int(m.ValueSize()) + 7) &^ 7)
	memory, err := unix.Mmap(m.FD(), 0, (size+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	do(memory[:size])
	return unix.Munmap(memory)
}

// bytesOf is the memory of a slice of arrays of bytes.
func bytesOf(values reflect.Value) []byte {
	return unsafe.Slice((*byte)(values.UnsafePointer()), values.Len()*values.Type().Elem().Len())
}

// entries are those that a hash has; their order does not count.
func entries(m *ebpf.Map) (n int, sum [sha256.Size]byte, err error) {
	var key, value []byte
	it := m.Iterate()
	for it.Next(&key, &value) {
		n++
		for i, b := range sha256.Sum256(append(append([]byte{}, key...), value...)) {
			sum[i] ^= b
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return n, sum, err
	}
	return n, sum, nil
}
