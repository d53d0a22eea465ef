package datapath_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// Of what a director sends on to a backend, or would; and of replies that came to it alone.
var (
	sendingReasons = []string{
		"forwarded", "redirected", "expired-answered", "too-big-answered", "expired", "too-big", "no-backend", "no-way", "not-translated",
	}
	replyReasons = []string{"replied", "reply-redirected", "reply-held"}
)

// afterTheLease is what becomes of the packets that are forwarded while the lease runs. Replies go on: nobody
// else gets them. So does what is under way where others choose the director.
func afterTheLease(list []fixture) []fixture {
	var over []fixture
	for _, fix := range list {
		if slices.Contains(sendingReasons, fix.want.reason) && !isRouted(fix.want.scope) {
			reason := "lapsed"
			switch {
			case isLater(fix.frame):
				reason = "fragment-not-owner"
			case isICMP(fix.frame):
				reason = "error-not-owner"
			}
			fix.want = dropped(reason, fix.want.scope)
			if fix.frame[0]&1 == 0 {
				fix.want = handedToAll(fix.frame, fix.want.scope)
			}
		} else if !slices.Contains(append(replyReasons, sendingReasons...), fix.want.reason) {
			continue
		}
		fix.sentence = "after the lease: " + fix.sentence
		over = append(over, fix)
	}
	return over
}

func isRouted(scope string) bool {
	return scope == v4.serviceScope("web", vipRouted) || scope == v6.serviceScope("web", vipRouted)
}

// isLater is about frames without a tag, as isICMP is.
func isLater(frame []byte) bool {
	if frame[12] == 8 {
		return binary.BigEndian.Uint16(frame[20:])&0x1fff != 0
	}
	return frame[12] == 0x86 && frame[20] == 44 && binary.BigEndian.Uint16(frame[56:])&^7 != 0
}

func isICMP(frame []byte) bool {
	return frame[12] == 8 && frame[23] == 1 || frame[12] == 0x86 && frame[20] == 58
}

// lapsesNow returns after the end of a lease; a busy machine may be too late to see its beginning.
func lapsesNow(t testing.TB, instance *datapath.Instance) {
	t.Helper()
	if err := instance.Lease(datapath.Monotonic()+10*time.Millisecond, true); err != nil && !errors.Is(err, datapath.ErrLapsed) {
		t.Fatal(err)
	}
	lapse(t, instance)
}

// Its successor sends the same packets to where newer tables say.
func TestADirectorForwardsNothingAfterItsLease(t *testing.T) {
	state := forwardWorld()
	for i := range state.VIPs {
		state.VIPs[i].HandOn = state.VIPs[i].Announce == lb.AnnounceFailover && state.VIPs[i].Table == tableMine
	}
	instance := instanceOf(t, state)
	list := forwardFixtures()
	var later []fixture
	for _, f := range families {
		d := datagram{f, vipForward, 9100}
		scope := f.serviceScope("dns", vipForward)
		checkAll(t, instance, ways(instance), []fixture{{sentence: f.name + ": a first fragment, just before",
			frame: d.first(portDNS), want: forwarded(f.hop(portDNS).Route(d.first(portDNS)), scope)}})
		none := func(layer packettest.Layer) []byte {
			return frameOf(eth{Dst: ownMAC, Src: clientMAC}, f.ip(vipRouted), layer)
		}
		later = append(later, inFamily(f, []fixture{
			{sentence: "a fragment of what was forwarded just before", frame: d.later(), want: dropped("fragment-not-owner", scope)},
			{sentence: "none: what opens", frame: none(tcp{Src: portClient, Dst: portWeb, Flags: packettest.SYN}),
				want: dropped("lapsed", f.serviceScope("web", vipRouted))},
			{sentence: "none: a datagram", frame: none(udp{Src: portClient, Dst: portDNS}),
				want: dropped("lapsed", f.serviceScope("dns", vipRouted))},
		})...)
	}
	lapsesNow(t, instance)
	checkAll(t, instance, ways(instance), append(afterTheLease(list), later...))

	lease(t, instance, datapath.Monotonic()+time.Hour)
	checkAll(t, instance, ways(instance), list) // a new life
}

func TestADirectorTurnsRepliesAfterItsLease(t *testing.T) {
	d := natWorld(t)
	lapsesNow(t, d.instance)
	for link, list := range natFixturesBy(d) {
		t.Run(d.links[link].Name, func(t *testing.T) {
			checkAll(t, d.instance, d.ways(link), afterTheLease(list))
		})
	}
}

// Replies of full NAT come to all directors, as clients' packets do.
func TestFullNATSendsNothingEitherWayAfterTheLease(t *testing.T) {
	eachFamily(t, func(t *testing.T, d *director, f family) {
		c := d.converse(t, f, "web", 40000)
		c.establishes()
		lapsesNow(t, d.instance)
		for _, flags := range []uint8{packettest.ACK, packettest.FIN | packettest.ACK, packettest.RST} {
			c.isDropped("lapsed", c.segment(flags, 101, 501))
			c.isDropped("lapsed", c.reply(flags, 501, 101))
		}
		quoted := packettest.Frame(c.packet(c.s.vip.Addr, c.b.Addr), packettest.TCP{Src: c.source, Dst: webPort, Flags: packettest.ACK})
		c.isDropped("error-not-owner", c.answers(natFixtures{family: f}.tooBig(), raw{Bytes: quoted}))
		lease(t, d.instance, datapath.NoLease)
		c.acknowledges(501)
	})
}
