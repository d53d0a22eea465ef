package cluster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
)

// A recording is what a node sent to another.
type recording struct {
	datagrams [][]byte          // Ethernet frames
	streams   map[uint16]stream // by source port
}

// A stream is one direction of a TCP connection: payload by sequence number.
type stream map[uint32][]byte

// bytes puts the segments in order; what was sent twice is there once.
func (s stream) bytes() []byte {
	var out []byte
	for _, sequence := range slices.Sorted(maps.Keys(s)) {
		out = append(out, s[sequence]...)
	}
	return out
}

// record notes the IPv4 frames that a node sends to the node at dst, until stop is called.
func record(t *testing.T, sw *netlab.Switch, from, to *process) (stop func() *recording) {
	t.Helper()
	tap := openTap(t, sw, from.port())
	r := &recording{streams: make(map[uint16]stream)}
	var listener sync.WaitGroup
	listener.Go(func() {
		for buf := make([]byte, 2048); ; {
			n, _, err := tap.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			r.note(bytes.Clone(buf[:n]), to.Bind.Addr().AsSlice())
		}
	})
	return func() *recording {
		if err := tap.SetReadDeadline(time.Now()); err != nil {
			t.Error(err)
		}
		listener.Wait()
		tap.Close()
		return r
	}
}

// openTap opens a packet socket on a port of the switch, which sees what comes in there.
func openTap(t *testing.T, sw *netlab.Switch, port string) *packet.Conn {
	t.Helper()
	var tap *packet.Conn
	err := sw.Host.Do(func() error {
		ifi, err := net.InterfaceByName(port)
		if err == nil {
			tap, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tap
}

func (r *recording) note(frame, dst []byte) {
	const ethernet = 14
	if len(frame) < ethernet+20 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP || !bytes.Equal(frame[30:34], dst) {
		return
	}
	l4 := frame[ethernet+int(frame[ethernet]&15)*4 : ethernet+int(binary.BigEndian.Uint16(frame[16:]))]
	switch frame[23] {
	case unix.IPPROTO_UDP:
		r.datagrams = append(r.datagrams, frame)
	case unix.IPPROTO_TCP:
		if binary.BigEndian.Uint16(l4[2:]) != port {
			return // an answer
		}
		source := binary.BigEndian.Uint16(l4)
		if r.streams[source] == nil {
			r.streams[source] = make(stream)
		}
		if payload := l4[int(l4[12]>>4)*4:]; len(payload) > 0 {
			r.streams[source][binary.BigEndian.Uint32(l4[4:])] = payload
		}
	}
}

// cut returns the recording with every datagram and every stream ending early, at several places each.
func (r *recording) cut() *recording {
	short := &recording{streams: make(map[uint16]stream)}
	for _, frame := range r.datagrams {
		for n := range 8 {
			short.datagrams = append(short.datagrams, cutDatagram(frame, n))
		}
	}
	for _, s := range r.streams {
		whole := s.bytes()
		for n := range 16 {
			id := uint16(len(short.streams))
			short.streams[id] = stream{0: whole[:len(whole)*n/16]}
		}
	}
	return short
}

// cutDatagram leaves eighths of what an IPv4 UDP frame carries. Its IP header has no options.
func cutDatagram(frame []byte, eighths int) []byte {
	const ip, udp, payload = 14, 34, 42
	size := (int(binary.BigEndian.Uint16(frame[udp+4:])) - 8) * eighths / 8
	b := bytes.Clone(frame[:payload+size])
	binary.BigEndian.PutUint16(b[ip+2:], uint16(len(b)-ip))
	binary.BigEndian.PutUint16(b[udp+4:], uint16(len(b)-udp))
	binary.BigEndian.PutUint16(b[udp+6:], 0) // none
	binary.BigEndian.PutUint16(b[ip+10:], 0)
	sum := uint32(0)
	for i := ip; i < udp; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[ip+10:], ^uint16(sum>>16+sum))
	return b
}

// play sends everything again: datagrams bit by bit, streams in connections from a third host.
func (r *recording) play(t *testing.T, sw *netlab.Switch, from, to *process) {
	t.Helper()
	tap := openTap(t, sw, to.port())
	defer tap.Close()
	for _, frame := range r.datagrams {
		if _, err := tap.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range r.streams {
		conn, err := from.host.Dial(t.Context(), "tcp", to.Bind.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(s.bytes()); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

func TestARecordingChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n1, n2, n3 := w.nodes[0], w.nodes[1], w.nodes[2]
	// The life that is recorded begins and ends with the recording.
	n2.kill(t)
	n1.sees(t, "n2", 0)
	n3.sees(t, "n2", 0)
	stop := record(t, w.sw, n2, n1)
	n2.start(t)
	w.whole(t)
	n2.say(t, "hello")
	n1.gets(t, "n2: hello")
	time.Sleep(time.Second)
	n2.kill(t)
	n1.sees(t, "n2", 0)
	n3.sees(t, "n2", 0)
	tape := stop()
	t.Logf("recorded %d datagrams and %d connections", len(tape.datagrams), len(tape.streams))
	if len(tape.datagrams) < 10 || len(tape.streams) < 2 {
		t.Fatal("too little to prove anything")
	}

	play := func(when, alive string, messages ...string) {
		t.Helper()
		_, before := n1.seen()
		for _, r := range []*recording{tape, tape, tape.cut()} {
			r.play(t, w.sw, n3, n1)
			time.Sleep(time.Second) // a false life would begin at once, a false death take half of it
		}
		if now, changes := n1.seen(); now != alive || changes != before {
			t.Errorf("%s: n1 sees %q after %d changes", when, now, changes-before)
		}
		n1.gets(t, messages...)
	}
	play("while its maker is dead", "n3", "n2: hello")
	n1.kill(t)
	n3.sees(t, "n1", 0)
	n1.start(t)
	n1.sees(t, "n3", n3.Life)
	n3.sees(t, "n1", n1.Life)
	play("to one that has begun anew", "n3")
	n2.start(t)
	w.whole(t)
	play("while its maker lives again", "n2 n3")
}
