package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A sniffer sees the handshakes and the resets of a client, below its stack.
type sniffer struct {
	fd   int
	port uint16 // of the servers
	tell func(kind, text string)

	mu       sync.Mutex
	syns     map[uint64]int    // sent, by handshake
	answers  map[uint64]answer // the first SYN-ACK, by handshake
	resent   int               // handshakes whose SYN was sent again: the first one, or its answer, was lost
	doubled  int               // handshakes that two stacks answered
	answered int               // SYN-ACKs that were sent again by the same stack
	ended    map[uint64]bool   // the client's half, by IP version and port
	resets   int               // received on connections that the client had not ended
}

// An answer tells the stacks apart that answer one SYN.
type answer struct {
	sequence uint32
	mac      [6]byte
}

// newSniffer listens on all interfaces of the namespace that this thread is in.
func newSniffer(port uint16, tell func(kind, text string)) (*sniffer, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &sniffer{fd: fd, port: port, tell: tell, syns: make(map[uint64]int), answers: make(map[uint64]answer), ended: make(map[uint64]bool)}
	if err := s.prepare(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *sniffer) prepare() error {
	program, err := bpf.Assemble(handshakes)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("attach the filter: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}); err != nil {
		return err
	}
	const all = 0x0300 // ETH_P_ALL in network order
	return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all})
}

// handshakes passes what has SYN, FIN or RST set, of TCP over IPv4 and IPv6.
var handshakes = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 8},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IP, SkipFalse: 11},
	bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipFalse: 9},
	bpf.LoadAbsolute{Off: 14 + 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 7},
	bpf.LoadMemShift{Off: 14},
	bpf.LoadIndirect{Off: 14 + 13, Size: 1},
	bpf.Jump{Skip: 3},
	bpf.LoadAbsolute{Off: 14 + 6, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP, SkipFalse: 2},
	bpf.LoadAbsolute{Off: 14 + 40 + 13, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: flagFIN | flagSYN | flagRST, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 0xffff},
}

const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// run notes what passes until ctx ends, and then what passed before.
func (s *sniffer) run(ctx context.Context) error {
	defer unix.Close(s.fd)
	buffer := make([]byte, 65536)
	for {
		ended := ctx.Err() != nil
		n, from, err := unix.Recvfrom(s.fd, buffer, 0)
		if ll, ok := from.(*unix.SockaddrLinklayer); err == nil && ok {
			s.note(buffer[:n], ll.Pkttype == unix.PACKET_OUTGOING)
			continue
		}
		if ended {
			break
		}
	}
	lost, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || lost.Drops > 0 {
		return fmt.Errorf("sniffer: %d frames were not seen, %w", lost.Drops, err)
	}
	return nil
}

// note looks at a frame that the filter passed.
func (s *sniffer) note(b []byte, outgoing bool) {
	if !outgoing && isForVIP(b[14:]) {
		return // what the switch floods to all: replies of full NAT
	}
	segment, version := b[14+40:], uint64(6)
	if b[14]>>4 == 4 {
		segment, version = b[14+int(b[14]&15)*4:], 4
	}
	from, to := binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
	sequence, acknowledged := binary.BigEndian.Uint32(segment[4:]), binary.BigEndian.Uint32(segment[8:])
	flags := segment[13]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case outgoing && to == s.port && flags&(flagSYN|flagACK) == flagSYN:
		delete(s.ended, version<<16|uint64(from))
		key := version<<48 | uint64(from)<<32 | uint64(sequence)
		s.syns[key]++
		if s.syns[key] == 2 {
			s.resent++
			s.tell("SYN again", fmt.Sprintf("IPv%d port %d", version, from))
		}
	case outgoing && to == s.port && flags&(flagFIN|flagRST) != 0:
		s.ended[version<<16|uint64(from)] = true
	case !outgoing && from == s.port && flags&flagRST != 0:
		// an ACK that crossed the end of a connection is answered so, by anybody
		if s.ended[version<<16|uint64(to)] {
			return
		}
		s.resets++
		s.tell("reset", fmt.Sprintf("IPv%d port %d by %s, flags %#x", version, to, net.HardwareAddr(b[6:12]), flags))
	case !outgoing && from == s.port && flags&(flagSYN|flagACK) == flagSYN|flagACK:
		key := version<<48 | uint64(to)<<32 | uint64(acknowledged-1)
		s.answeredBy(key, answer{sequence, [6]byte(b[6:12])}, fmt.Sprintf("IPv%d port %d", version, to))
	}
}

func (s *sniffer) answeredBy(key uint64, a answer, flow string) {
	first, again := s.answers[key]
	switch {
	case !again:
		s.answers[key] = a
	case first == a:
		s.answered++
		s.tell("SYN-ACK again", flow)
	default:
		s.doubled++
		s.tell("two SYN-ACKs", fmt.Sprintf("%s from %s and %s", flow, net.HardwareAddr(first.mac[:]), net.HardwareAddr(a.mac[:])))
	}
}
