package packettest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
	v4A  = netip.MustParseAddr("192.0.2.1")
	v4B  = netip.MustParseAddr("192.0.2.2")
	v6A  = netip.MustParseAddr("2001:db8::1")
	v6B  = netip.MustParseAddr("2001:db8::2")
)

// The bytes are written out by hand from the RFCs' drawings; the checksums come
// from another program.
func TestFramesAreWhatTheRFCsDraw(t *testing.T) {
	for _, test := range []struct {
		name   string
		layers []Layer
		want   string
	}{
		{"ARP request with a tag", []Layer{
			Ethernet{Dst: macB, Src: macA},
			VLAN{ID: 5, Priority: 3},
			ARP{Operation: ARPRequest, SenderMAC: macA, Sender: v4A, Target: v4B},
		}, "02000000000b 02000000000a 8100 6005 0806" +
			"0001 0800 06 04 0001 02000000000a c0000201 000000000000 c0000202"},
		{"UDP over IPv4", []Layer{
			IPv4{Src: v4A, Dst: v4B, ID: 7, Dont: true},
			UDP{Src: 1, Dst: 2},
			Raw{Bytes: []byte("a")},
		}, "4500 001d 0007 4000 4011 b6c5 c0000201 c0000202" +
			"0001 0002 0009 1ad5 61"},
		{"TCP over IPv6 behind two extension headers", []Layer{
			IPv6{Src: v6A, Dst: v6B, HopLimit: 9, TrafficClass: 0xab, FlowLabel: 0x12345},
			Extension{Kind: ProtocolHopByHop},
			Fragment{ID: 0x01020304, Offset: 8, More: true},
			TCP{Src: 0x1111, Dst: 0x2222, Flags: SYN},
		}, "6ab12345 0024 00 09" +
			"20010db8000000000000000000000001 20010db8000000000000000000000002" +
			"2c 00 000000000000" +
			"06 00 0009 01020304" +
			"1111 2222 00000000 00000000 5002 ffff 213b 0000"},
		{"neighbor advertisement", []Layer{
			IPv6{Src: v6A, Dst: v6B, HopLimit: 255},
			Neighbor{Type: Advertisement, Flags: FlagSolicited | FlagOverride, Target: v6A},
			Option{TargetLink, macA},
		}, "60000000 0020 3a ff" +
			"20010db8000000000000000000000001 20010db8000000000000000000000002" +
			"88 00 8a6a 60000000 20010db8000000000000000000000001" +
			"02 01 02000000000a"},
		{"IPv4 with options, a later fragment of AH and ICMP", []Layer{
			IPv4{Src: v4A, Dst: v4B, Options: []byte{1, 1, 1, 0}, Offset: 1480, TTL: 1},
			AH{},
			ICMP{Type: 8, Rest: 0x00010002},
		}, "4600 0030 0000 00b9 0133 31de c0000201 c0000202 01010100" +
			"01 02 0000 00000000 00000000 00000000" +
			"08 00 f7fc 00010002"},
	} {
		got := hex.EncodeToString(Frame(test.layers...))
		if want := strings.ReplaceAll(test.want, " ", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, want)
		}
	}
}

func TestARunnerSaysWhatTheProgramDid(t *testing.T) {
	drop, parse := Floors(t)
	frame := Frame(Ethernet{Dst: macB, Src: macA}, IPv4{Src: v4A, Dst: v4B}, UDP{Src: 1, Dst: 2})
	for _, test := range []struct {
		name    string
		program *ebpf.Program
		want    uint32
	}{{"drop", drop, 1}, {"parse", parse, 2}} {
		action, out, err := NewRunner(t, test.program).Run(frame)
		if err != nil || action != test.want || !bytes.Equal(out, frame) {
			t.Errorf("%s: action %d, frame %x, error %v", test.name, action, out, err)
		}
	}
	if _, _, err := NewRunner(t, drop).Run(frame[:13]); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a frame of 13 bytes: %v, want %v", err, unix.EINVAL)
	}
}
