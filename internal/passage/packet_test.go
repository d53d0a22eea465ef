package passage

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

const etherLength = 14

// samples are packets that go to a VIP or come from one.
func samples() map[string][]byte {
	four := packettest.IPv4{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.80")}
	six := packettest.IPv6{Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::80")}
	ether := packettest.Ethernet{Dst: make(net.HardwareAddr, 6), Src: make(net.HardwareAddr, 6)}
	packets := make(map[string][]byte)
	for name, ip := range map[string]packettest.Layer{"ipv4": four, "ipv6": six} {
		for _, payload := range []string{"", "x", "some text"} {
			frame := packettest.Frame(ether, ip, packettest.TCP{Src: 40000, Dst: 80}, packettest.Raw{Bytes: []byte(payload)})
			packets[fmt.Sprintf("%s tcp %q", name, payload)] = frame[etherLength:]
			frame = packettest.Frame(ether, ip, packettest.UDP{Src: 40000, Dst: 80}, packettest.Raw{Bytes: []byte(payload)})
			packets[fmt.Sprintf("%s udp %q", name, payload)] = frame[etherLength:]
		}
	}
	return packets
}

func TestATunnelIsAsADirectorMakesIt(t *testing.T) {
	for _, backend := range []string{"192.0.2.11", "2001:db8::11"} {
		for _, encap := range []lb.Encap{lb.EncapIP, lb.EncapGUE} {
			way := Way{Backend: netip.MustParseAddr(backend), Hop: &lb.NextHop{}, Forward: lb.ForwardTunnel, Encap: encap}
			way.Hop.Source = netip.MustParseAddr("192.0.2.1")
			if way.Backend.Is6() {
				way.Hop.Source = netip.MustParseAddr("2001:db8::1")
			}
			tunnel := packettest.Tunnel{Src: way.Hop.Source, Dst: way.Backend}
			if encap == lb.EncapGUE {
				tunnel.GUE = 0xc000 | 40000
			}
			for name, packet := range samples() {
				packet[1] ^= 0x30 // of the class, in both families
				want := tunnel.Wrap(slices.Concat(make([]byte, 12), ethertypeOf(packet), packet))
				got := slices.Concat(make([]byte, 12), ethertypeOf(want[etherLength:]), way.wrap(packet, 40000))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s to %s by %s (-want +got):\n%s", name, backend, encap, diff)
				}
			}
		}
	}
}

func ethertypeOf(packet []byte) []byte {
	if packet[0]>>4 == 6 {
		return []byte{0x86, 0xdd}
	}
	return []byte{0x08, 0x00}
}

func TestADirectPacketStaysAsItIs(t *testing.T) {
	way := Way{Forward: lb.ForwardDR}
	for name, packet := range samples() {
		if diff := cmp.Diff(packet, way.wrap(packet, 40000)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAPacketGetsTheChecksumThatItsSenderLeftOut(t *testing.T) {
	for name, packet := range samples() {
		broken := slices.Clone(packet)
		p, ok := parse(broken)
		if !ok {
			t.Errorf("%s is not understood", name)
			continue
		}
		at := checksumTCP
		if p.protocol == packettest.ProtocolUDP {
			at = checksumUDP
		}
		p.transport[at]++
		got, ok := checksummed(broken)
		if diff := cmp.Diff(packet, got); diff != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", name, ok, diff)
		}
	}
}

func TestAFlowIsWhatTheHeadersSay(t *testing.T) {
	want4 := flow{packettest.ProtocolTCP, netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.80:80")}
	if got, ok := flowOf(samples()[`ipv4 tcp "x"`]); !ok || got != want4 {
		t.Errorf("ipv4: %v, %v", got, ok)
	}
	want6 := flow{packettest.ProtocolUDP, netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[2001:db8::80]:80")}
	if got, ok := flowOf(samples()[`ipv6 udp "x"`]); !ok || got != want6 {
		t.Errorf("ipv6: %v, %v", got, ok)
	}
}

func TestWhatIsNoWholePacketIsLeftOut(t *testing.T) {
	whole := samples()[`ipv4 tcp "some text"`]
	first, later := slices.Clone(whole), slices.Clone(whole)
	first[6] |= moreFragments
	later[7] = 1
	for name, packet := range map[string][]byte{"first fragment": first, "later fragment": later, "nothing": nil} {
		if f, ok := flowOf(packet); ok {
			t.Errorf("%s: %v", name, f)
		}
	}
	for name, packet := range samples() {
		for length := range packet {
			if f, ok := flowOf(packet[:length]); ok {
				t.Errorf("%s: %v in %d of %d bytes", name, f, length, len(packet))
			}
		}
	}
}

func TestAnyBytesAreRead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		packet := make([]byte, random.IntN(80))
		for i := range packet {
			packet[i] = byte(random.Uint32())
		}
		if len(packet) > 0 {
			packet[0] = []byte{0x45, 0x46, 0x4f, 0x60}[random.IntN(4)]
		}
		if len(packet) > 9 {
			packet[2], packet[4], packet[6], packet[7], packet[9] = 0, 0, byte(6+11*random.IntN(2)), 0, byte(6+11*random.IntN(2))
		}
		checksummed(packet)
	}
}
