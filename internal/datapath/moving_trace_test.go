package datapath_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// told is what a trace says of a bucket and its flow.
type told struct {
	Verb, Node, Flags, Sockets string
	Opens, Direct, Lapsed      bool
}

// What a trace looks at is what the live program would do, and it leaves nothing behind.
func TestATraceTellsOfABucketInTransitionWhatDecides(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	own, err := s.node.MAC("eth0")
	s.must(err)
	host := socketHost{s.node}
	host.addresses(t)
	host.connect(t)
	want := movingWorld()
	for i := range want.VIPs {
		want.VIPs[i].Interface = "eth0"
	}
	s.set(d, want)
	s.must(d.NewLife(datapath.Monotonic() + time.Hour))
	view := s.view()
	tracer := s.tracer(view)
	trace := func(frame []byte) (got *datapath.Trace) {
		t.Helper()
		s.must(s.node.Do(func() (err error) {
			got, err = tracer.Trace(frame, "eth0")
			return err
		}))
		return got
	}
	for _, family := range families {
		f := movingFamily{family}
		for _, fix := range settledFixtures(f) {
			noted := fix.want.reason == "error-accepted" && fix.want.scope == f.udpScope(kindNoted)
			if fix.before != nil || strings.Contains(fix.sentence, "a piece that follows") || noted {
				continue // a trace knows of no packet before it
			}
			frame := fix.frame
			if slices.Equal(frame[:6], ownMAC) {
				frame = slices.Concat(own, frame[6:])
			}
			if got := trace(frame); got.Reason.Name != fix.want.reason || got.Action != fix.want.action {
				t.Errorf("%s: %s, want %s", fix.sentence, got.Reason.Name, fix.want.reason)
			}
		}
		tell := func(frame []byte) told {
			t.Helper()
			got := trace(frame)
			return told{got.Bucket.Verb, got.Bucket.Node, got.Bucket.Flags, got.Sockets, got.Opens, got.Direct, got.Lapsed}
		}
		for name, test := range map[string]struct {
			frame []byte
			want  told
		}{
			"ours, away":          {f.segment(portClient, kindMaybe, packettest.ACK), told{Verb: "ignore", Node: "n1", Flags: "maybe-local", Sockets: "flow"}},
			"not ours, away":      {f.segment(portStranger, kindMaybe, packettest.ACK), told{Verb: "ignore", Node: "n1", Flags: "maybe-local", Sockets: "nothing"}},
			"a SYN, contested":    {f.syn(kindContested), told{Verb: "accept", Node: "n0", Flags: "contested", Opens: true}},
			"not ours, handed on": {f.segment(portStranger, kindDelegate, packettest.ACK), told{Verb: "delegate", Node: "n1", Sockets: "nothing"}},
			"a SYN, handed on":    {f.syn(kindDelegate), told{Verb: "delegate", Node: "n1", Opens: true}},
			"UDP, noted":          {f.datagram(kindNoted), told{Verb: "ignore", Node: "n1", Flags: "maybe-local,udp-noted"}},
			"UDP, kept":           {f.datagram(kindKept), told{Verb: "ignore", Node: "n1", Flags: "maybe-local,udp-kept"}},
			"UDP, away":           {f.datagram(kindAway), told{Verb: "accept", Node: "n0", Flags: "contested,udp-away"}},
			"at rest":             {f.segment(portStranger, kindMine, packettest.ACK), told{Verb: "accept", Node: "n0"}},
		} {
			if got := tell(test.frame); got != test.want {
				t.Errorf("%s: %s: %+v, want %+v", f.name, name, got, test.want)
			}
		}
		listener, err := s.node.Listen(t.Context(), "tcp", netip.AddrPortFrom(f.vip(vipMine), portListen).String())
		s.must(err)
		if got := tell(f.cookieFrame(1, 2)); got.Sockets != datapath.SocketsListener {
			t.Errorf("%s: a listener: %+v", f.name, got)
		}
		listener.Close()
	}
	if n, err := view.Flows(); n != 0 || err != nil {
		t.Errorf("the traces noted %d flows: %v", n, err)
	}
	if err := d.NewLife(datapath.Monotonic() + time.Millisecond); !errors.Is(err, datapath.ErrLapsed) {
		s.must(err)
	}
	nettest.Eventually(t, time.Minute, func() error {
		if !d.CurrentLease().Lapsed {
			return errors.New("the lease goes on")
		}
		return nil
	})
	lapsed := trace(movingFamily{v4}.syn(kindMine))
	if !lapsed.Lapsed || lapsed.Reason.Name != "lapsed" {
		t.Errorf("after the lease: %+v", lapsed)
	}
	var fresh *datapath.Trace
	s.must(s.node.Do(func() (err error) {
		fresh, err = view.Trace(movingFamily{v4}.syn(kindMine), "eth0")
		return err
	}))
	if diff := cmp.Diff(fresh, lapsed, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("a trace by a program that traced before (-of its own +):\n%s", diff)
	}
}

func TestATraceTellsWhichBackendASlotLedTo(t *testing.T) {
	s := newSite(t, "eth0")
	d := s.open(datapath.ModeAuto)
	want := forwardWorld()
	for i := range want.VIPs {
		want.VIPs[i].Interface = "eth0"
	}
	moving := slices.Repeat([]lb.SlotMark{lb.SlotMoving | lb.SlotNoting}, lb.Slots)
	for i := range want.Services {
		service := &want.Services[i]
		for b := range service.Backends {
			if hop := service.Backends[b].Hop; hop != nil {
				hop.Interface = "eth0"
			}
		}
		if service.Name == "dns" {
			service.Choice = &lb.Choice{Current: worldChoice().Current, Previous: worldChoice().Current, Marks: moving}
		}
	}
	s.set(d, want)
	view := s.view()
	tracer := s.tracer(view)
	for _, test := range []struct {
		frame  []byte
		port   uint16
		marks  []string
		method string
	}{
		{frame: v4.toPort(vipForward, portWeb, packettest.SYN, 0), port: portWeb, method: "dr"},
		{frame: v6.toPort(vipForward, portWayless, packettest.SYN, 0), port: portWayless, method: "dr"},
		{frame: v4.toPort(vipTunnel, portOuter6, packettest.ACK, 0), port: portOuter6, method: "tunnel"},
		{frame: v6.toPort(vipTunnel, portGUE4, packettest.ACK, 0), port: portGUE4, method: "tunnel in gue"},
		{frame: v4.udp(vipForward, portDNS), port: portDNS, method: "dr", marks: []string{"moving", "noting"}},
		{frame: v4.toPort(vipForward, portEmpty, packettest.SYN, 0), port: portEmpty},
	} {
		f := v4
		if test.frame[12] == 0x86 {
			f = v6
		}
		outer := v4
		if test.port == portOuter6 {
			outer = v6
		}
		backend := worldBackends(outer, "eth0")[f.backend(test.port)]
		slot := &datapath.TracedSlot{Slot: flowhash.Slot(f.hash(f.client, portClient, test.port)), Marks: test.marks}
		if test.method != "" {
			slot.Backend = &datapath.TracedBackend{Address: backend.Addr, Method: test.method, Interface: "eth0", MAC: backend.Hop.MAC.String()}
		}
		if test.port == portWayless {
			slot.Backend.Interface, slot.Backend.MAC = "", ""
		}
		var got *datapath.Trace
		s.must(s.node.Do(func() (err error) {
			got, err = tracer.Trace(test.frame, "eth0")
			return err
		}))
		if diff := cmp.Diff(slot, got.Slot, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("port %d (-want +got):\n%s", test.port, diff)
		}
	}
}

func (s *site) tracer(view *datapath.View) *datapath.Tracer {
	s.t.Helper()
	tracer, err := view.Tracer()
	s.must(err)
	s.t.Cleanup(tracer.Close)
	return tracer
}
