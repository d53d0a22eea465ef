package nettest

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// A Frame is what a Watch notes of a frame.
type Frame struct {
	Port         string // interface that the frame passed
	Out          bool   // it left the host there
	Source, Dest string // MACs
	Ethertype    uint16
	Length       int // bytes, with the Ethernet header
}

// A Watch notes all frames that pass the interfaces of a host. On a switch these are its ports: what
// comes in there is what the machine behind the cable really sent.
type Watch struct {
	fd    int
	done  chan struct{}
	names map[int]string

	mu    sync.Mutex
	seen  map[Frame]int
	quiet int // times that the socket was found empty
}

// NewWatch watches the interfaces that the host has now, until the test ends.
func NewWatch(t testing.TB, host *netlab.Host) *Watch {
	t.Helper()
	w := &Watch{done: make(chan struct{}), names: make(map[int]string), seen: make(map[Frame]int)}
	if err := host.Do(w.open); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go w.read(stop)
	t.Cleanup(func() {
		close(stop)
		<-w.done
		unix.Close(w.fd)
	})
	return w
}

func (w *Watch) open() error {
	const all = 0x0300 // ETH_P_ALL in network order
	ports, err := net.Interfaces()
	if err != nil {
		return err
	}
	for i := range ports {
		w.names[ports[i].Index] = ports[i].Name
	}
	if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		return err
	}
	return unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20000})
}

func (w *Watch) read(stop chan struct{}) {
	defer close(w.done)
	buffer := make([]byte, 65536)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(w.fd, buffer, 0)
		if ll, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && n >= 14 {
			w.note(buffer[:n], ll)
			continue
		}
		w.mu.Lock()
		w.quiet++
		w.mu.Unlock()
	}
}

func (w *Watch) note(b []byte, ll *unix.SockaddrLinklayer) {
	f := Frame{
		Port:      w.names[ll.Ifindex],
		Out:       ll.Pkttype == unix.PACKET_OUTGOING,
		Source:    net.HardwareAddr(b[6:12]).String(),
		Dest:      net.HardwareAddr(b[:6]).String(),
		Ethertype: uint16(b[12])<<8 | uint16(b[13]),
		Length:    len(b),
	}
	w.mu.Lock()
	w.seen[f]++
	w.mu.Unlock()
}

// Count returns how many frames so far are of a kind. It fails the test when some were not noted.
func (w *Watch) Count(t testing.TB, kind func(Frame) bool) int {
	t.Helper()
	w.drain(t)
	lost, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || lost.Drops != 0 {
		t.Fatalf("watch: %d frames were not noted, %v", lost.Drops, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for f, times := range w.seen {
		if kind(f) {
			n += times
		}
	}
	return n
}

// drain waits until all that passed before is noted.
func (w *Watch) drain(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	before := w.quiet
	w.mu.Unlock()
	Eventually(t, 10*time.Second, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.quiet == before {
			return fmt.Errorf("watch: frames go on and on")
		}
		return nil
	})
}
