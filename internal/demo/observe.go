package demo

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// An observer sees what arrives at the client below its stack: a stack would not tell of a second
// SYN-ACK.
type observer struct {
	fd      int
	stop    chan struct{}
	stopped chan struct{}
	// by what is answered: client port and the SYN's number; the value is the answer's first number
	answers map[[6]byte]uint32
	doubled map[[6]byte]bool
}

func observe(client *netlab.Host) (*observer, error) {
	o := &observer{
		stop: make(chan struct{}), stopped: make(chan struct{}),
		answers: make(map[[6]byte]uint32), doubled: make(map[[6]byte]bool),
	}
	err := client.Do(func() (err error) {
		const everything = 0x0300 // ETH_P_ALL in network byte order
		if o.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, everything); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(o.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
			return err
		}
		wait := unix.NsecToTimeval(int64(50 * time.Millisecond)) // to look for stop
		return unix.SetsockoptTimeval(o.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	})
	if err != nil {
		return nil, err
	}
	go o.run()
	return o, nil
}

func (o *observer) run() {
	defer close(o.stopped)
	buffer := make([]byte, 65536)
	for {
		select {
		case <-o.stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(o.fd, buffer, 0)
		if err != nil {
			continue // nothing came
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype != unix.PACKET_OUTGOING {
			o.note(buffer[:n])
		}
	}
}

// note looks at one IP packet.
func (o *observer) note(packet []byte) {
	var tcp []byte
	switch {
	case len(packet) > 40 && packet[0]>>4 == 6 && packet[6] == unix.IPPROTO_TCP:
		tcp = packet[40:]
	case len(packet) > 20 && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_TCP:
		tcp = packet[min(int(packet[0]&15)*4, len(packet)):]
	}
	const synAck = 0x12
	if len(tcp) < 20 || tcp[13]&synAck != synAck {
		return
	}
	var key [6]byte
	copy(key[:2], tcp[2:4])
	copy(key[2:], tcp[8:12])
	number := binary.BigEndian.Uint32(tcp[4:])
	if before, seen := o.answers[key]; seen && before != number {
		o.doubled[key] = true // the same stack would repeat its number
	}
	o.answers[key] = number
}

// close returns how many SYNs were answered twice. An observer that missed packets proves nothing.
func (o *observer) close() (int, error) {
	close(o.stop)
	<-o.stopped
	defer unix.Close(o.fd)
	stats, err := unix.GetsockoptTpacketStats(o.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("ask what the observer missed: %w", err)
	}
	if stats.Drops > 0 {
		return 0, fmt.Errorf("the observer missed %d packets", stats.Drops)
	}
	return len(o.doubled), nil
}
