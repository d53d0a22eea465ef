package sockets

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// ErrNoDestroy is the cause when the kernel was built without the means to close sockets of others.
var ErrNoDestroy = errors.New("the kernel cannot close sockets: it lacks CONFIG_INET_DIAG_DESTROY")

// CanDestroy returns nil if Destroy works here, [ErrNoDestroy] if the kernel cannot do it, or what
// else is in the way, such as a missing CAP_NET_ADMIN.
func CanDestroy() error {
	d, err := newDestroyer()
	if err != nil {
		return fmt.Errorf("close sockets: %w", err)
	}
	defer d.close()
	// Port 0 has no socket, so nothing can come to harm. A kernel that finds none does not come to
	// asking for the capability.
	if _, err := d.destroy(request{family: unix.AF_INET, protocol: lb.ProtocolTCP}); err != nil {
		return fmt.Errorf("close sockets: %w", err)
	}
	return holdsNetAdmin()
}

func holdsNetAdmin() error {
	var held [2]unix.CapUserData // 32 capabilities each
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &held[0])
	if err == nil && held[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		err = unix.EPERM
	}
	if err != nil {
		return fmt.Errorf("close sockets: CAP_NET_ADMIN: %w", err)
	}
	return nil
}

// Destroy closes the open TCP connections that the filter describes and choose agrees to; nil
// agrees to all. Their clients get a RST, their programs ECONNABORTED. It returns how many it
// closed; those that ended by themselves meanwhile are not among them. It needs CAP_NET_ADMIN.
// UDP sockets stay: there is nobody to tell.
func Destroy(f Filter, choose func(Connection) bool) (closed int, err error) {
	if f.States != 0 && f.States&Open == 0 {
		return 0, nil
	}
	f.States &= Open
	type victim struct {
		Connection
		request
	}
	var victims []victim
	err = f.each(func(s socket) {
		v := victim{s.connection(), request{family: s.family(), protocol: lb.ProtocolTCP}}
		copy(v.id[:], s.id())
		victims = append(victims, v)
	}, lb.ProtocolTCP)
	if err != nil {
		return 0, fmt.Errorf("close sockets: %w", err)
	}
	d, err := newDestroyer()
	if err != nil {
		return 0, fmt.Errorf("close sockets: %w", err)
	}
	defer d.close()
	for _, v := range victims {
		if choose != nil && !choose(v.Connection) {
			continue
		}
		done, err := d.destroy(v.request)
		if err != nil {
			return closed, fmt.Errorf("close sockets: %s to %s: %w", v.Remote, v.Local, err)
		}
		if done {
			closed++
		}
	}
	return closed, nil
}

// A destroyer is a netlink socket for many requests.
type destroyer map[int]*nl.SocketHandle

func newDestroyer() (destroyer, error) {
	s, err := nl.Subscribe(unix.NETLINK_INET_DIAG) // to no group: just a socket
	if err != nil {
		return nil, err
	}
	return destroyer{unix.NETLINK_INET_DIAG: {Socket: s}}, nil
}

func (d destroyer) close() { d[unix.NETLINK_INET_DIAG].Close() }

// destroy closes one socket and says whether it was there. The cookie in its id is what makes this
// safe: without one, the kernel takes the listener for a connection that is gone.
func (d destroyer) destroy(r request) (bool, error) {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.Sockets = d
	req.AddData(r)
	_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	return destroyed(err)
}

// destroyed says what the kernel's answer means.
func destroyed(err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE): // ESTALE: another socket by now
		return false, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, ErrNoDestroy
	}
	return false, err
}
