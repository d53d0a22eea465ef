package packettest

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A Runner gives frames to one XDP program, as if they had come in by the loopback interface: one
// system call each, and nothing allocated. It is for one goroutine; several may share a program.
type Runner struct {
	attr    *testRun
	context *xdpContext // nil: the loopback interface
	in      []byte
	out     []byte
}

// xdpContext is struct xdp_md, as far as a run may set it.
type xdpContext struct {
	data, dataEnd, dataMeta, ingress, queue, egress uint32
}

// testRun is the part of union bpf_attr that BPF_PROG_TEST_RUN reads.
type testRun struct {
	program                       uint32
	action                        uint32
	sizeIn, sizeOut               uint32
	in, out                       uint64
	repeat, duration              uint32
	contextSizeIn, contextSizeOut uint32
	contextIn, contextOut         uint64
	flags, cpu, batch, _          uint32
}

// maxFrame is more than any frame that a test sends, and than a program makes of it.
const maxFrame = 1 << 16

// NewRunner returns a Runner for a program, which must outlive it.
func NewRunner(t testing.TB, program *ebpf.Program) *Runner {
	t.Helper()
	r := &Runner{attr: new(testRun), in: make([]byte, maxFrame), out: make([]byte, maxFrame)}
	var pins runtime.Pinner
	pins.Pin(&r.in[0])
	pins.Pin(&r.out[0])
	t.Cleanup(pins.Unpin)
	r.attr.program = uint32(program.FD())
	r.attr.in = uint64(uintptr(unsafe.Pointer(&r.in[0])))
	r.attr.out = uint64(uintptr(unsafe.Pointer(&r.out[0])))
	return r
}

// NewRunnerOn returns a Runner whose frames come in by an interface of the network namespace that
// Run is called in.
func NewRunnerOn(t testing.TB, program *ebpf.Program, ifindex int) *Runner {
	t.Helper()
	r := NewRunner(t, program)
	r.context = &xdpContext{ingress: uint32(ifindex)}
	var pins runtime.Pinner
	pins.Pin(r.context)
	t.Cleanup(pins.Unpin)
	r.attr.contextIn = uint64(uintptr(unsafe.Pointer(r.context)))
	r.attr.contextSizeIn = uint32(unsafe.Sizeof(*r.context))
	return r
}

// Run returns the program's action and the frame as it leaves the program, which the next Run
// overwrites. The kernel refuses a frame shorter than an Ethernet header with EINVAL.
func (r *Runner) Run(frame []byte) (action uint32, out []byte, err error) {
	const progTestRun = 10
	copy(r.in, frame)
	r.attr.sizeIn, r.attr.sizeOut = uint32(len(frame)), maxFrame
	if r.context != nil {
		r.context.dataEnd = uint32(len(frame))
	}
	_, _, errno := unix.RawSyscall(unix.SYS_BPF, progTestRun, uintptr(unsafe.Pointer(r.attr)), unsafe.Sizeof(*r.attr))
	if errno != 0 {
		return 0, nil, fmt.Errorf("run program on %d bytes: %w", len(frame), errno)
	}
	return r.attr.action, r.out[:r.attr.sizeOut], nil
}

// Scaled is n times the environment's LB_TEST_SCALE, 1 by default: where a machine is emulated,
// what takes seconds here takes minutes.
func Scaled(t testing.TB, n int) int {
	t.Helper()
	text := os.Getenv("LB_TEST_SCALE")
	if text == "" {
		return n
	}
	scale, err := strconv.ParseFloat(text, 64)
	if err != nil || scale <= 0 || scale > 1 {
		t.Fatalf("LB_TEST_SCALE=%s: must be above 0 and at most 1", text)
	}
	return max(1, int(float64(n)*scale))
}
