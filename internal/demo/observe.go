package demo

import (
	"encoding/binary"
	"fmt"
	"sync"
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
	macs    map[[6]byte]string // names of nodes

	mu sync.Mutex
	// The first answer to each SYN, in two halves: when the younger is old enough, the older goes.
	answers, older map[answerKey]answer
	rotated        time.Time
	doubled        int // SYNs
	surplus        int // SYN-ACKs
	nodes          map[flow]string
}

// A flow is a connection of the client to the VIP of a family, 0 for IPv4 and 1 for IPv6.
type flow struct{ family, port int }

// An answerKey names the SYN that is answered, by the number that the answer acknowledges.
type answerKey struct {
	flow   flow
	number uint32
}

// An answer is what tells one SYN-ACK from another: a stack repeats its number.
type answer struct {
	number  uint32
	mac     [6]byte
	doubled bool
}

// remembered is how long a SYN is watched for a second answer; a stack repeats a SYN-ACK for a minute.
const remembered = time.Minute

func observe(client *netlab.Host, nodes []*node) (*observer, error) {
	o := &observer{
		stop: make(chan struct{}), stopped: make(chan struct{}),
		macs:    make(map[[6]byte]string),
		answers: make(map[answerKey]answer), rotated: time.Now(),
		nodes: make(map[flow]string),
	}
	for _, n := range nodes {
		mac, err := n.host.MAC("eth0")
		if err != nil {
			return nil, err
		}
		o.macs[[6]byte(mac)] = n.name
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
			o.note(buffer[:n], [6]byte(link.Addr[:6]))
		}
	}
}

// note looks at one IP packet that came from a MAC.
func (o *observer) note(packet []byte, mac [6]byte) {
	var tcp []byte
	family := 0
	switch {
	case len(packet) > 40 && packet[0]>>4 == 6 && packet[6] == unix.IPPROTO_TCP:
		tcp, family = packet[40:], 1
	case len(packet) > 20 && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_TCP:
		tcp = packet[min(int(packet[0]&15)*4, len(packet)):]
	}
	const synAck = 0x12
	if len(tcp) < 20 || tcp[13]&synAck != synAck {
		return
	}
	key := answerKey{flow{family, int(binary.BigEndian.Uint16(tcp[2:]))}, binary.BigEndian.Uint32(tcp[8:])}
	o.answered(key, answer{number: binary.BigEndian.Uint32(tcp[4:]), mac: mac})
}

func (o *observer) answered(key answerKey, a answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes[key.flow] = o.macs[a.mac]
	if time.Since(o.rotated) > remembered {
		o.answers, o.older, o.rotated = make(map[answerKey]answer), o.answers, time.Now()
	}
	before, seen := o.answers[key]
	if !seen {
		before, seen = o.older[key]
	}
	if !seen {
		o.answers[key] = a
		return
	}
	if before.number == a.number && before.mac == a.mac {
		return
	}
	o.surplus++
	if !before.doubled {
		o.doubled++
		before.doubled = true
		o.answers[key] = before
	}
}

// node returns who answered the newest SYN of a flow; nothing when nobody did.
func (o *observer) node(f flow) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.nodes[f]
}

// flowsOf returns the flows that a node answered last.
func (o *observer) flowsOf(name string) []flow {
	o.mu.Lock()
	defer o.mu.Unlock()
	var flows []flow
	for f, who := range o.nodes {
		if who == name {
			flows = append(flows, f)
		}
	}
	return flows
}

// close counts what was answered twice. An observer that missed packets proves nothing.
func (o *observer) close() (doubled, surplus int, err error) {
	close(o.stop)
	<-o.stopped
	defer unix.Close(o.fd)
	stats, err := unix.GetsockoptTpacketStats(o.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, fmt.Errorf("ask what the observer missed: %w", err)
	}
	if stats.Drops > 0 {
		return 0, 0, fmt.Errorf("the observer missed %d packets", stats.Drops)
	}
	return o.doubled, o.surplus, nil
}
