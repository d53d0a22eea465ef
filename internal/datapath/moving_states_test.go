package datapath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// States of /proc/net/tcp.
const (
	stateEstablished = "01"
	stateSYNReceived = "03"
	stateFINWait2    = "05"
	stateTimeWait    = "06"
)

// A life is a TCP connection that a listener of a contested bucket really has, and whose other end is
// this test: it puts each segment on the wire by hand.
type life struct {
	t                  *testing.T
	site               *site
	family             movingFamily
	to                 net.HardwareAddr
	sequence, received uint32 // ours next, and what we acknowledge
}

func (l *life) segment(flags uint8) []byte {
	return frameOf(eth{Dst: l.to, Src: clientMAC}, l.family.ip(vipMine), tcp{
		Src: portStranger, Dst: portListen, Flags: flags, Sequence: l.sequence, Acknowledgment: l.received,
	})
}

func (l *life) send(flags uint8) {
	l.t.Helper()
	l.site.send(l.site.client, "eth0", l.segment(flags))
}

// open sends a SYN and reads what it is answered.
func (l *life) open() {
	l.t.Helper()
	l.site.must(l.site.client.Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err := packet.Listen(device, packet.Raw, unix.ETH_P_ALL, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		syn := l.segment(packettest.SYN)
		if _, err := c.WriteTo(syn, &packet.Addr{HardwareAddr: l.to}); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		for frame := make([]byte, 1500); ; {
			n, _, err := c.ReadFrom(frame)
			if err != nil {
				return fmt.Errorf("wait for the answer to a SYN: %w", err)
			}
			if n < len(syn) || frame[len(syn)-20+13] != packettest.SYN|packettest.ACK {
				continue
			}
			l.sequence++
			l.received = binary.BigEndian.Uint32(frame[len(syn)-20+4:]) + 1
			return nil
		}
	}))
}

// is waits for a state of the connection, "" being none.
func (l *life) is(state string) {
	l.t.Helper()
	nettest.Eventually(l.t, time.Minute, func() error {
		name := "tcp"
		if l.family.family == v6 {
			name = "tcp6"
		}
		var text []byte
		if err := l.site.node.Do(func() (err error) {
			text, err = os.ReadFile("/proc/thread-self/net/" + name)
			return err
		}); err != nil {
			return err
		}
		got := ""
		for line := range bytes.Lines(text) {
			fields := strings.Fields(string(line))
			if strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", portStranger)) {
				got = fields[3]
			}
		}
		if got != state {
			return fmt.Errorf("the state is %q, not %q", got, state)
		}
		return nil
	})
}

// A connection has a socket from its SYN to the end of TIME-WAIT, of four kinds.
func TestAConnectionIsFoundAsLongAsItLives(t *testing.T) {
	s := newSite(t, "eth0")
	host := socketHost{s.node}
	to, err := s.node.MAC("eth0")
	s.must(err)
	instance := instanceOf(t, movingWorld())
	for _, family := range families {
		f := movingFamily{family}
		vip := f.vip(vipMine)
		s.must(host.Addr("lo", netip.PrefixFrom(vip, vip.BitLen())))
		// a way to the client, at which nobody is who would answer
		s.on("eth0", func(l netlink.Link) error {
			whole := net.CIDRMask(f.client.BitLen(), f.client.BitLen())
			return netlink.RouteAdd(&netlink.Route{
				LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: f.client.AsSlice(), Mask: whole},
			})
		})
		s.must(host.Neighbour("eth0", f.client, clientMAC))
		listener, err := host.Listen(t.Context(), "tcp", netip.AddrPortFrom(vip, portListen).String())
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		scope := f.serviceScope("listen-tcp", vipMine)
		check := func(sentence string, want ending) {
			t.Helper()
			ack := frameOf(f.eth(vipMine), f.ip(vipMine), tcp{Src: portStranger, Dst: portListen, Flags: packettest.ACK})
			checkAll(t, instance, host.ways(instance), []fixture{{sentence: f.name + ": " + sentence, frame: ack, want: want}})
		}
		found := accepted("socket-accepted", scope)

		check("before its SYN it is not found", dropped("unknown-flow", scope))
		l := &life{t: t, site: s, family: f, to: to, sequence: 1000}
		l.open()
		l.is(stateSYNReceived)
		check("it is found after its SYN", found)
		l.send(packettest.ACK)
		l.is(stateEstablished)
		check("it is found while it is established", found)
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server.Close()
		l.received++ // its FIN
		l.send(packettest.ACK)
		l.is(stateFINWait2)
		check("it is found while it is half closed", found)
		l.send(packettest.FIN | packettest.ACK)
		l.sequence++
		l.is(stateTimeWait)
		check("it is found while it waits for stray segments", found)
		l.send(packettest.RST)
		l.is("")
		check("after a reset it is not found", dropped("unknown-flow", scope))
	}
}
