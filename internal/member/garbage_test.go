package member_test

import (
	"crypto/rand"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/heartbeat"
)

func TestGarbageMovesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, nil)
	l.form(t)
	begin := datapath.Monotonic()
	garbage := make([]byte, 64<<10)
	rand.Read(garbage)
	for _, p := range l.nodes {
		l.throw(t, p, garbage)
	}
	time.Sleep(l.nodes[0].deadAfter()) // as long as a false death would take
	for _, p := range l.nodes {
		if diff := cmp.Diff([]string{"n1", "n2", "n3"}, p.ask(t, "status", "status").Members); diff != "" {
			t.Errorf("%s: members (-want +got):\n%s", p.Name, diff)
		}
	}
	l.unmoved(t, begin)
	l.neverNone(t, begin)
}

// throw sends garbage to all that a member listens to: in one connection and many datagrams and frames,
// as it is and behind what the first checks of each look for.
func (l *lab) throw(t *testing.T, p *process, garbage []byte) {
	t.Helper()
	label := []byte{244, 4, 'p', 'r', 'o', 'd'} // of memberlist: the cluster's name
	for _, prefix := range [][]byte{nil, label, append(slices.Clone(label), 10)} {
		conn, err := l.other.Dial(t.Context(), "tcp", p.Bind.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(append(slices.Clone(prefix), garbage...)) // it may hang up first
		conn.Close()
		udp, err := l.other.Dial(t.Context(), "udp", p.Bind.String())
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(garbage, 1400) {
			if _, err := udp.Write(append(slices.Clone(prefix), part...)); err != nil {
				t.Fatal(err)
			}
		}
		udp.Close()
	}
	l.beat(t, garbage)
}

// beat sends garbage where heartbeats go.
func (l *lab) beat(t *testing.T, garbage []byte) {
	t.Helper()
	group := net.HardwareAddr{0x03, 0x6c, 0x62, 0x68, 0x62, 0x01}
	err := l.other.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(eth0, packet.Raw, heartbeat.EtherType, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		header := slices.Concat(group, eth0.HardwareAddr, []byte{heartbeat.EtherType >> 8, heartbeat.EtherType & 0xff})
		for part := range slices.Chunk(garbage, 200) {
			// a frame of our version and of this length
			whole := slices.Concat(header, []byte{1, 0, byte(len(part))}, part[3:])
			if _, err := conn.WriteTo(whole, &packet.Addr{HardwareAddr: group}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
