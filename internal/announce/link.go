package announce

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/packet"
)

// sendTime is how long a frame may wait for room in a queue.
const sendTime = 100 * time.Millisecond

// A link is an open packet socket on one interface, as it was when it was opened.
type link struct {
	conn *packet.Conn
	ifi  *net.Interface
}

// links are those that were used, by name.
type links map[string]*link

func (l links) close() {
	for _, link := range l {
		link.conn.Close()
	}
}

// announce sends all that tells neighbours of an address. A socket that failed is opened anew the next
// time.
func (l links) announce(v VIP) error {
	link, err := l.of(v.Interface)
	if err != nil {
		return err
	}
	mac := v.MAC
	if mac == nil {
		mac = link.ifi.HardwareAddr
	}
	frames, err := announcements(v.Addr, mac)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		if err := link.send(frame); err != nil {
			delete(l, v.Interface)
			return errors.Join(err, link.conn.Close())
		}
	}
	return nil
}

// of returns a link that is open on the interface as it is now.
func (l links) of(name string) (*link, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, errors.New("not an ethernet interface")
	}
	if open := l[name]; open != nil {
		if open.ifi.Index == ifi.Index {
			open.ifi = ifi // its MAC may be another
			return open, nil
		}
		delete(l, name)
		if err := open.conn.Close(); err != nil {
			return nil, err
		}
	}
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil) // of no protocol: it only sends
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	l[name] = &link{conn, ifi}
	return l[name], nil
}

func (l *link) send(frame []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	_, err := l.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	return err
}
