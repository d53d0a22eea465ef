package main

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Verdicts are the programs that the injector calls for each frame.
type verdict int

const (
	verdictDrop    verdict = iota
	verdictPass            // to the stack
	verdictForeign         // to the stack, under an EtherType that nothing listens to
	verdictSend            // back to where it came from
	verdictCount
)

// XDP's return codes, as in linux/bpf.h.
const (
	xdpAborted = 0
	xdpDropped = 1
	xdpPassed  = 2
	xdpSent    = 3
)

// xdpMD is struct xdp_md of linux/bpf.h; it says on which interface the frames arrive.
type xdpMD struct {
	Data, DataEnd, DataMeta      uint32
	IngressIfindex, RxQueueIndex uint32
	EgressIfindex                uint32
}

// hasFrags lets a program see frames of several buffers. All programs that one array of tail calls
// holds must agree on it, and lbctl's does.
const hasFrags = 1 << 5 // BPF_F_XDP_HAS_FRAGS of linux/bpf.h

// injector gives frames to a verdict as a driver would.
type injector struct {
	next     *ebpf.Map // the verdict, at index 0
	verdicts [verdictCount]*ebpf.Program
}

func newInjector() (*injector, error) {
	next, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	in := &injector{next: next}
	for v, instructions := range [verdictCount]asm.Instructions{
		verdictDrop:    {asm.Mov.Imm(asm.R0, xdpDropped), asm.Return()},
		verdictPass:    {asm.Mov.Imm(asm.R0, xdpPassed), asm.Return()},
		verdictForeign: foreign(),
		verdictSend:    {asm.Mov.Imm(asm.R0, xdpSent), asm.Return()},
	} {
		if in.verdicts[v], err = load(instructions); err != nil {
			return nil, fmt.Errorf("load verdict %d: %w", v, err)
		}
	}
	return in, nil
}

// run injects n frames of a stream on an interface of the current namespace and returns the nanoseconds that
// one took. It is the kernel's own figure, in whole nanoseconds: the system call as a whole also
// waits for ticks of the clock, in setting up and taking down its pages.
func (in *injector) run(s stream, program *ebpf.Program, ifindex, n int) (float64, error) {
	if err := in.next.Put(uint32(0), program); err != nil {
		return 0, fmt.Errorf("choose the verdict: %w", err)
	}
	data := s.frame
	context := xdpMD{DataEnd: uint32(len(data)), IngressIfindex: uint32(ifindex)}
	attr := testRun{
		progFD:     uint32(s.entry.FD()),
		dataSizeIn: uint32(len(data)),
		dataIn:     unsafe.Pointer(&data[0]),
		repeat:     uint32(n),
		ctxSizeIn:  uint32(unsafe.Sizeof(context)),
		ctxIn:      unsafe.Pointer(&context),
		flags:      unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return 0, fmt.Errorf("inject frames: %w", errno)
	}
	return float64(attr.duration), nil
}

// testRun is struct test of union bpf_attr. The library returns the duration only of runs without
// live frames.
type testRun struct {
	progFD, retval          uint32
	dataSizeIn, dataSizeOut uint32
	dataIn, dataOut         unsafe.Pointer
	repeat, duration        uint32
	ctxSizeIn, ctxSizeOut   uint32
	ctxIn, ctxOut           unsafe.Pointer
	flags, cpu, batchSize   uint32
	_                       uint32
}

func load(instructions asm.Instructions) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Flags: hasFrags, License: "GPL", Instructions: instructions,
	})
}

func foreign() asm.Instructions {
	return append(bounds(headers),
		asm.Mov.Imm(asm.R3, unix.ETH_P_802_EX1), // for local experiments
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.StoreMem(asm.R7, offsetEtherType, asm.R3, asm.Half),
		asm.Mov.Imm(asm.R0, xdpPassed),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpAborted).WithSymbol("short"),
		asm.Return(),
	)
}

// bounds leaves the context in R6 and the frame in R7, and jumps to "short" when it has less than
// n bytes.
func bounds(n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, n),
		asm.JGT.Reg(asm.R1, asm.R8, "short"),
	}
}
