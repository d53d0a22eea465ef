package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A caller is the client's end of a connection.
type caller struct {
	v6   bool
	port uint16 // the client's
}

// A handshake is one SYN of a flow, however often it was sent.
type handshake struct {
	caller
	acknowledges uint32
}

// A reset is one that reached the client.
type reset struct {
	at time.Time // by the kernel's clock, as the frame passed the switch
	caller
}

// A wire notes the SYN-ACKs and resets that nodes send, and those of them that reach the client, as they
// pass the switch: also when the switch loses them.
type wire struct {
	t     testing.TB
	fd    int
	names map[int]string

	mu       sync.Mutex
	answered map[handshake]map[uint32]string // by nodes: the port of each sequence number
	reached  map[handshake]map[uint32]bool   // the client
	twice    map[handshake]time.Time         // when another node answered
	resets   []reset
}

// newWire listens until the test ends.
func newWire(t testing.TB, c *cluster) *wire {
	t.Helper()
	w := &wire{
		t: t, names: make(map[int]string),
		answered: make(map[handshake]map[uint32]string), reached: make(map[handshake]map[uint32]bool),
		twice: make(map[handshake]time.Time),
	}
	check(t, c.sw.Host.Do(w.open))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.read(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		unix.Close(w.fd)
	})
	return w
}

const clientSide = "client-eth0"

func (w *wire) open() error {
	ports, err := net.Interfaces()
	if err != nil {
		return err
	}
	for i := range ports {
		w.names[ports[i].Index] = ports[i].Name
	}
	// listens to nothing before its filter is there
	if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	if err := w.filter(); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}); err != nil {
		return err
	}
	const all = 0x0300 // ETH_P_ALL in network order
	return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all})
}

// filter takes TCP with SYN and ACK or RST; without it the copies for each port would be too many.
func (w *wire) filter() error {
	const (
		ethertype = 12
		protocol4 = 14 + 9
		protocol6 = 14 + 6
		flags4    = 14 + 20 + 13
		flags6    = 14 + 40 + 13
	)
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: ethertype, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 9},
		bpf.LoadAbsolute{Off: protocol4, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 7},
		bpf.LoadAbsolute{Off: flags4, Size: 1},
		bpf.Jump{Skip: 3},
		bpf.LoadAbsolute{Off: protocol6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: flags6, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x06},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 128},
	})
	if err != nil {
		return err
	}
	raw := make([]unix.SockFilter, len(program))
	for i, p := range program {
		raw[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(raw)), Filter: unsafe.SliceData(raw)})
}

func (w *wire) read(ctx context.Context) {
	frame, control := make([]byte, 256), make([]byte, 256)
	for ctx.Err() == nil {
		n, oob, _, from, err := unix.Recvmsg(w.fd, frame, control, 0)
		if ll, ok := from.(*unix.SockaddrLinklayer); err == nil && ok {
			w.note(frame[:n], ll, stamp(control[:oob]))
		}
	}
}

// stamp returns when the kernel saw a frame.
func stamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

func (w *wire) note(b []byte, ll *unix.SockaddrLinklayer, at time.Time) {
	v6 := binary.BigEndian.Uint16(b[12:]) == unix.ETH_P_IPV6
	tcp := b[14:]
	if v6 {
		tcp = tcp[40:]
	} else {
		tcp = tcp[int(tcp[0]&15)*4:]
	}
	if len(tcp) < 14 {
		return
	}
	name := w.names[int(ll.Ifindex)]
	out := ll.Pkttype == unix.PACKET_OUTGOING
	if out != (name == clientSide) {
		return // copies, and what the client sends
	}
	f := caller{v6, binary.BigEndian.Uint16(tcp[2:])}
	sequence, flags := binary.BigEndian.Uint32(tcp[4:]), tcp[13]
	w.mu.Lock()
	defer w.mu.Unlock()
	switch h := (handshake{f, binary.BigEndian.Uint32(tcp[8:])}); {
	case flags&0x04 != 0 && out:
		w.resets = append(w.resets, reset{at, f})
	case flags&0x12 == 0x12 && out:
		if w.reached[h] == nil {
			w.reached[h] = make(map[uint32]bool)
		}
		w.reached[h][sequence] = true
	case flags&0x12 == 0x12:
		if w.answered[h] == nil {
			w.answered[h] = make(map[uint32]string)
		}
		if _, passed := w.answered[h][sequence]; passed {
			return // sent again, or on its way through a director
		}
		for _, before := range w.answered[h] {
			if _, known := w.twice[h]; before != name && !known {
				w.twice[h] = at
			}
		}
		w.answered[h][sequence] = name
	}
}

// doubled returns the SYNs to which the client got the answers of two stacks.
func (w *wire) doubled() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for h, sequences := range w.reached {
		nodes := make(map[string]bool)
		for sequence := range sequences {
			nodes[w.answered[h][sequence]] = true
		}
		if len(nodes) > 1 {
			list = append(list, w.describe(h))
		}
	}
	return list
}

// accepted returns the SYNs that two stacks answered, whether or not the answers reached the client.
func (w *wire) accepted() []string { return w.acceptedAfter(time.Time{}) }

// acceptedAfter is accepted for second answers after a time.
func (w *wire) acceptedAfter(from time.Time) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for h, at := range w.twice {
		if at.After(from) {
			list = append(list, w.describe(h))
		}
	}
	return list
}

// handshakes returns how many SYNs were answered at all.
func (w *wire) handshakes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.reached)
}

func (w *wire) describe(h handshake) string {
	var ports []string
	for _, port := range w.answered[h] {
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return fmt.Sprintf("port %d (IPv6 %t) by %v", h.port, h.v6, ports)
}

// resetsOf returns when the client got resets for a flow since a time.
func (w *wire) resetsOf(f caller, since time.Time) (at []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.resets {
		if r.caller == f && r.at.After(since) {
			at = append(at, r.at)
		}
	}
	return at
}

// wantOnce fails the test when two nodes answered one SYN, or when what the wire saw is too little.
func (w *wire) wantOnce(t testing.TB) {
	t.Helper()
	if n := w.handshakes(); n < 100 {
		t.Errorf("only %d handshakes: too little to tell", n)
	}
	if list := w.doubled(); len(list) > 0 {
		t.Errorf("%d SYNs were answered twice at the client: %v", len(list), first(list))
	}
	lost, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	check(t, err)
	if lost.Drops > 0 {
		t.Errorf("%d frames were not noted", lost.Drops)
	}
}

// wantOneAcceptor is wantOnce for answers that were lost as well: no second stack took a flow.
func (w *wire) wantOneAcceptor(t testing.TB) {
	t.Helper()
	w.wantOnce(t)
	if list := w.accepted(); len(list) > 0 {
		t.Errorf("%d SYNs were accepted by two nodes: %v", len(list), first(list))
	}
}

func first(list []string) []string { return list[:min(len(list), 5)] }
