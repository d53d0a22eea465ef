package datapath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/packettest"
)

// The world of the backend's program: in each family a director, this machine and a VIP.
var (
	director4, director6   = netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")
	backend4, backend6     = netip.MustParseAddr("192.0.2.21"), netip.MustParseAddr("2001:db8::21")
	tunnelVIP4, tunnelVIP6 = netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("2001:db8:80::80")
	client4, client6       = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:7::7")
	gateway                = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

func tunnels() datapath.Tunnels {
	return datapath.Tunnels{
		Own:       []netip.Addr{backend4, backend6},
		Directors: []netip.Addr{director4, director6},
		VIPs:      []netip.Addr{tunnelVIP4, tunnelVIP6},
	}
}

func newDecap(t testing.TB) (*datapath.Decap, *packettest.Runner) {
	t.Helper()
	d, err := datapath.NewDecap(tunnels())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, packettest.NewRunner(t, d.XDP())
}

// A client's packet of either family, as it reaches the director's tunnel, behind any tags.
func plain(v6 bool, content []byte, tags ...packettest.Layer) []byte {
	layers := []packettest.Layer{packettest.Ethernet{Dst: ownMAC, Src: gateway}}
	layers = append(layers, tags...)
	if v6 {
		layers = append(layers, packettest.IPv6{Src: client6, Dst: tunnelVIP6, HopLimit: 61, TrafficClass: 0x28})
	} else {
		layers = append(layers, packettest.IPv4{Src: client4, Dst: tunnelVIP4, TTL: 61})
	}
	return packettest.Frame(append(layers, packettest.TCP{Src: portClient, Dst: portWeb, Flags: packettest.SYN}, packettest.Raw{Bytes: content})...)
}

// wrappings are the ways a director can wrap.
func wrappings() map[string]packettest.Tunnel {
	return map[string]packettest.Tunnel{
		"IPv4":        {Src: director4, Dst: backend4},
		"IPv6":        {Src: director6, Dst: backend6},
		"GUE in IPv4": {Src: director4, Dst: backend4, GUE: 0xc123},
		"GUE in IPv6": {Src: director6, Dst: backend6, GUE: 0xffff},
	}
}

func wrapped(kind string, frame []byte) []byte { return wrappings()[kind].Wrap(frame) }

// changed returns a frame with some bytes exchanged.
func changed(frame []byte, at int, to ...byte) []byte {
	out := slices.Clone(frame)
	copy(out[at:], to)
	return out
}

func headerSum(header []byte) {
	clear(header[10:12])
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum))
}

// A decapFixture is a frame and what must become of it; out nil is "as it came".
type decapFixture struct {
	sentence string
	frame    []byte
	out      []byte
	reason   string
}

// The fixtures of what is taken off: each way of wrapping, what can be inside, and tags before both.
func unwrappedFixtures() []decapFixture {
	var all []decapFixture
	for kind := range wrappings() {
		for _, v6 := range []bool{false, true} {
			inside := map[bool]string{false: "an IPv4 packet", true: "an IPv6 packet"}[v6]
			for _, tags := range [][]packettest.Layer{nil, {packettest.VLAN{ID: 10}}, {packettest.VLAN{ID: 7}, packettest.VLAN{ID: 10}}} {
				frame := plain(v6, []byte("hello"), tags...)
				all = append(all, decapFixture{
					sentence: fmt.Sprintf("%s in %s behind %d VLAN tags comes out", inside, kind, len(tags)),
					frame:    wrapped(kind, frame), out: frame, reason: "unwrapped",
				})
			}
		}
	}
	frame := plain(false, nil)
	outer := wrapped("IPv4", frame)
	options := slices.Concat(outer[:34], []byte{1, 1, 1, 0}, outer[34:])
	options[14] = 0x46
	binary.BigEndian.PutUint16(options[16:], uint16(len(options)-14))
	headerSum(options[14:38])
	variant1 := slices.Concat(wrapped("GUE in IPv4", frame)[:42], frame[14:])
	variant6 := slices.Concat(wrapped("GUE in IPv6", plain(true, nil))[:62], plain(true, nil)[14:])
	fragment := packettest.Frame(packettest.Ethernet{Dst: ownMAC, Src: gateway},
		packettest.IPv4{Src: client4, Dst: tunnelVIP4, ID: 9, Offset: 1480}, packettest.Raw{Number: packettest.ProtocolTCP, Bytes: []byte("rest of it")})
	return append(all,
		decapFixture{"a packet behind IPv4 options of the director's comes out", options, frame, "unwrapped"},
		decapFixture{"an IPv4 packet in GUE of variant 1 comes out", variant1, frame, "unwrapped"},
		decapFixture{"an IPv6 packet in GUE of variant 1 comes out", variant6, plain(true, nil), "unwrapped"},
		decapFixture{"a later fragment of a client's packet comes out", wrapped("IPv4", fragment), fragment, "unwrapped"},
	)
}

// What is not ours goes up as it came.
func passedFixtures() []decapFixture {
	frame := plain(false, nil)
	stranger := packettest.Tunnel{Src: client4, Dst: backend4}
	elsewhere := packettest.Tunnel{Src: director4, Dst: netip.MustParseAddr("192.0.2.22")}
	piece := wrapped("IPv4", frame)
	piece[20], piece[21] = 0x20, 0
	dns := wrapped("GUE in IPv4", frame)
	dns[36], dns[37] = 0, 53
	short := wrapped("GUE in IPv4", frame)[:38]
	return []decapFixture{
		{"a packet that is in no tunnel goes up", frame, nil, "no-tunnel"},
		{"an IPv6 packet that is in no tunnel goes up", plain(true, nil), nil, "no-tunnel"},
		{"ARP goes up", packettest.Frame(packettest.Ethernet{Dst: ownMAC, Src: gateway}, packettest.Raw{Number: 0x0806, Bytes: make([]byte, 46)}), nil, "no-tunnel"},
		{"a header that is cut short goes up", frame[:30], nil, "no-tunnel"},
		{"an IPv6 header that is cut short goes up", plain(true, nil)[:50], nil, "no-tunnel"},
		{"a VLAN tag that is cut short goes up", plain(false, nil, packettest.VLAN{ID: 10})[:16], nil, "no-tunnel"},
		{"UDP to another port goes up", dns, nil, "no-tunnel"},
		{"a UDP header that is cut short goes up", short, nil, "no-tunnel"},
		{"a fragment of a tunnel goes up", piece, nil, "no-tunnel"},
		{"a tunnel from somebody else goes up", stranger.Wrap(frame), nil, "stranger"},
		{"GUE from somebody else goes up", packettest.Tunnel{Src: client6, Dst: backend6, GUE: 1}.Wrap(frame), nil, "stranger"},
		{"a tunnel to a machine behind this one goes up", elsewhere.Wrap(frame), nil, "other-host"},
		{"a director's tunnel to the VIP itself goes up", packettest.Tunnel{Src: director4, Dst: tunnelVIP4}.Wrap(frame), nil, "other-host"},
	}
}

// From a director, and nothing that can go up.
func lostFixtures() []decapFixture {
	frame := plain(false, nil)
	gue := wrapped("GUE in IPv4", frame)
	other := packettest.Frame(packettest.Ethernet{Dst: ownMAC, Src: gateway},
		packettest.IPv4{Src: client4, Dst: backend4}, packettest.UDP{Src: 1, Dst: 2})
	other6 := packettest.Frame(packettest.Ethernet{Dst: ownMAC, Src: gateway},
		packettest.IPv6{Src: client6, Dst: backend6}, packettest.UDP{Src: 1, Dst: 2})
	return []decapFixture{
		{"a packet for this machine's own address does not come out", wrapped("IPv4", other), nil, "no-vip"},
		{"an IPv6 packet for this machine's own address does not come out", wrapped("GUE in IPv6", other6), nil, "no-vip"},
		{"an inner header that is cut short is lost", wrapped("IPv4", frame)[:50], nil, "malformed"},
		{"an inner IPv6 header that is cut short is lost", wrapped("IPv6", plain(true, nil))[:90], nil, "malformed"},
		{"an inner header of the wrong version is lost", changed(wrapped("IPv4", frame), 34, 0x65), nil, "malformed"},
		{"an inner IPv6 header of the wrong version is lost", changed(wrapped("IPv4", plain(true, nil)), 34, 0x45), nil, "malformed"},
		{"GUE with optional fields is lost", changed(gue, 42, 0x01), nil, "malformed"},
		{"a GUE control message is lost", changed(gue, 42, 0x20), nil, "malformed"},
		{"GUE with flags is lost", changed(gue, 44, 0x80), nil, "malformed"},
		{"GUE of a version that is not known is lost", changed(gue, 42, 0x80), nil, "malformed"},
		{"GUE with something else in it is lost", changed(gue, 43, 47), nil, "malformed"},
		{"GUE without a header is lost", gue[:42], nil, "malformed"},
		{"GUE whose header is cut short is lost", gue[:44], nil, "malformed"},
	}
}

// Congestion marked on the outer header.
func congestionFixtures() []decapFixture {
	mark := func(frame []byte, ecn byte) []byte { // of an untagged frame
		out := slices.Clone(frame)
		if out[12] == 0x86 {
			out[15] = out[15]&^0x30 | ecn<<4
			return out
		}
		out[15] = out[15]&^3 | ecn
		headerSum(out[14:34])
		return out
	}
	var all []decapFixture
	for _, kind := range []string{"IPv4", "GUE in IPv6"} {
		for _, v6 := range []bool{false, true} {
			for ecn, name := range []string{"not capable", "capable by 1", "capable by 0", "congested"} {
				frame := mark(plain(v6, nil), byte(ecn))
				f := decapFixture{
					sentence: fmt.Sprintf("congestion marked on %s reaches what is %s, IPv6 %t", kind, name, v6),
					frame:    mark(wrapped(kind, frame), 3), out: mark(frame, 3), reason: "unwrapped",
				}
				if ecn == 0 {
					f.out, f.reason = nil, "congested"
				}
				all = append(all, f)
			}
		}
	}
	return all
}

func decapFixtures() []decapFixture {
	return slices.Concat(unwrappedFixtures(), passedFixtures(), lostFixtures(), congestionFixtures())
}

func TestEveryTunnelEndsWhereItsSentenceSays(t *testing.T) {
	d, runner := newDecap(t)
	verdicts := make(map[string]datapath.Verdict)
	for _, r := range datapath.DecapReasons {
		verdicts[r.Name] = r.Verdict
	}
	for _, f := range decapFixtures() {
		t.Run(f.sentence, func(t *testing.T) {
			before := decapCounters(t, d)
			action, out, err := runner.Run(f.frame)
			if err != nil {
				t.Fatal(err)
			}
			want := f.out
			if want == nil {
				want = f.frame
			}
			wantAction := uint32(actionPass)
			if verdicts[f.reason] == datapath.VerdictDrop {
				wantAction = actionDrop
			}
			if action != wantAction {
				t.Errorf("action %d, want %d", action, wantAction)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("frame\n%x, want\n%x", out, want)
			}
			c := before[f.reason]
			before[f.reason] = counted{c.Packets + 1, c.Bytes + uint64(len(f.frame))}
			if diff := cmp.Diff(before, decapCounters(t, d)); diff != "" {
				t.Errorf("counters (-want +got):\n%s", diff)
			}
		})
	}
}

func decapCounters(t testing.TB, d *datapath.Decap) map[string]counted {
	t.Helper()
	list, err := d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]counted)
	for _, c := range list {
		found[c.Reason] = counted{c.Packets, c.Bytes}
	}
	return found
}

func TestEveryReasonOfATunnelHasAPacket(t *testing.T) {
	met := make(map[string]bool)
	for _, f := range decapFixtures() {
		met[f.reason] = true
	}
	met["failed"] = true // no frame is known that the kernel does not move
	for _, r := range datapath.DecapReasons {
		if !met[r.Name] || r.Explanation == "" {
			t.Errorf("%q: no packet, or not explained", r.Name)
		}
	}
}

// What a director's twin wraps comes out byte for byte, whatever is in it.
func TestRandomPacketsComeOutAsTheyWentIn(t *testing.T) {
	_, runner := newDecap(t)
	random := rand.New(rand.NewPCG(4, 2))
	var names []string
	for name := range wrappings() {
		names = append(names, name)
	}
	slices.Sort(names)
	n := packettest.Scaled(t, 200_000)
	for i := range n {
		content := make([]byte, random.IntN(64))
		for j := range content {
			content[j] = byte(random.Uint32())
		}
		if i%64 == 0 {
			content = make([]byte, random.IntN(1400))
		}
		var tags []packettest.Layer
		for range max(0, random.IntN(5)-2) {
			tags = append(tags, packettest.VLAN{ID: uint16(1 + random.IntN(4094))})
		}
		frame := plain(random.IntN(2) == 1, content, tags...)
		kind := names[random.IntN(len(names))]
		action, out, err := runner.Run(wrapped(kind, frame))
		if err != nil || action != actionPass || !bytes.Equal(out, frame) {
			t.Fatalf("packet %d, %s: action %d, %v\n%x, want\n%x", i, kind, action, err, out, frame)
		}
	}
	t.Logf("%d packets, none wrong", n)
}

// Garbage inside a director's tunnel neither goes up as it is nor stops the program.
func TestRandomBytesFromADirectorAreLost(t *testing.T) {
	d, runner := newDecap(t)
	random := rand.New(rand.NewPCG(2, 4))
	frame := plain(false, nil)
	for range packettest.Scaled(t, 100_000) {
		outer := wrapped([]string{"IPv4", "GUE in IPv4", "GUE in IPv6"}[random.IntN(3)], frame)
		start := len(outer) - len(frame) + 14
		for i := range 20 {
			outer[start+i] = byte(random.Uint32())
		}
		action, _, err := runner.Run(outer[:start+random.IntN(len(outer)-start)])
		if err != nil || action != actionDrop {
			t.Fatalf("%x: action %d, %v", outer, action, err)
		}
	}
	if got := decapCounters(t, d)["unwrapped"]; got.Packets != 0 {
		t.Errorf("%d came out", got.Packets)
	}
}

func TestAddressesChangeWhileTheProgramRuns(t *testing.T) {
	d, runner := newDecap(t)
	frame := wrapped("IPv4", plain(false, nil))
	for _, step := range []struct {
		change func(*datapath.Tunnels)
		want   int // bytes that come out
	}{
		{func(*datapath.Tunnels) {}, len(frame) - 20},
		{func(w *datapath.Tunnels) { w.Directors = w.Directors[1:] }, len(frame)},
		{func(w *datapath.Tunnels) { w.Own = w.Own[1:] }, len(frame)},
		{func(*datapath.Tunnels) {}, len(frame) - 20},
		// an address may be two things: this backend is a director's too
		{func(w *datapath.Tunnels) { w.Directors = append(w.Directors, w.Own...) }, len(frame) - 20},
	} {
		want := tunnels()
		step.change(&want)
		if err := d.SetAddresses(want); err != nil {
			t.Fatal(err)
		}
		if _, out, err := runner.Run(frame); err != nil || len(out) != step.want {
			t.Errorf("%+v: %d bytes, %v, want %d", want, len(out), err, step.want)
		}
	}
}

func TestReasonsOfTunnelsAreNamedAsInTheProgram(t *testing.T) {
	spec, err := datapath.LoadDecapSpec()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range datapath.DecapReasons {
		names = append(names, r.Name)
	}
	if diff := cmp.Diff(enumNames(t, spec, "decap_reason", "DECAP_"), names); diff != "" {
		t.Errorf("(-C +Go):\n%s", diff)
	}
}
