package packettest

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/cilium/ebpf"
)

// A Lane is one program under measurement with the stream of packets it gets: a frame whose source
// changes from run to run, through a number of distinct flows.
type Lane struct {
	objects generatorObjects
	driver  *ebpf.Program
	frame   []byte
	want    uint32
}

// Flows is the number of distinct sources, a power of two up to 2^20.
type Flows uint32

// String returns "1", "1k", "128k" or "1M".
func (f Flows) String() string {
	switch n := bits.TrailingZeros32(uint32(f)); {
	case n >= 20:
		return fmt.Sprintf("%dM", f>>20)
	case n >= 10:
		return fmt.Sprintf("%dk", f>>10)
	}
	return fmt.Sprint(uint32(f))
}

// NewLane prepares a program. Each run must end with the action want.
func NewLane(t testing.TB, program *ebpf.Program, frame []byte, flows Flows, want uint32) *Lane {
	t.Helper()
	return newLane(t, program, frame, flows, want, 0, false)
}

// NewWrappedLane is NewLane for a program that may put a packet into another: what it added is taken
// off again before the next run, at a cost that is the same when it added nothing.
func NewWrappedLane(t testing.TB, program *ebpf.Program, frame []byte, flows Flows, want uint32) *Lane {
	t.Helper()
	return newLane(t, program, frame, flows, want, len(frame), false)
}

// NewReplyLane is NewLane with a frame whose destination changes from run to run, not its source.
func NewReplyLane(t testing.TB, program *ebpf.Program, frame []byte, flows Flows, want uint32) *Lane {
	t.Helper()
	return newLane(t, program, frame, flows, want, 0, true)
}

// NewNearLane is NewReplyLane to clients at that many addresses, a power of two: 10.0.0.0 and the following,
// or those of ::1:0:0 in the destination's net.
func NewNearLane(t testing.TB, program *ebpf.Program, frame []byte, flows Flows, addresses uint32, want uint32) *Lane {
	t.Helper()
	return newLane(t, program, frame, flows, want, 0, true, func(spec *ebpf.CollectionSpec) { set(t, spec, "addresses", addresses-1) })
}

// NewTunnelLane is NewLane for a program that takes an IPv4 packet out of a tunnel: the outer headers, of
// that many bytes with Ethernet's, are put back before the next run.
func NewTunnelLane(t testing.TB, program *ebpf.Program, frame []byte, outer int, flows Flows, want uint32) *Lane {
	t.Helper()
	spec := generator(t)
	var headers [72]byte
	copy(headers[:], frame[:outer])
	set(t, spec, "flows", uint32(flows))
	set(t, spec, "length", uint32(len(frame)))
	set(t, spec, "destination", [6]byte(frame[:6]))
	set(t, spec, "fixed_port", [2]byte(frame[outer+22:]))
	set(t, spec, "outer", headers)
	set(t, spec, "outer_length", uint32(outer))
	l := &Lane{frame: frame, want: want}
	l.load(t, spec, program)
	l.driver = l.objects.GenerateWrapped
	return l
}

func generator(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := loadGenerator()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// load puts the generator into the kernel, in front of a program.
func (l *Lane) load(t testing.TB, spec *ebpf.CollectionSpec, program *ebpf.Program) {
	t.Helper()
	if err := spec.LoadAndAssign(&l.objects, nil); err != nil {
		t.Fatalf("load generator: %v", err)
	}
	t.Cleanup(func() { l.objects.Close() })
	if err := l.objects.Target.Put(uint32(0), program); err != nil {
		t.Fatalf("set the generator's target: %v", err)
	}
}

func newLane(t testing.TB, program *ebpf.Program, frame []byte, flows Flows, want uint32, wrapped int, replies bool, more ...func(*ebpf.CollectionSpec)) *Lane {
	t.Helper()
	spec := generator(t)
	set(t, spec, "flows", uint32(flows))
	set(t, spec, "length", uint32(wrapped))
	set(t, spec, "destination", [6]byte(frame[:6]))
	fixed, changing := Destination, Source
	if replies {
		fixed, changing = Source, Destination
		set(t, spec, "replies", uint8(1))
	}
	packet := packetOf(frame)
	set(t, spec, "fixed_port", [2]byte(packet.port(fixed)))
	if packet.v6 {
		set(t, spec, "fixed6", [16]byte(packet.addr(fixed)))
		set(t, spec, "net6", [8]byte(packet.addr(changing)))
	} else {
		set(t, spec, "fixed4", [4]byte(packet.addr(fixed)))
	}
	for _, set := range more {
		set(spec)
	}
	l := &Lane{frame: frame, want: want}
	l.load(t, spec, program)
	l.driver = l.objects.Generate4
	if frame[12] == 0x86 {
		l.driver = l.objects.Generate6
	}
	return l
}

func set(t testing.TB, spec *ebpf.CollectionSpec, name string, value any) {
	t.Helper()
	if err := spec.Variables[name].Set(value); err != nil {
		t.Fatalf("set %s: %v", name, err)
	}
}

// Grow returns the program that does the least that a tunnel needs: it makes room for a header.
func Grow(t testing.TB) *ebpf.Program {
	t.Helper()
	var objects generatorObjects
	if err := loadGeneratorObjects(&objects, nil); err != nil {
		t.Fatalf("load floors: %v", err)
	}
	t.Cleanup(func() { objects.Close() })
	return objects.FloorGrow
}

// Floors returns the programs that measure what any program costs: one drops at once, one finds
// addresses and ports and passes.
func Floors(t testing.TB) (drop, parse *ebpf.Program) {
	t.Helper()
	var objects generatorObjects
	if err := loadGeneratorObjects(&objects, nil); err != nil {
		t.Fatalf("load floors: %v", err)
	}
	t.Cleanup(func() { objects.Close() })
	return objects.FloorDrop, objects.FloorParse
}

// Time gives the program n packets and returns the nanoseconds each took, the generator's included,
// as the kernel measures them: whole ones. The syscall itself waits for RCU grace periods.
func (l *Lane) Time(t testing.TB, n int) float64 {
	t.Helper()
	action, took, err := l.driver.Benchmark(l.frame, n, nil)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	if action != l.want {
		t.Fatalf("the program returned %d, want %d", action, l.want)
	}
	return float64(took.Nanoseconds())
}
