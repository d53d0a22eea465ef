package datapath

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// IsFor says whether NewInstance would make maps of the sizes of this instance for a state.
func (i *Instance) IsFor(want *lb.State) bool { return i.set.sizes == sizesFor(want) }

// Renew makes a used instance what NewInstance returns, without the verifier, which takes far longer
// than a test does: it empties every map, and writes the state.
func (i *Instance) Renew(want *lb.State, device func(string) (*net.Interface, error)) error {
	if err := empty(i.set.maps["lease"]); err != nil { // first: its timer writes into the directory
		return fmt.Errorf("empty map lease: %w", err)
	}
	for name, m := range i.set.maps {
		if err := empty(m); err != nil {
			return fmt.Errorf("empty map %s: %w", name, err)
		}
	}
	spec, err := sizedSpec(i.set.sizes)
	if err != nil {
		return err
	}
	if err := noteLayout(i.set.maps["labels"], spec); err != nil {
		return err
	}
	_, err = i.Set(want, device)
	return err
}

// empty takes out all that a map holds.
func empty(m *ebpf.Map) error {
	switch {
	case m.Type() == ebpf.Array || m.Type() == ebpf.PerCPUArray:
		return fill(m, 0)
	case m.Type() == ebpf.RingBuf:
		return drain(m)
	}
	keys, err := keysOf(m)
	for _, key := range keys {
		err = errors.Join(err, m.Delete(key))
	}
	return err
}

// fill sets every byte of an array.
func fill(m *ebpf.Map, with byte) error {
	if m.Flags()&unix.BPF_F_MMAPABLE != 0 {
		return mapped(m, func(memory []byte) { set(memory, with) })
	}
	keys := make([]uint32, m.MaxEntries())
	for i := range keys {
		keys[i] = uint32(i)
	}
	_, err := m.BatchUpdate(keys, valuesOf(m, len(keys), with), nil)
	return err
}

// valuesOf are n values of a map, of each processor where it has one for each.
func valuesOf(m *ebpf.Map, n int, with byte) any {
	if m.Type() == ebpf.PerCPUArray || m.Type() == ebpf.PerCPUHash {
		n *= ebpf.MustPossibleCPU()
	}
	value := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
	values := reflect.MakeSlice(reflect.SliceOf(value), n, n)
	set(bytesOf(values), with)
	return values.Interface()
}

func set(memory []byte, to byte) {
	for i := range memory {
		memory[i] = to
	}
}

func keysOf(m *ebpf.Map) ([][]byte, error) {
	var keys [][]byte
	for key, err := m.NextKeyBytes(nil); key != nil || err != nil; key, err = m.NextKeyBytes(key) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// drain reads a ring buffer to its end.
func drain(m *ebpf.Map) error {
	reader, err := ringbuf.NewReader(m)
	if err != nil {
		return err
	}
	defer reader.Close()
	reader.SetDeadline(time.Now())
	for {
		if _, err := reader.Read(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
	}
}

// Scribble leaves something everywhere in every map but the ring buffers, which only programs write
// to, and the lease, which is a timer.
func (i *Instance) Scribble() error {
	for name, m := range i.set.maps {
		var err error
		switch {
		case m.Type() == ebpf.RingBuf || name == "lease":
		case m.Type() == ebpf.Array || m.Type() == ebpf.PerCPUArray:
			err = fill(m, 0xa5)
		default:
			one := reflect.ValueOf(valuesOf(m, 1, 0xa5))
			if m.Type() != ebpf.PerCPUHash {
				one = one.Index(0)
			}
			err = m.Put(bytes.Repeat([]byte{0x5a}, int(m.KeySize())), one.Interface())
		}
		if err != nil {
			return fmt.Errorf("scribble into map %s: %w", name, err)
		}
	}
	return nil
}

// Rest is what Memory leaves out: a sum of the processors' own values, and what nobody has read yet.
func (i *Instance) Rest() (map[string]string, error) {
	all := make(map[string]string)
	for name, m := range i.set.maps {
		if m.Type() == ebpf.RingBuf {
			reader, err := ringbuf.NewReader(m)
			if err != nil {
				return nil, err
			}
			all[name] = fmt.Sprint(reader.AvailableBytes(), " bytes")
			_ = reader.Close()
		}
		if m.Type() == ebpf.PerCPUArray {
			digest := sha256.New()
			value := reflect.New(reflect.TypeOf(valuesOf(m, 1, 0)))
			for key := range m.MaxEntries() {
				if err := m.Lookup(key, value.Interface()); err != nil {
					return nil, fmt.Errorf("map %s: %w", name, err)
				}
				digest.Write(bytesOf(value.Elem()))
			}
			all[name] = fmt.Sprintf("%x", digest.Sum(nil))
		}
	}
	return all, nil
}
