package cli

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	client4 = netip.MustParseAddrPort("198.51.100.7:40000")
	vip4    = netip.MustParseAddrPort("192.0.2.80:443")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:40000")
	vip6    = netip.MustParseAddrPort("[2001:db8:1::80]:443")
	shared  = net.HardwareAddr{0x03, 0xbf, 192, 0, 2, 80}
)

func TestAFrameIsWhatTheRFCsDraw(t *testing.T) {
	f := frame{to: shared, from: madeUpMAC, vlan: 5, protocol: protoTCP, source: client4, dest: vip4, tcpFlags: tcpSYN}
	// the checksums were added up apart from this program
	want := "03bfc0000250" + "020000000001" + "8100" + "0005" + "0800" +
		"45000028" + "00000000" + "4006" + "8e45" + "c6336407" + "c0000250" +
		"9c40" + "01bb" + "00000001" + "00000000" + "5002" + "ff00" + "265a" + "0000"
	if diff := cmp.Diff(want, hex.EncodeToString(f.bytes())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// every lists frames of all protocols, families and fragments.
func every() map[string]frame {
	frames := make(map[string]frame)
	for name, f := range map[string]frame{
		"tcp4":  {protocol: protoTCP, source: client4, dest: vip4},
		"udp4":  {protocol: protoUDP, source: client4, dest: vip4},
		"icmp4": {protocol: protoICMP, source: client4, dest: vip4},
		"tcp6":  {protocol: protoTCP, source: client6, dest: vip6},
		"udp6":  {protocol: protoUDP, source: client6, dest: vip6},
		"icmp6": {protocol: protoICMPv6, source: client6, dest: vip6},
	} {
		f.to, f.from = shared, madeUpMAC
		frames[name] = f
	}
	return frames
}

// verify adds up what a receiver would: all ones when the checksum is right.
func verify(f frame, datagram []byte) uint16 {
	var data []byte
	if f.protocol != protoICMP {
		data = append(data, f.source.Addr().AsSlice()...)
		data = append(data, f.dest.Addr().AsSlice()...)
		data = append(data, byte(len(datagram)>>8), byte(len(datagram)), 0, f.protocol)
	}
	data = append(data, datagram...)
	sum := 0
	for i := 0; i < len(data); i += 2 {
		sum += int(data[i])<<8 | int(data[i+1])
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func TestTransportChecksumsAreRight(t *testing.T) {
	for name, f := range every() {
		header := 14 + 20
		if f.dest.Addr().Is6() {
			header = 14 + 40
		}
		if sum := verify(f, f.bytes()[header:]); sum != 0xffff {
			t.Errorf("%s: the sum is %#04x", name, sum)
		}
	}
}

func TestTwoFragmentsMakeOneDatagramWithARightChecksum(t *testing.T) {
	for name, f := range every() {
		header := 14 + 20
		if f.dest.Addr().Is6() {
			header = 14 + 40 + 8
		}
		f.fragment = fragmentFirst
		first := f.bytes()
		f.fragment = fragmentLater
		later := f.bytes()
		whole := append(first[header:len(first):len(first)], later[header:]...)
		if sum := verify(f, whole); len(whole) != 2*fragmentSize || sum != 0xffff {
			t.Errorf("%s: %d bytes, the sum is %#04x", name, len(whole), sum)
		}
	}
}

func TestEveryFrameDecodesToWhatItWasMadeOf(t *testing.T) {
	protocols := map[uint8]string{protoTCP: "tcp", protoUDP: "udp", protoICMP: "icmp", protoICMPv6: "icmpv6"}
	for name, f := range every() {
		for _, part := range []fragment{fragmentNone, fragmentFirst, fragmentLater} {
			for _, vlan := range []uint16{0, 7} {
				f.fragment, f.vlan = part, vlan
				want := decoded{protocols[f.protocol], f.source.String(), f.dest.String()}
				if part == fragmentLater {
					want.protocol += " fragment"
				}
				if part == fragmentLater || f.protocol == protoICMP || f.protocol == protoICMPv6 {
					want.source, want.destination = f.source.Addr().String(), f.dest.Addr().String()
				}
				if got := decode(f.bytes()); got != want {
					t.Errorf("%s, fragment %d, vlan %d: %+v, want %+v", name, part, vlan, got, want)
				}
			}
		}
	}
}

func TestDecodeTellsWhatItCanOfOtherFrames(t *testing.T) {
	ethernet := "03bfc0000250" + "020000000001"
	for _, test := range []struct {
		name, frame string
		want        decoded
	}{
		{"nothing", "", decoded{protocol: "short frame"}},
		{"ARP", ethernet + "0806" + "0001080006040001" + "020000000001" + "c0000201" + "000000000000" + "c0000250",
			decoded{"arp", "192.0.2.1", "192.0.2.80"}},
		{"LLDP", ethernet + "88cc", decoded{"ethertype 0x88cc", "02:00:00:00:00:01", "03:bf:c0:00:02:50"}},
		{"IPv4 cut short", ethernet + "0800" + "4500", decoded{"ethertype 0x0800", "02:00:00:00:00:01", "03:bf:c0:00:02:50"}},
		{"TCP cut short", ethernet + "0800" + "4500002800000000" + "4006" + "0000" + "c6336407" + "c0000250" + "9c40",
			decoded{"tcp", "198.51.100.7", "192.0.2.80"}},
		{"GRE behind a hop-by-hop header", ethernet + "86dd" + "60000000" + "0008" + "00" + "40" +
			"20010db8000000000000000000000007" + "20010db8000100000000000000000080" + "2f00000000000000",
			decoded{"protocol 47", "2001:db8::7", "2001:db8:1::80"}},
	} {
		frame, err := hex.DecodeString(test.frame)
		if err != nil {
			t.Fatal(err)
		}
		if got := decode(frame); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range every() {
		f.Add(seed.bytes())
	}
	f.Fuzz(func(_ *testing.T, frame []byte) { decode(frame) })
}
