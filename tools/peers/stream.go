package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// A stream is a frame that the injector repeats, with other ports each time.
type stream struct {
	frame []byte
	entry *ebpf.Program
}

// datagrams is the stream of those who share an address: the source port alone changes.
func (in *injector) datagrams() (stream, error) {
	counter, err := newCounter()
	if err != nil {
		return stream{}, err
	}
	return in.stream(frame(), append(bounds(headers), append(count(counter),
		asm.And.Imm(asm.R3, sourcePorts-1),
		asm.Or.Imm(asm.R3, firstSourcePort),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.StoreMem(asm.R7, offsetSourcePort, asm.R3, asm.Half),
	)...))
}

// A segment is a TCP packet without data. Of the client's port and the last half of its address
// some bits count up, and the complement of either stands where nobody looks, so that checksums
// stay as they are: connection tracking believes in no others.
type segment struct {
	from, to         netip.AddrPort
	flags            byte
	sequence, answer uint32
	reply            bool // the client is the destination
}

// Where a segment has what changes, and what makes up for it.
const (
	offsetID       = 18
	offsetSource   = 26
	offsetTCP      = 34
	offsetWindow   = offsetTCP + 14
	offsetChecksum = offsetTCP + 16
	offsetUrgent   = offsetTCP + 18
	segmentHeaders = offsetTCP + 20

	clientPorts     = 1 << 14
	firstClientPort = 0x4000 // a multiple of it
)

func (s segment) bytes() []byte {
	f := make([]byte, frameSize)
	copy(f, receiverMAC)
	copy(f[6:], []byte{0x02, 0, 0, 0, 0, 0x07, 0x08, 0x00})
	ip := f[14:offsetTCP]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], segmentHeaders-14)
	ip[8], ip[9] = 64, 6
	copy(ip[12:], s.from.Addr().AsSlice())
	copy(ip[16:], s.to.Addr().AsSlice())
	tcp := f[offsetTCP:segmentHeaders]
	binary.BigEndian.PutUint16(tcp, s.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.to.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.sequence)
	binary.BigEndian.PutUint32(tcp[8:], s.answer)
	tcp[12], tcp[13] = 5<<4, s.flags
	client := s.from
	if s.reply {
		client = s.to
	}
	low := ^binary.BigEndian.Uint16(client.Addr().AsSlice()[2:])
	binary.BigEndian.PutUint16(f[offsetID:], low)
	binary.BigEndian.PutUint16(f[offsetWindow:], low)
	binary.BigEndian.PutUint16(f[offsetUrgent:], ^client.Port())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	pseudo := append([]byte{0, 6, 0, byte(len(tcp))}, ip[12:]...)
	binary.BigEndian.PutUint16(f[offsetChecksum:], checksum(append(pseudo, tcp...)))
	return f
}

// segments is the stream of those who forward: as many flows as given, a power of two, and all of
// each frame anew, because pages come back as the last program left them.
func (in *injector) segments(s segment, flows int) (stream, error) {
	counter, err := newCounter()
	if err != nil {
		return stream{}, err
	}
	port, address := int16(offsetTCP), int16(offsetSource)
	if s.reply {
		port, address = port+2, address+4
	}
	data := s.bytes()
	program := append(bounds(frameSize), count(counter)...)
	for i := 0; i+8 <= frameSize; i += 8 {
		program = append(program,
			asm.LoadImm(asm.R4, int64(binary.NativeEndian.Uint64(data[i:])), asm.DWord),
			asm.StoreMem(asm.R7, int16(i), asm.R4, asm.DWord))
	}
	program = append(program, asm.And.Imm(asm.R3, int32(flows-1)), asm.Mov.Reg(asm.R4, asm.R3))
	program = append(program, replace(port, offsetUrgent, firstClientPort, clientPorts-1)...)
	if flows > clientPorts {
		program = append(program, asm.Mov.Reg(asm.R3, asm.R4), asm.RSh.Imm(asm.R3, 14))
		program = append(program, replace(address+2, offsetWindow, 0, 0xffff)...)
		// The complement that replace left in R3 is also what makes up for it in the IP header.
		program = append(program, asm.StoreMem(asm.R7, offsetID, asm.R3, asm.Half))
	}
	return in.stream(data, program)
}

// replace writes R3, cut to a mask, and its complement, which it leaves in R3.
func replace(offset, complement int16, base, mask int32) asm.Instructions {
	return asm.Instructions{
		asm.And.Imm(asm.R3, mask),
		asm.Or.Imm(asm.R3, base),
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.StoreMem(asm.R7, offset, asm.R3, asm.Half),
		asm.Xor.Imm(asm.R3, 0xffff),
		asm.StoreMem(asm.R7, complement, asm.R3, asm.Half),
	}
}

// stream loads a program that ends in the verdict.
func (in *injector) stream(data []byte, program asm.Instructions) (stream, error) {
	entry, err := load(append(program,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, in.next.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, xdpAborted).WithSymbol("short"),
		asm.Return(),
	))
	if err != nil {
		return stream{}, fmt.Errorf("load the injector: %w", err)
	}
	return stream{frame: data, entry: entry}, nil
}

func newCounter() (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
}

// count leaves the number of frames before this one in R3. It is not atomic: one processor injects.
func count(counter *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R2, counter.FD(), 0),
		asm.LoadMem(asm.R3, asm.R2, 0, asm.Word),
		asm.Add.Imm(asm.R3, 1),
		asm.StoreMem(asm.R2, 0, asm.R3, asm.Word),
	}
}
