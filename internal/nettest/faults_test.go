package nettest_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

const (
	heartbeats = 0x88b5
	gossip     = 7946
)

var kinds = []string{"gossip", "heartbeat", "other"}

// A frame of each kind goes from each host to each other one.
func TestFaultsLoseTheFramesThatTheyNameAndNoOthers(t *testing.T) {
	s := newSwitched(t)
	for name, test := range map[string]struct {
		faults []nettest.Fault
		want   []string // that do not arrive
	}{
		"none":         {},
		"one way":      {[]nettest.Fault{{From: "a-eth0", To: "b-eth0"}}, []string{"a b gossip", "a b heartbeat", "a b other"}},
		"one kind":     {[]nettest.Fault{{From: "a-eth0", Ethertype: heartbeats}}, []string{"a b heartbeat", "a c heartbeat"}},
		"one protocol": {[]nettest.Fault{{From: "c-eth0", Protocol: unix.IPPROTO_UDP}}, []string{"c a gossip", "c a other", "c b gossip", "c b other"}},
		"no protocol":  {[]nettest.Fault{{Protocol: unix.IPPROTO_ICMP}}, nil},
		"one port":     {[]nettest.Fault{{To: "c-eth0", Port: gossip}}, []string{"a c gossip", "b c gossip"}},
		"always":       {[]nettest.Fault{{From: "a-eth0", To: "c-eth0", Ethertype: heartbeats, Percent: 100}}, []string{"a c heartbeat"}},
		"two": {
			[]nettest.Fault{{From: "b-eth0"}, {To: "b-eth0", Ethertype: heartbeats}},
			[]string{
				"a b heartbeat", "b a gossip", "b a heartbeat", "b a other",
				"b c gossip", "b c heartbeat", "b c other", "c b heartbeat",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.SetFaults(t, s.sw, test.faults...)
			var lost []string
			for _, from := range s.hosts {
				for _, to := range s.hosts {
					for _, kind := range kinds {
						if from != to && s.send(t, from, to, kind, 1) == 0 {
							lost = append(lost, fmt.Sprint(from.Name, " ", to.Name, " ", kind))
						}
					}
				}
			}
			if diff := cmp.Diff(test.want, lost); diff != "" {
				t.Errorf("lost (-want +got):\n%s", diff)
			}
			if n := nettest.Lost(t, s.sw); n != uint64(len(test.want)) {
				t.Errorf("the switch counts %d lost, want %d", n, len(test.want))
			}
		})
	}
}

func TestFaultsLoseAShareByChance(t *testing.T) {
	const sent = 5000
	s := newSwitched(t)
	nettest.SetFaults(t, s.sw, nettest.Fault{From: "a-eth0", Percent: 20})
	arrived := s.send(t, s.hosts[0], s.hosts[1], "other", sent)
	if arrived < sent*77/100 || arrived > sent*83/100 { // five deviations
		t.Errorf("%d of %d arrived, want about 80 %%", arrived, sent)
	}
}

// A switched is three hosts, a, b and c, on a switch, and a watch on its ports.
type switched struct {
	sw    *netlab.Switch
	watch *nettest.Watch
	hosts []*netlab.Host
	macs  map[*netlab.Host]net.HardwareAddr
}

func newSwitched(t *testing.T) *switched {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &switched{sw: sw, macs: make(map[*netlab.Host]net.HardwareAddr)}
	for i, name := range []string{"a", "b", "c"} {
		h := nettest.Host(t, lab, name)
		// the test alone sends
		if err := h.SetSysctl("net.ipv6.conf.all.disable_ipv6", "1"); err != nil {
			t.Fatal(err)
		}
		s.macs[h] = net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}
		if err := lab.Connect(h, "eth0", sw, netlab.LinkOptions{MAC: s.macs[h]}); err != nil {
			t.Fatal(err)
		}
		s.hosts = append(s.hosts, h)
	}
	// the switch learns where they are
	for _, h := range s.hosts {
		nettest.Inject(t, h, "eth0", s.frame(h, s.hosts[0], "other"))
	}
	s.watch = nettest.NewWatch(t, sw.Host)
	return s
}

// send returns how many of the frames left the switch at the port of their destination.
func (s *switched) send(t *testing.T, from, to *netlab.Host, kind string, frames int) int {
	t.Helper()
	arrived := func() int {
		return s.watch.Count(t, func(f nettest.Frame) bool { return f.Out && f.Port == to.Name+"-eth0" })
	}
	before := arrived()
	err := from.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOP, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		for range frames {
			if _, err := conn.WriteTo(s.frame(from, to, kind), &packet.Addr{HardwareAddr: s.macs[to]}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return arrived() - before
}

func (s *switched) frame(from, to *netlab.Host, kind string) []byte {
	ethernet := append(append([]byte{}, s.macs[to]...), s.macs[from]...)
	switch kind {
	case "gossip":
		return append(append(ethernet, 0x08, 0x00), datagram(gossip)...)
	case "heartbeat":
		return append(append(ethernet, heartbeats>>8, heartbeats&0xff), make([]byte, 46)...)
	default:
		return append(append(ethernet, 0x08, 0x00), datagram(gossip+1)...)
	}
}

// datagram is an IPv4 header and a UDP header, both ends at one port.
func datagram(port uint16) []byte {
	b := make([]byte, 28)
	b[0], b[3], b[8], b[9] = 0x45, 28, 64, 17
	from, to := netip.MustParseAddr("192.0.2.1").As4(), netip.MustParseAddr("192.0.2.2").As4()
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = ^(sum&0xffff + sum>>16)
	b[10], b[11] = byte(sum>>8), byte(sum)
	b[20], b[21], b[22], b[23], b[25] = byte(port>>8), byte(port), byte(port>>8), byte(port), 8
	return b
}
