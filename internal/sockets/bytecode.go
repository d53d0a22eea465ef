package sockets

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxConditions is how many places the kernel compares each socket with, one after the other. With
// more of them it is cheaper to copy all sockets and look them up in a map.
const maxConditions = 64

// From linux/inet_diag.h: enum { INET_DIAG_BC_NOP, ... }.
const (
	opJump   = 1
	opSource = 7 // INET_DIAG_BC_S_COND
)

const opSize = 4 // struct inet_diag_bc_op

// program returns the bytecode with which the kernel picks sockets whose local end is one of the
// places; nil is no choice. An instruction is a code, the distance to the next one if it holds, and
// the distance if not. A socket is picked when the end is reached exactly; whoever jumps past the
// end is out. So each condition is followed by a jump to the end, which the one that failed skips:
//
//	local is A? no -> 1
//	jump to the end
//	1: local is B? no -> past the end
//
// An IPv4 place holds for IPv6 sockets with the mapped address as well.
func program(places []netip.AddrPort) []byte {
	if len(places) > maxConditions {
		return nil
	}
	size := -opSize // no jump after the last
	for _, p := range places {
		size += conditionSize(p) + opSize
	}
	code := make([]byte, 0, size)
	for _, p := range places {
		n := conditionSize(p)
		code = appendOp(code, opSource, n, n+opSize)
		code = appendHost(code, p)
		if rest := size - len(code); rest > 0 {
			code = appendOp(code, opJump, opSize, rest)
		}
	}
	return code
}

func appendOp(code []byte, op uint8, yes, no int) []byte {
	return binary.NativeEndian.AppendUint16(append(code, op, uint8(yes)), uint16(no))
}

// conditionSize is that of an instruction with its struct inet_diag_hostcond.
func conditionSize(p netip.AddrPort) int {
	return opSize + 8 + p.Addr().BitLen()/8
}

// appendHost writes struct inet_diag_hostcond: family, prefix length, two bytes of padding, the
// port in the machine's order or -1 for all, the address.
func appendHost(code []byte, p netip.AddrPort) []byte {
	family := uint8(unix.AF_INET6)
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	port := int32(p.Port())
	if port == 0 {
		port = -1
	}
	code = append(code, family, uint8(p.Addr().BitLen()), 0, 0)
	code = binary.NativeEndian.AppendUint32(code, uint32(port))
	return append(code, p.Addr().AsSlice()...)
}
