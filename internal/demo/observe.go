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
	// What became of each SYN, in two halves: when the younger is old enough, the older goes.
	syns, older map[synKey]*syn
	rotated     time.Time
	sight       sight
	nodes       map[flow]string
}

// A sight is what an observer counted.
type sight struct {
	doubled  int // SYNs that were answered twice
	surplus  int // SYN-ACKs that were one too many
	repeated int // SYNs that were sent again, for want of an answer
}

// A flow is a connection of the client to the VIP of a family, 0 for IPv4 and 1 for IPv6.
type flow struct{ family, port int }

// A synKey names a SYN by the number that acknowledges it.
type synKey struct {
	flow   flow
	number uint32
}

// A syn is what became of a SYN.
type syn struct {
	sent     bool
	answered bool
	doubled  bool
	number   uint32 // of the first answer; a stack repeats its own
	mac      [6]byte
}

// remembered is how long a SYN is watched for a second answer; a stack repeats a SYN-ACK for a minute.
const remembered = time.Minute

func observe(client *netlab.Host, nodes []*node) (*observer, error) {
	o := &observer{
		stop: make(chan struct{}), stopped: make(chan struct{}),
		macs: make(map[[6]byte]string),
		syns: make(map[synKey]*syn), rotated: time.Now(),
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
		if link, ok := from.(*unix.SockaddrLinklayer); ok {
			o.note(buffer[:n], [6]byte(link.Addr[:6]), link.Pkttype == unix.PACKET_OUTGOING)
		}
	}
}

// note looks at one IP packet that came from a MAC, or that the client sends.
func (o *observer) note(packet []byte, mac [6]byte, outgoing bool) {
	var tcp []byte
	family := 0
	switch {
	case len(packet) > 40 && packet[0]>>4 == 6 && packet[6] == unix.IPPROTO_TCP:
		tcp, family = packet[40:], 1
	case len(packet) > 20 && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_TCP:
		tcp = packet[min(int(packet[0]&15)*4, len(packet)):]
	}
	if len(tcp) < 20 {
		return
	}
	from, to := int(binary.BigEndian.Uint16(tcp)), int(binary.BigEndian.Uint16(tcp[2:]))
	number, acknowledged := binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	const opening, synAck = 0x02, 0x12
	switch flags := tcp[13] & synAck; {
	case outgoing && flags == opening:
		o.sent(synKey{flow{family, from}, number + 1})
	case !outgoing && flags == synAck:
		o.answered(synKey{flow{family, to}, acknowledged}, number, mac)
	}
}

func (o *observer) sent(key synKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.syn(key)
	if s.sent && !s.answered {
		o.sight.repeated++
	}
	s.sent = true
}

func (o *observer) answered(key synKey, number uint32, mac [6]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nodes[key.flow] = o.macs[mac]
	s := o.syn(key)
	if !s.answered {
		s.answered, s.number, s.mac = true, number, mac
		return
	}
	if s.number == number && s.mac == mac {
		return
	}
	o.sight.surplus++
	if !s.doubled {
		s.doubled = true
		o.sight.doubled++
	}
}

// syn finds a SYN, or begins to watch it.
func (o *observer) syn(key synKey) *syn {
	if time.Since(o.rotated) > remembered {
		o.syns, o.older, o.rotated = make(map[synKey]*syn), o.syns, time.Now()
	}
	for _, half := range []map[synKey]*syn{o.syns, o.older} {
		if s := half[key]; s != nil {
			return s
		}
	}
	s := new(syn)
	o.syns[key] = s
	return s
}

// who returns the node that answered a SYN of a flow last.
func (o *observer) who(f flow) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if name := o.nodes[f]; name != "" {
		return name
	}
	return "nobody"
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

// close returns what was counted. An observer that missed packets proves nothing.
func (o *observer) close() (sight, error) {
	close(o.stop)
	<-o.stopped
	defer unix.Close(o.fd)
	stats, err := unix.GetsockoptTpacketStats(o.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return sight{}, fmt.Errorf("ask what the observer missed: %w", err)
	}
	if stats.Drops > 0 {
		return sight{}, fmt.Errorf("the observer missed %d packets", stats.Drops)
	}
	return o.sight, nil
}
