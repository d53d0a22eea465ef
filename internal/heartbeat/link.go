package heartbeat

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const ethernetHeader = 14

// A link is an open packet socket on one interface, as it was when it was opened.
type link struct {
	conn  *packet.Conn
	ifi   *net.Interface
	own   map[[6]byte]bool // this machine's MACs: another interface of ours may be on the same link
	frame []byte           // the Ethernet header, and room
}

// openLink listens on an interface of the calling thread's network namespace.
func openLink(name string) (*link, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, errors.New("not an ethernet interface")
	}
	if ifi.Flags&net.FlagUp == 0 {
		return nil, errors.New("interface is down")
	}
	filter, err := bpf.Assemble(onlyGroup())
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	// The protocol keeps everything else away from the socket, so that other traffic costs
	// nothing; a socket of one protocol does not see what this machine sends either.
	conn, err := packet.Listen(ifi, packet.Raw, EtherType, &packet.Config{Filter: filter})
	if err != nil {
		return nil, err
	}
	// The network card has to let the group pass; the kernel forgets that when the socket closes.
	if err := conn.JoinGroup(group[:]); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := stampArrivals(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	own, err := ownMACs()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	header := append(append([]byte(nil), group[:]...), ifi.HardwareAddr...)
	return &link{conn: conn, ifi: ifi, own: own, frame: append(header, EtherType>>8, EtherType&0xff)}, nil
}

func ownMACs() (map[[6]byte]bool, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	own := make(map[[6]byte]bool)
	for _, ifi := range interfaces {
		if len(ifi.HardwareAddr) == 6 {
			own[[6]byte(ifi.HardwareAddr)] = true
		}
	}
	return own, nil
}

// onlyGroup lets pass what was sent to the group: the EtherType is anybody's to experiment with.
func onlyGroup() []bpf.Instruction {
	be := func(b []byte) (v uint32) {
		for _, x := range b {
			v = v<<8 | uint32(x)
		}
		return v
	}
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: be(group[:4]), SkipTrue: 3},
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: be(group[4:]), SkipTrue: 1},
		bpf.RetConstant{Val: ethernetHeader + maxFrame},
		bpf.RetConstant{Val: 0},
	}
}

// stampArrivals makes the kernel note when a frame came: we may read it much later.
func stampArrivals(conn *packet.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	})
	return errors.Join(err, set)
}

// current says whether the interface is still the one that was opened.
func (l *link) current() bool {
	ifi, err := net.InterfaceByName(l.ifi.Name)
	return err == nil && ifi.Index == l.ifi.Index && ifi.Flags&net.FlagUp != 0 &&
		string(ifi.HardwareAddr) == string(l.ifi.HardwareAddr)
}

// send sends a frame. It gives up after a while: a frame that waits is out of date.
func (l *link) send(b []byte, wait time.Duration) error {
	l.frame = append(l.frame[:ethernetHeader], b...)
	if err := l.conn.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	_, err := l.conn.WriteTo(l.frame, &packet.Addr{HardwareAddr: group[:]})
	return err
}

// receive waits for a frame and returns it without its Ethernet header, which says whose it is.
func (l *link) receive(buf []byte) (from [6]byte, b []byte, at time.Time, err error) {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return from, nil, at, err
	}
	var n, controlLen int
	var failed error
	var control [128]byte
	err = raw.Read(func(fd uintptr) bool {
		n, controlLen, _, _, failed = unix.Recvmsg(int(fd), buf, control[:], 0)
		return !errors.Is(failed, unix.EAGAIN) && !errors.Is(failed, unix.EINTR)
	})
	if err = errors.Join(err, failed); err != nil {
		return from, nil, at, err
	}
	at = arrival(control[:controlLen], time.Now())
	if n < ethernetHeader {
		return from, nil, at, nil
	}
	copy(from[:], buf[6:12])
	return from, buf[ethernetHeader:n], at, nil
}

// arrival returns when a frame came, on the monotonic clock; without a stamp, now.
func arrival(control []byte, now time.Time) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return now
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS_NEW && len(m.Data) >= 16 {
			sec, nsec := nativeInt64(m.Data), nativeInt64(m.Data[8:])
			// A wall clock that was set meanwhile would put the frame into the future, or long ago.
			if age := now.Round(0).Sub(time.Unix(sec, nsec)); age > 0 && age < time.Minute {
				return now.Add(-age)
			}
		}
	}
	return now
}
