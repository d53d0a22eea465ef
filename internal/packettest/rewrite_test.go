package packettest

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	v4C = netip.MustParseAddr("203.0.113.9")
	v6C = netip.MustParseAddr("2001:db8:ff::9")
)

// Each rewrite is compared with the frame that a sender would have built from its layers.
func TestRewritesGiveWhatASenderWouldHaveBuilt(t *testing.T) {
	eth := Ethernet{Dst: macB, Src: macA}
	payload := Raw{Bytes: []byte("odd")}
	for _, test := range []struct {
		name      string
		got, want []byte
	}{
		{
			"a routed packet has other MACs and one hop less",
			Hop{MAC: macA, Own: macB}.Route(Frame(eth, VLAN{ID: 3}, IPv4{Src: v4A, Dst: v4B, TTL: 2}, TCP{Src: 1, Dst: 2}, payload)),
			Frame(Ethernet{Dst: macA, Src: macB}, VLAN{ID: 3}, IPv4{Src: v4A, Dst: v4B, TTL: 1}, TCP{Src: 1, Dst: 2}, payload),
		},
		{
			"so has one of IPv6",
			Hop{MAC: macA, Own: macB}.Route(Frame(eth, IPv6{Src: v6A, Dst: v6B}, UDP{Src: 1, Dst: 2}, payload)),
			Frame(Ethernet{Dst: macA, Src: macB}, IPv6{Src: v6A, Dst: v6B, HopLimit: 63}, UDP{Src: 1, Dst: 2}, payload),
		},
		{
			"IPIP",
			Tunnel{Src: v4B, Dst: v4C}.Wrap(Frame(eth, VLAN{ID: 3}, IPv4{Src: v4A, Dst: v4B}, TCP{Src: 1, Dst: 2}, payload)),
			Frame(eth, VLAN{ID: 3}, IPv4{Src: v4B, Dst: v4C, Dont: true}, named{ProtocolIPv4}, IPv4{Src: v4A, Dst: v4B}, TCP{Src: 1, Dst: 2}, payload),
		},
		{
			"IPv4 in IPv6, its padding outside",
			Tunnel{Src: v6B, Dst: v6C}.Wrap(Pad(Frame(eth, IPv4{Src: v4A, Dst: v4B}, UDP{Src: 1, Dst: 2}, payload), 60)),
			Pad(Frame(eth, IPv6{Src: v6B, Dst: v6C}, named{ProtocolIPv4}, IPv4{Src: v4A, Dst: v4B}, UDP{Src: 1, Dst: 2}, payload), 100),
		},
		{
			"IPv6 in IPv4, and in UDP and GUE, with the traffic class outside, too",
			Tunnel{Src: v4B, Dst: v4C, GUE: 50000}.Wrap(Frame(eth, IPv6{Src: v6A, Dst: v6B, TrafficClass: 0xb8, FlowLabel: 5}, UDP{Src: 1, Dst: 2}, payload)),
			Frame(eth, IPv4{Src: v4B, Dst: v4C, Dont: true, TOS: 0xb8}, UDP{Src: 50000, Dst: GUEPort, NoChecksum: true}, Raw{Bytes: []byte{0, ProtocolIPv6, 0, 0}},
				IPv6{Src: v6A, Dst: v6B, TrafficClass: 0xb8, FlowLabel: 5}, UDP{Src: 1, Dst: 2}, payload),
		},
		{
			"the destination of a segment is translated, with its port",
			Translate(Frame(eth, IPv4{Src: v4A, Dst: v4B, Options: make([]byte, 8)}, TCP{Src: 1, Dst: 80}, payload), Destination, netip.AddrPortFrom(v4C, 8080)),
			Frame(eth, IPv4{Src: v4A, Dst: v4C, Options: make([]byte, 8)}, TCP{Src: 1, Dst: 8080}, payload),
		},
		{
			"the source of a datagram is translated, and its port stays",
			Translate(Frame(eth, IPv6{Src: v6A, Dst: v6B}, UDP{Src: 1, Dst: 2}, payload), Source, netip.AddrPortFrom(v6C, 0)),
			Frame(eth, IPv6{Src: v6C, Dst: v6B}, UDP{Src: 1, Dst: 2}, payload),
		},
		{
			"no checksum stays none",
			Translate(Frame(eth, IPv4{Src: v4A, Dst: v4B}, UDP{Src: 1, Dst: 2, NoChecksum: true}, payload), Destination, netip.AddrPortFrom(v4C, 3)),
			Frame(eth, IPv4{Src: v4A, Dst: v4C}, UDP{Src: 1, Dst: 3, NoChecksum: true}, payload),
		},
		{
			"a later fragment has no ports",
			Translate(Frame(eth, IPv6{Src: v6A, Dst: v6B}, Fragment{ID: 1, Offset: 8}, Raw{ProtocolUDP, make([]byte, 64)}), Destination, netip.AddrPortFrom(v6C, 3)),
			Frame(eth, IPv6{Src: v6A, Dst: v6C}, Fragment{ID: 1, Offset: 8}, Raw{ProtocolUDP, make([]byte, 64)}),
		},
		{
			"an error's quote is translated at its other end",
			Translate(Frame(eth, IPv4{Src: v4A, Dst: v4B}, ICMP{Type: 3, Code: 4, Rest: 1400}, IPv4{Src: v4B, Dst: v4A}, TCP{Src: 80, Dst: 1}, payload),
				Destination, netip.AddrPortFrom(v4C, 8080)),
			Frame(eth, IPv4{Src: v4A, Dst: v4C}, ICMP{Type: 3, Code: 4, Rest: 1400}, IPv4{Src: v4C, Dst: v4A}, TCP{Src: 8080, Dst: 1}, payload),
		},
		{
			"an error on its way back, too",
			Translate(Frame(eth, IPv6{Src: v6C, Dst: v6A}, ICMP{Type: 1, Code: 4}, IPv6{Src: v6A, Dst: v6C}, UDP{Src: 1, Dst: 5353}, payload),
				Source, netip.AddrPortFrom(v6B, 53)),
			Frame(eth, IPv6{Src: v6B, Dst: v6A}, ICMP{Type: 1, Code: 4}, IPv6{Src: v6A, Dst: v6B}, UDP{Src: 1, Dst: 53}, payload),
		},
		{
			"the segment size is cut behind padding, and once",
			ClampMSS(Frame(eth, IPv4{Src: v4A, Dst: v4B}, TCP{Src: 1, Dst: 2, Flags: SYN, Options: []byte{1, 2, 4, 5, 0xb4, 2, 4, 9, 9, 0, 0, 0}}, payload), 1400),
			Frame(eth, IPv4{Src: v4A, Dst: v4B}, TCP{Src: 1, Dst: 2, Flags: SYN, Options: []byte{1, 2, 4, 0x05, 0x78, 2, 4, 9, 9, 0, 0, 0}}, payload),
		},
	} {
		if diff := cmp.Diff(hex.Dump(test.want), hex.Dump(test.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if err := Verify(test.got); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// named gives what follows another number.
type named struct{ number uint16 }

func (n named) wrap(b *building) { b.next = n.number }

func TestASegmentSizeStaysWhereNoneIsToBeCut(t *testing.T) {
	offer := []byte{2, 4, 5, 0xb4}
	for name, segment := range map[string]TCP{
		"no SYN":            {Flags: ACK, Options: offer},
		"a smaller one":     {Flags: SYN, Options: []byte{2, 4, 2, 0}},
		"an end before it":  {Flags: SYN, Options: append([]byte{0, 0, 0, 0}, offer...)},
		"a broken option":   {Flags: SYN, Options: append([]byte{5, 1, 0, 0}, offer...)},
		"one that runs out": {Flags: SYN, Options: append([]byte{5, 9, 0, 0}, offer...)},
		"no options":        {Flags: SYN},
	} {
		frame := Frame(Ethernet{Dst: macB, Src: macA}, IPv4{Src: v4A, Dst: v4B}, segment)
		if got := ClampMSS(frame, 1400); !slices.Equal(got, frame) {
			t.Errorf("%s: %x became %x", name, frame, got)
		}
	}
}

// A message that a router cut short, or that was damaged, must not come out right: who gets it could not tell.
func TestAWrongChecksumStaysWrongByAsMuch(t *testing.T) {
	for name, damage := range map[string]int{"payload": 14 + 20 + 20 + 1, "checksum": 14 + 20 + 16} {
		frame := Frame(Ethernet{Dst: macB, Src: macA}, IPv4{Src: v4A, Dst: v4B}, TCP{Src: 1, Dst: 80}, Raw{Bytes: []byte("payload")})
		frame[damage] ^= 0x55
		out := Translate(frame, Destination, netip.AddrPortFrom(v4C, 8080))
		if Verify(out) == nil {
			t.Errorf("damaged %s: came out right", name)
		}
		out[damage] ^= 0x55
		// where the damage is in the checksum itself, right is what the other way of summing gives
		if err := Verify(out); err != nil && name == "payload" {
			t.Errorf("damaged %s, repaired: %v", name, err)
		}
	}
}

func TestVerifyFindsEveryFlippedBitThatAChecksumCovers(t *testing.T) {
	eth := Ethernet{Dst: macB, Src: macA}
	segment := []Layer{TCP{Src: 1, Dst: 2, Flags: SYN, Options: []byte{2, 4, 5, 0xb4}}, Raw{Bytes: []byte("payload")}}
	inner := []Layer{IPv4{Src: v4A, Dst: v4B}, TCP{Src: 1, Dst: 2}}
	for _, test := range []struct {
		name  string
		frame []byte
		from  int // of the bytes that are looked at
	}{
		{"TCP over IPv4", Frame(append([]Layer{eth, IPv4{Src: v4A, Dst: v4B}}, segment...)...), 14},
		{"TCP over IPv6", Frame(append([]Layer{eth, IPv6{Src: v6A, Dst: v6B}}, segment...)...), 14 + 8},
		{"an ICMP error", Frame(append([]Layer{eth, IPv4{Src: v4B, Dst: v4A}, ICMP{Type: 3}}, inner...)...), 14},
		{"IPIP", Tunnel{Src: v4B, Dst: v4C}.Wrap(Frame(append([]Layer{eth}, inner...)...)), 14},
		{"GUE", Tunnel{Src: v6B, Dst: v6C, GUE: 50000}.Wrap(Frame(append([]Layer{eth}, inner...)...)), 14 + 40 + 12},
	} {
		if err := Verify(test.frame); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		missed := []string{}
		for bit := test.from * 8; bit < len(test.frame)*8; bit++ {
			test.frame[bit/8] ^= 1 << (bit % 8)
			if Verify(test.frame) == nil {
				missed = append(missed, fmt.Sprintf("byte %d bit %d", bit/8, bit%8))
			}
			test.frame[bit/8] ^= 1 << (bit % 8)
		}
		if diff := cmp.Diff([]string{}, missed); diff != "" {
			t.Errorf("%s: missed (-want +got):\n%s", test.name, diff)
		}
	}
}
