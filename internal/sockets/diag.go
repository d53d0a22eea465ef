package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// The library can neither ask with bytecode nor destroy IPv6 sockets, so messages are written here.
const (
	idSize       = 48          // struct inet_diag_sockid: ports, addresses, interface, cookie
	requestSize  = 8 + idSize  // struct inet_diag_req_v2
	messageSize  = 24 + idSize // struct inet_diag_msg
	attrBytecode = 1           // INET_DIAG_REQ_BYTECODE
)

// A request is struct inet_diag_req_v2. It implements nl.NetlinkRequestData.
type request struct {
	family   uint8
	protocol lb.Protocol
	states   States
	id       [idSize]byte // as the kernel gave it
}

// Len returns the size in bytes.
func (r request) Len() int { return requestSize }

// Serialize returns the bytes the kernel reads.
func (r request) Serialize() []byte {
	b := []byte{r.family, uint8(r.protocol), 0, 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(r.states))
	return append(b, r.id[:]...)
}

// A socket is struct inet_diag_msg, which lies in a buffer that is used again.
type socket struct {
	protocol lb.Protocol
	message  []byte
}

func (s socket) family() uint8 { return s.message[0] }
func (s socket) state() State  { return State(s.message[1]) }
func (s socket) id() []byte    { return s.message[4 : 4+idSize] }

func (s socket) local() netip.AddrPort {
	return netip.AddrPortFrom(s.addr(s.id()[4:]), binary.BigEndian.Uint16(s.id()))
}

func (s socket) remote() netip.AddrPort {
	return netip.AddrPortFrom(s.addr(s.id()[20:]), binary.BigEndian.Uint16(s.id()[2:]))
}

func (s socket) addr(b []byte) netip.Addr {
	if s.family() == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b)).Unmap()
}

// keys are the forms in which a filter may name the local end.
func (s socket) keys() [2]netip.AddrPort {
	local := s.local()
	return [2]netip.AddrPort{local, netip.AddrPortFrom(local.Addr(), 0)}
}

func (s socket) connection() Connection {
	return Connection{Protocol: s.protocol, State: s.state(), Local: s.local(), Remote: s.remote()}
}

// dump calls fn for the sockets that the kernel picks. Each is valid until fn returns.
func dump(r request, bytecode []byte, fn func(socket)) error {
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	req.AddData(r)
	if bytecode != nil {
		req.AddData(nl.NewRtAttr(attrBytecode, bytecode))
	}
	var short error
	err := req.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(message []byte) bool {
		if len(message) < messageSize {
			short = fmt.Errorf("a message of %d bytes, want %d", len(message), messageSize)
			return false
		}
		fn(socket{protocol: r.protocol, message: message})
		return true
	})
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted): // connections came and went: they always do
		err = nil
	case errors.Is(err, unix.ENOENT):
		err = fmt.Errorf("the kernel cannot tell: it lacks CONFIG_INET_%s_DIAG (module %s_diag)", strings.ToUpper(r.protocol.String()), r.protocol)
	}
	if err := errors.Join(err, short); err != nil {
		return fmt.Errorf("sock_diag: %s: %w", r.protocol, err)
	}
	return nil
}
