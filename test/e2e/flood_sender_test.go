package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// floodOptions say what a flood consists of: of each kind for each address one frame, by turns, and each
// from another source, or of pairs two.
type floodOptions struct {
	Kinds []string // syn, ack, udp; syn+ack, udp+udp: pairs
	To    []floodTarget
	Rate  int // frames a second; 0: as many as there can be
	Most  int // frames
}

type floodTarget struct {
	Addr netip.Addr
	MAC  string
	TCP  uint16 // ports
	UDP  uint16
}

// A flooded is what a flood was.
type flooded struct {
	Sent    int
	Refused int // by this machine
	Seconds float64
}

func (f flooded) String() string {
	return fmt.Sprintf("%d frames in %.1f s, %.0f a second", f.Sent, f.Seconds, float64(f.Sent)/f.Seconds)
}

// A shot is a frame whose source is made up anew each time it is sent.
type shot struct {
	frame        []byte
	source, port int // offsets
	random       int // so many bytes of the source, the last ones
	sums         []shotSum
	begins       chan madeUp // the second frames of pairs are to come from
	follows      chan madeUp // what this one's source is
}

// A madeUp is a source.
type madeUp struct {
	addr uint64
	port uint16
}

// halfPairs is how many pairs begin between the two frames of one, so that there is time for an answer.
const halfPairs = 64

// A shotSum is a checksum by its offset, and what it is when all that is made up is 0.
type shotSum struct {
	at   int
	base uint16
	port bool // it is over the port, too
}

func newShot(kind string, to floodTarget, own net.HardwareAddr) (shot, error) {
	mac, err := net.ParseMAC(to.MAC)
	if err != nil {
		return shot{}, err
	}
	eth := packettest.Ethernet{Dst: mac, Src: own}
	var transport packettest.Layer
	sum := 0
	switch kind {
	case "syn":
		transport, sum = packettest.TCP{Dst: to.TCP, Flags: packettest.SYN}, 16
	case "ack":
		transport, sum = packettest.TCP{Dst: to.TCP, Flags: packettest.ACK}, 16
	case "udp":
		transport, sum = packettest.UDP{Dst: to.UDP}, 6
	default:
		return shot{}, fmt.Errorf("flood: kind %q", kind)
	}
	s := shot{source: 14 + 12, port: 14 + 20, random: 3}
	if to.Addr.Is4() {
		s.frame = packettest.Frame(eth, packettest.IPv4{Src: netip.MustParseAddr("10.0.0.0"), Dst: to.Addr}, transport)
		s.sums = append(s.sums, shotSum{at: 14 + 10})
	} else {
		s = shot{source: 14 + 8, port: 14 + 40, random: 8}
		s.frame = packettest.Frame(eth, packettest.IPv6{Src: netip.MustParseAddr("2001:db8:f::"), Dst: to.Addr}, transport)
	}
	s.sums = append(s.sums, shotSum{at: s.port + sum, port: true})
	for i := range s.sums {
		s.sums[i].base = binary.BigEndian.Uint16(s.frame[s.sums[i].at:])
	}
	return s, nil
}

// newShots are what a kind consists of.
func newShots(kind string, to floodTarget, own net.HardwareAddr) ([]shot, error) {
	first, second, isPair := strings.Cut(kind, "+")
	s, err := newShot(first, to, own)
	if err != nil || !isPair {
		return []shot{s}, err
	}
	then, err := newShot(second, to, own)
	s.begins = make(chan madeUp, halfPairs+1)
	then.follows = s.begins
	return []shot{s, then}, err
}

// aim makes up a source, or finds the one that is next to send a second frame; there may be none yet.
func (s *shot) aim() bool {
	from := madeUp{rand.Uint64() >> (64 - 8*s.random), uint16(1024 + rand.IntN(64000))}
	if s.begins != nil {
		s.begins <- from
	}
	if s.follows != nil {
		if len(s.follows) <= halfPairs {
			return false
		}
		from = <-s.follows
	}
	s.comeFrom(from)
	return true
}

func (s *shot) comeFrom(from madeUp) {
	end := s.source + 4
	if s.random == 8 {
		end = s.source + 16
	}
	binary.BigEndian.PutUint64(s.frame[end-8:], binary.BigEndian.Uint64(s.frame[end-8:])&^(1<<(8*s.random)-1)|from.addr)
	binary.BigEndian.PutUint16(s.frame[s.port:], from.port)
	var added uint32
	for i := end - (s.random+1)/2*2; i < end; i += 2 {
		added += uint32(binary.BigEndian.Uint16(s.frame[i:]))
	}
	if s.random == 3 {
		added -= 10 << 8 // of the network, which the sum has already
	}
	for _, sum := range s.sums {
		all := uint32(^sum.base) + added
		if sum.port {
			all += uint32(from.port)
		}
		for all>>16 != 0 {
			all = all&0xffff + all>>16
		}
		if all == 0xffff && sum.port {
			all = 0 // UDP has another use for a sum of 0
		}
		binary.BigEndian.PutUint16(s.frame[sum.at:], ^uint16(all))
	}
}

// playFlood sends until ctx ends.
func playFlood(ctx context.Context, text []byte, ready func()) (any, error) {
	var opts floodOptions
	if err := json.Unmarshal(text, &opts); err != nil {
		return nil, err
	}
	dev, err := net.InterfaceByName("eth0")
	if err != nil {
		return nil, err
	}
	var shots []shot
	for _, to := range opts.To {
		for _, kind := range opts.Kinds {
			of, err := newShots(kind, to, dev.HardwareAddr)
			if err != nil {
				return nil, err
			}
			shots = append(shots, of...)
		}
	}
	runtime.LockOSThread()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("flood: %w", err)
	}
	defer unix.Close(fd)
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1), unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: dev.Index}))
	if err != nil {
		return nil, fmt.Errorf("flood: %w", err)
	}
	ready()
	return opts.send(ctx, fd, shots)
}

// send makes up for no time in which the machine did not let it run: all at once would be another flood.
func (o *floodOptions) send(ctx context.Context, fd int, shots []shot) (flooded, error) {
	const tick, atOnce = time.Millisecond, 64
	var f flooded
	begin := time.Now()
	last, due, turn := begin, 0.0, 0
	for f.Sent+f.Refused < o.Most && ctx.Err() == nil {
		n := atOnce
		if o.Rate > 0 {
			time.Sleep(tick)
			due = min(due+time.Since(last).Seconds()*float64(o.Rate), atOnce)
			last = time.Now()
			n = int(due)
			due -= float64(n)
		}
		for range n {
			s := &shots[turn%len(shots)]
			turn++
			if !s.aim() {
				continue
			}
			switch _, err := unix.Write(fd, s.frame); {
			case err == nil:
				f.Sent++
			case errors.Is(err, unix.ENOBUFS):
				f.Refused++
			default:
				return f, fmt.Errorf("flood: %w", err)
			}
		}
	}
	f.Seconds = time.Since(begin).Seconds()
	<-ctx.Done()
	return f, nil
}

// A flooder is a host from which floods come.
func (f *farm) flooder(t testing.TB) *netlab.Host {
	t.Helper()
	h := nettest.Host(t, f.lab, "flood")
	check(t, f.lab.Connect(h, "eth0", f.sw, netlab.LinkOptions{}))
	return h
}

// atVIPs are both, or addresses that nobody serves, which frames come to in the same way.
func atVIPs(served bool) []floodTarget {
	var to []floodTarget
	for vip, mac := range sharedMACs {
		if !served && vip.Is4() {
			vip = netip.MustParseAddr("192.0.2.99")
		} else if !served {
			vip = netip.MustParseAddr("2001:db8::99")
		}
		to = append(to, floodTarget{vip, mac, port, port + 1}) // the server of datagrams has a queue of its own, which is not to be the one that fills
	}
	return to
}

func startFlood(t testing.TB, from *netlab.Host, opts floodOptions) *side {
	t.Helper()
	return startSide(t, from, "flood", opts)
}

// The kernel of whoever gets them checks the sums.
func TestFloodsHaveChecksums(t *testing.T) {
	for _, to := range atVIPs(true) {
		for _, kind := range []string{"syn", "ack", "udp"} {
			s, err := newShot(kind, to, net.HardwareAddr{2, 0, 0, 0, 0, 1})
			check(t, err)
			sources := make(map[string]bool)
			for range 1000 {
				s.aim()
				sources[string(s.frame[s.source:s.port+2])] = true
				if err := packettest.Verify(s.frame); err != nil {
					t.Fatalf("%s to %s: %v", kind, to.Addr, err)
				}
			}
			if len(sources) < 1000 {
				t.Errorf("%s to %s: %d sources of 1000 frames", kind, to.Addr, len(sources))
			}
		}
	}
}
