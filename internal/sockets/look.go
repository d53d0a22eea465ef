package sockets

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/lb"
)

// Count counts connections for each of f.Local. A connection that two of them describe, one with
// its port and one with all ports, counts for both. All of f.Local are in the result.
func Count(f Filter) (map[netip.AddrPort]Counts, error) {
	counts := make(map[netip.AddrPort]Counts)
	for _, local := range f.Local {
		counts[local] = Counts{TCP: make(map[State]int)}
	}
	err := f.each(func(s socket) {
		for _, local := range s.keys() {
			n, ok := counts[local]
			switch {
			case !ok:
			case s.protocol == lb.ProtocolUDP:
				n.UDP++
				counts[local] = n
			default:
				n.TCP[s.state()]++
			}
		}
	}, lb.ProtocolTCP, lb.ProtocolUDP)
	if err != nil {
		return nil, fmt.Errorf("count sockets: %w", err)
	}
	return counts, nil
}

// Connections returns the connections in no particular order.
func Connections(f Filter) ([]Connection, error) {
	var all []Connection
	if err := f.each(func(s socket) { all = append(all, s.connection()) }, lb.ProtocolTCP, lb.ProtocolUDP); err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	return all, nil
}

// each calls fn for every socket that the filter describes. The socket is gone when fn returns.
func (f Filter) each(fn func(socket), protocols ...lb.Protocol) error {
	wanted := make(map[netip.AddrPort]bool, len(f.Local))
	for _, local := range f.Local {
		if !local.IsValid() || local.Addr().Is4In6() || local.Addr().Zone() != "" || local.Addr().IsUnspecified() {
			return fmt.Errorf("%s is no address of a vip", local)
		}
		wanted[local] = true
	}
	states := f.States & All
	if f.States == 0 {
		states = Open
	}
	places := slices.SortedFunc(maps.Keys(wanted), netip.AddrPort.Compare) // each once
	for _, protocol := range protocols {
		states := states
		if protocol == lb.ProtocolUDP {
			states = Established.Set()
		}
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			// IPv4 connections can have IPv6 sockets, but not the other way round.
			inFamily := places
			if family == unix.AF_INET {
				inFamily = slices.DeleteFunc(slices.Clone(places), func(p netip.AddrPort) bool { return p.Addr().Is6() })
			}
			if len(inFamily) == 0 {
				continue
			}
			err := dump(request{family: family, protocol: protocol, states: states}, program(inFamily), func(s socket) {
				if keys := s.keys(); wanted[keys[0]] || wanted[keys[1]] {
					fn(s)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
