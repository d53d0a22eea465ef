package cli

import (
	"fmt"
	"net/netip"
	"strings"
)

// parseEndpoint reads ADDRESS, ADDRESS:PORT, [IPV6] or [IPV6]:PORT. Without a port, ok is false.
func parseEndpoint(text string) (endpoint netip.AddrPort, ok bool, err error) {
	if endpoint, err := netip.ParseAddrPort(text); err == nil {
		if endpoint.Port() == 0 {
			return netip.AddrPort{}, false, fmt.Errorf("%q: port 0", text)
		}
		return plain(endpoint), true, nil
	}
	bare := text
	if inner, found := strings.CutPrefix(text, "["); found {
		bare = strings.TrimSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil {
		return netip.AddrPort{}, false,
			fmt.Errorf("%q: want ADDRESS or ADDRESS:PORT, IPv6 in brackets before a port", text)
	}
	return plain(netip.AddrPortFrom(addr, 0)), false, nil
}

// plain drops what a packet does not carry: a zone, and IPv4 written as IPv6.
func plain(endpoint netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(endpoint.Addr().Unmap().WithZone(""), endpoint.Port())
}

// madeUpPort is the source port of made-up packets whose port was not given.
const madeUpPort = 40000

// A question is what trace and owner ask about: a packet from a client to a VIP.
type question struct {
	protocol      uint8
	source        netip.AddrPort
	dest          netip.AddrPort
	anySourcePort bool // the port of source is made up
}

// parseQuestion reads PROTOCOL SRC[:PORT] VIP[:PORT].
func parseQuestion(protocol, source, dest string) (question, error) {
	var q question
	src, srcPort, err := parseEndpoint(source)
	if err != nil {
		return q, fmt.Errorf("source %w", err)
	}
	dst, dstPort, err := parseEndpoint(dest)
	if err != nil {
		return q, fmt.Errorf("VIP %w", err)
	}
	if src.Addr().Is4() != dst.Addr().Is4() {
		return q, fmt.Errorf("%s and %s are not of one address family", src.Addr(), dst.Addr())
	}
	q = question{source: src, dest: dst}
	switch protocol {
	case "tcp", "udp":
		q.protocol = protoTCP
		if protocol == "udp" {
			q.protocol = protoUDP
		}
		if !dstPort {
			return q, fmt.Errorf("VIP %q: %s needs a port", dest, protocol)
		}
		if !srcPort {
			q.anySourcePort = true
			q.source = netip.AddrPortFrom(src.Addr(), madeUpPort)
		}
	case "icmp":
		if srcPort || dstPort {
			return q, fmt.Errorf("icmp has no ports")
		}
		q.protocol = protoICMP
		if dst.Addr().Is6() {
			q.protocol = protoICMPv6
		}
	default:
		return q, fmt.Errorf("protocol %q: want tcp, udp or icmp", protocol)
	}
	return q, nil
}

// ends names both ends of the packet, without ports that do not exist or were made up.
func (q question) ends() (source, dest string) {
	source, dest = q.source.String(), q.dest.String()
	if q.source.Port() == 0 || q.anySourcePort {
		source = q.source.Addr().String()
	}
	if q.dest.Port() == 0 {
		dest = q.dest.Addr().String()
	}
	return source, dest
}
