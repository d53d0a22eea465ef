package datapath_test

import (
	"bytes"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/packettest"
)

// What the egress guard returns.
const (
	guardNext = 0xffffffff
	guardDrop = 2
)

func guardFixtures() []fixture {
	vip4, vip6 := v4.vip(vipMine), v6.vip(vipMine)
	own4, own6 := v4.vip(200), v6.vip(200)
	from := func(layers ...packettest.Layer) []byte {
		return frameOf(append([]packettest.Layer{eth{Dst: clientMAC, Src: ownMAC}}, layers...)...)
	}
	ask := func(sender packettest.ARP) []byte { return from(sender) }
	masked := func(frame []byte, at int) ending {
		out := bytes.Clone(frame)
		copy(out[at:], []byte{0, 0, 0, 0})
		return ending{action: guardNext, out: out, reason: "arp-masked", scope: v4.scope(vipMine)}
	}
	goOn := ending{action: guardNext}
	arpDropped := ending{action: guardDrop, reason: "arp-suppressed", scope: v4.scope(vipMine)}
	ndDropped := ending{action: guardDrop, reason: "nd-suppressed", scope: v6.scope(vipMine)}
	request := arp{Operation: packettest.ARPRequest, SenderMAC: ownMAC, Sender: vip4, Target: v4.client}
	announcement := arp{Operation: packettest.ARPRequest, SenderMAC: ownMAC, Sender: vip4, Target: vip4}
	reply := arp{Operation: packettest.ARPReply, SenderMAC: ownMAC, Sender: vip4, TargetMAC: clientMAC, Target: v4.client}
	ours := arp{Operation: packettest.ARPReply, SenderMAC: v4.mac(vipMine), Sender: vip4, TargetMAC: clientMAC, Target: v4.client}
	plain := arp{Operation: packettest.ARPRequest, SenderMAC: ownMAC, Sender: own4, Target: v4.client}
	solicit := neighbor{Type: packettest.Solicitation, Target: v6.client}
	advertise := neighbor{Type: packettest.Advertisement, Flags: packettest.FlagOverride, Target: vip6}
	ownLink := option{Type: packettest.TargetLink, Data: ownMAC}
	list := []fixture{
		{sentence: "a request from a VIP goes out from nobody: it must not teach our MAC",
			frame: ask(request), want: masked(ask(request), 14+14)},
		{sentence: "a request from a VIP goes out from nobody with its tag",
			frame: from(vlan{ID: 5}, request), want: masked(from(vlan{ID: 5}, request), 18+14)},
		{sentence: "a request from a VIP for another VIP goes out from nobody",
			frame: ask(arp{Operation: packettest.ARPRequest, SenderMAC: ownMAC, Sender: vip4, Target: v4.vip(vipTheirs)}),
			want: masked(ask(arp{Operation: packettest.ARPRequest, SenderMAC: ownMAC, Sender: vip4,
				Target: v4.vip(vipTheirs)}), 14+14)},
		{sentence: "an announcement of a VIP with our MAC stays here", frame: ask(announcement), want: arpDropped},
		{sentence: "an answer for a VIP with our MAC stays here", frame: ask(reply), want: arpDropped},
		{sentence: "an announcement of a VIP with the shared MAC goes out", frame: ask(ours), want: goOn},
		{sentence: "a request from our own address goes out", frame: ask(plain), want: goOn},
		{sentence: "a request from nobody goes out",
			frame: ask(arp{Operation: packettest.ARPRequest, SenderMAC: ownMAC, Sender: nobody4, Target: vip4}), want: goOn},
		{sentence: "ARP that is cut short goes out", frame: ask(request)[:14+27], want: goOn},
		{sentence: "ARP of another kind of hardware goes out", frame: func() []byte {
			frame := ask(request)
			frame[15] = 6
			return frame
		}(), want: goOn},
		{sentence: "a solicitation from a VIP stays here",
			frame: from(ipv6{Src: vip6, Dst: v6.client, HopLimit: 255}, solicit, option{Type: packettest.SourceLink, Data: ownMAC}), want: ndDropped},
		{sentence: "a solicitation from a VIP stays here, with a tag, too",
			frame: from(vlan{ID: 5}, ipv6{Src: vip6, Dst: v6.client, HopLimit: 255}, solicit), want: ndDropped},
		{sentence: "a solicitation from our own address goes out",
			frame: from(ipv6{Src: own6, Dst: v6.client, HopLimit: 255}, solicit), want: goOn},
		{sentence: "a solicitation for a VIP from our own address goes out",
			frame: from(ipv6{Src: own6, Dst: vip6, HopLimit: 255}, neighbor{Type: packettest.Solicitation, Target: vip6}), want: goOn},
		{sentence: "an advertisement of a VIP by the stack stays here",
			frame: from(ipv6{Src: vip6, Dst: v6.client, HopLimit: 255}, advertise, ownLink), want: ndDropped},
		{sentence: "an advertisement of a VIP from our own address stays here",
			frame: from(ipv6{Src: own6, Dst: v6.client, HopLimit: 255}, advertise, ownLink), want: ndDropped},
		{sentence: "an advertisement of our own address goes out",
			frame: from(ipv6{Src: own6, Dst: v6.client, HopLimit: 255}, neighbor{Type: packettest.Advertisement, Target: own6}, ownLink), want: goOn},
		{sentence: "a ping from a VIP goes out",
			frame: from(ipv6{Src: vip6, Dst: v6.client}, v6.echo(), raw{Bytes: make([]byte, 24)}), want: goOn},
		{sentence: "a segment from a VIP over IPv4 goes out",
			frame: from(v4.fromVIP(vipMine), tcp{Src: portWeb, Dst: portClient}), want: goOn},
		{sentence: "a segment from a VIP over IPv6 goes out",
			frame: from(v6.fromVIP(vipMine), tcp{Src: portWeb, Dst: portClient}), want: goOn},
		{sentence: "what is no IP goes out", frame: from(raw{Number: 0x88cc, Bytes: make([]byte, 46)}), want: goOn},
	}
	for _, f := range families {
		list = append(list, fixture{sentence: f.name + ": a frame from a shared MAC stays here, or switches would learn it",
			frame: frameOf(eth{Dst: clientMAC, Src: f.mac(vipMine)}, f.fromVIP(vipMine), tcp{Src: portWeb, Dst: portClient}),
			want:  ending{action: guardDrop, reason: "shared-source"}})
	}
	return list
}

func TestEveryOutgoingFrameEndsWhereItsSentenceSays(t *testing.T) {
	checkGuard(t, instanceOf(t, world()), guardFixtures())
}

// checkGuard gives fixtures to the egress guard, and looks at all counters after each.
func checkGuard(t *testing.T, instance *datapath.Instance, list []fixture) {
	t.Helper()
	for _, fix := range list {
		t.Run(fix.sentence, func(t *testing.T) {
			before := count(t, instance)
			got, err := instance.Guard(fix.frame)
			if err != nil {
				t.Fatal(err)
			}
			if got.Action != fix.want.action {
				t.Errorf("action %d, want %d", int32(got.Action), int32(fix.want.action))
			}
			if want := fix.want.frameOut(fix.frame); !bytes.Equal(got.Frame, want) {
				t.Errorf("frame\n%x, want\n%x", got.Frame, want)
			}
			want := before
			if fix.want.reason != "" {
				want = before.and(fix)
			}
			sameCounters(t, want, count(t, instance))
		})
	}
}
