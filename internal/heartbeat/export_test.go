package heartbeat

import (
	"net"
	"time"

	"github.com/mdlayher/packet"
)

// Group is where frames are sent to.
var Group = group

// Tap reads frames, and when they came by the kernel's clock, from a socket.
type Tap struct{ link }

// NewTap makes the kernel note when what the socket gets came.
func NewTap(conn *packet.Conn) (*Tap, error) {
	return &Tap{link{conn: conn}}, stampArrivals(conn)
}

// Next waits for a frame and returns what follows its Ethernet header, which says whose it is.
func (t *Tap) Next() (payload []byte, from net.HardwareAddr, at time.Time, err error) {
	mac, payload, at, err := t.receive(make([]byte, 2048))
	return payload, mac[:], at, err
}

// Forge makes a frame as a node would.
func Forge(cluster, node string, life, counter uint64, absence time.Duration, secret string) []byte {
	s, err := newSigner([][]byte{[]byte(secret)})
	if err != nil {
		panic(err)
	}
	f := frame{cluster: clusterID(cluster), name: node, life: life, counter: counter, absence: absence}
	return s.sign(f.encode())
}
