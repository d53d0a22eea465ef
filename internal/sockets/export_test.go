package sockets

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

var Destroyed = destroyed

// Picked returns the TCP sockets that the kernel picks by bytecode alone, in both families.
func Picked(places ...netip.AddrPort) ([]Connection, error) {
	var all []Connection
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		r := request{family: family, protocol: lb.ProtocolTCP, states: All}
		if err := dump(r, program(places), func(s socket) { all = append(all, s.connection()) }); err != nil {
			return nil, err
		}
	}
	return all, nil
}
