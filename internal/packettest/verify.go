package packettest

import (
	"encoding/binary"
	"fmt"
)

// Verify checks every checksum of a frame against its bytes: of IP and transport headers, of the
// packets in tunnels, and of those that ICMP errors quote, as far as they are there. Fragments have
// no transport checksum that could be checked alone.
func Verify(frame []byte) error {
	at, err := packetIn(frame)
	if err != nil {
		return err
	}
	return verifyPacket(frame[at:], binary.BigEndian.Uint16(frame[at-2:]) == 0x86dd)
}

func verifyPacket(b []byte, v6 bool) error {
	a, err := dissect(b)
	if err != nil {
		return err
	}
	if a.v6 != v6 {
		return fmt.Errorf("ip header: version %d, announced as another", b[0]>>4)
	}
	if !a.whole {
		return fmt.Errorf("packet: %w", errShort)
	}
	if n := a.headerLength(); residue(a.bytes[:n]) != 0 {
		return fmt.Errorf("ip header: wrong checksum %#04x", binary.BigEndian.Uint16(a.bytes[10:]))
	}
	if a.first || a.later {
		return nil
	}
	if err := a.verifyMessage(); err != nil {
		return err
	}
	switch {
	case a.protocol == ProtocolIPv4 || a.protocol == ProtocolIPv6:
		return within("tunnel", verifyPacket(a.message(), a.protocol == ProtocolIPv6))
	case a.isGUE():
		return within("gue", verifyPacket(a.message()[12:], a.message()[9] == ProtocolIPv6))
	}
	if inner := a.quote(); inner != nil {
		return within("quote", inner.verifyQuote())
	}
	return nil
}

func (a *anatomy) isGUE() bool {
	return a.protocol == ProtocolUDP && len(a.message()) >= 12 && binary.BigEndian.Uint16(a.port(Destination)) == GUEPort
}

func (a *anatomy) verifyMessage() error {
	field := a.sum()
	if field == nil {
		return nil
	}
	if a.protocol == ProtocolUDP {
		if length := int(binary.BigEndian.Uint16(a.message()[4:])); length != len(a.message()) {
			return fmt.Errorf("udp: length %d of %d bytes", length, len(a.message()))
		}
	}
	if field[0]|field[1] == 0 && a.optional() {
		// RFC 6935: in IPv6 for tunnels only
		if a.v6 && !a.isGUE() {
			return fmt.Errorf("udp over ipv6: no checksum")
		}
		return nil
	}
	if residue(a.pseudo(), a.message()) != 0 {
		return fmt.Errorf("protocol %d: wrong checksum %#04x", a.protocol, binary.BigEndian.Uint16(field))
	}
	return nil
}

func (a *anatomy) verifyQuote() error {
	if n := a.headerLength(); residue(a.bytes[:n]) != 0 {
		return fmt.Errorf("ip header: wrong checksum %#04x", binary.BigEndian.Uint16(a.bytes[10:]))
	}
	if !a.whole || a.first {
		return nil
	}
	return a.verifyMessage()
}

func within(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
