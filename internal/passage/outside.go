package passage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// An outside is this machine's links: where packets are sent, and answers picked up.
type outside struct {
	out     int
	replies []*os.File // of IPv4 and IPv6

	mu   sync.Mutex
	vips [2][]netip.Addr // whose answers are picked up, by socket
}

// openOutside opens sockets in the network namespace of the calling thread.
func openOutside() (*outside, error) {
	w := &outside{out: -1}
	err := func() (err error) {
		// One of protocol 0 receives nothing.
		if w.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		for _, ethertype := range []int{unix.ETH_P_IP, unix.ETH_P_IPV6} {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			w.replies = append(w.replies, os.NewFile(uintptr(fd), "packet"))
			if err := attach(fd, bpf.RetConstant{Val: 0}); err != nil { // before it hears anything
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(ethertype)}); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		w.close()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return w, nil
}

func bigEndian(ethertype int) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, uint16(ethertype)))
}

// deafen ends those who read.
func (w *outside) deafen() {
	for _, file := range w.replies {
		_ = file.Close() // nothing was written that could be lost
	}
}

// close is for when nobody sends any more.
func (w *outside) close() {
	w.deafen()
	if w.out >= 0 {
		_ = unix.Close(w.out)
	}
}

// send sends an IP packet to a neighbour.
func (w *outside) send(packet []byte, hop *lb.NextHop) error {
	request, err := unix.NewIfreq(hop.Interface)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(w.out, unix.SIOCGIFINDEX, request); err != nil {
		return fmt.Errorf("interface %s: %w", hop.Interface, err)
	}
	ethertype := unix.ETH_P_IP
	if packet[0]>>4 == 6 {
		ethertype = unix.ETH_P_IPV6
	}
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(ethertype), Ifindex: int(request.Uint32()), Halen: uint8(len(hop.MAC))}
	copy(to.Addr[:], hop.MAC)
	return unix.Sendto(w.out, packet, 0, to)
}

// listenTo has answers from a VIP picked up.
func (w *outside) listenTo(vip netip.Addr) error {
	family := 0
	if vip.Is6() {
		family = 1
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.vips[family], vip) {
		return nil
	}
	all := append(slices.Clone(w.vips[family]), vip)
	socket, err := w.replies[family].SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = socket.Control(func(fd uintptr) { failed = attach(int(fd), sentBy(all)...) })
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("listen to %s: %w", vip, err)
	}
	w.vips[family] = all
	return nil
}

// sentBy lets packets pass whose source is one of the addresses, all of one family.
func sentBy(vips []netip.Addr) []bpf.Instruction {
	const source4, source6, word = 12, 8, 4
	var program []bpf.Instruction
	for _, vip := range vips {
		offset := uint32(source4)
		if vip.Is6() {
			offset = source6
		}
		bytes := vip.AsSlice()
		words := len(bytes) / word
		for i := range words {
			rest := uint8(2*(words-1-i) + 1) // instructions to the next address
			program = append(program,
				bpf.LoadAbsolute{Off: offset + uint32(i*word), Size: word},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(bytes[i*word:]), SkipFalse: rest})
		}
		program = append(program, bpf.RetConstant{Val: maxPacket})
	}
	return append(program, bpf.RetConstant{Val: 0})
}

func attach(fd int, program ...bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}
