package datapath_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// BenchmarkGate counts what a packet costs, for a comparison with figures of the past. It means
// something only where the clock counts instructions, so it is run in a virtual machine alone.
//
// Each run has the frame anew, as the programs change what they accept or answer.
func BenchmarkGate(b *testing.B) {
	if os.Getenv("LB_GATE") == "" {
		b.Skip("needs a clock that counts instructions: make bench-gate")
	}
	drop, _ := packettest.Floors(b)
	mine, theirs := benchInstance(b, 0), benchInstance(b, 1)
	fixtures := instanceOf(b, world())
	dr := forwardInstance(b, lb.AnnounceMulticast, lb.ForwardDR, lb.EncapIP, v4)
	tunnel := forwardInstance(b, lb.AnnounceMulticast, lb.ForwardTunnel, lb.EncapIP, v4)
	nat := forwardInstance(b, lb.AnnounceMulticast, lb.ForwardNAT, lb.EncapIP, v4)
	for _, f := range families {
		vip, other := "192.0.2.80", "192.0.2.81"
		if f == v6 {
			vip, other = "2001:db8::80", "2001:db8::81"
		}
		common := benchFrame(netip.MustParseAddr(vip))
		tagged := packettest.Frame(f.eth(vipMine), packettest.VLAN{ID: 7}, f.ip(vipMine),
			packettest.TCP{Src: portClient, Dst: portSSH, Flags: packettest.SYN})
		gate(b, drop, "not-owner/"+f.name, theirs, common, actionDrop)
		gate(b, drop, "owner/"+f.name, mine, common, actionPass)
		gate(b, drop, "dr/"+f.name, dr, common, actionTX)
		gate(b, drop, "tunnel/"+f.name, tunnel, common, actionTX)
		gate(b, drop, "nat/"+f.name, nat, common, actionTX)
		gate(b, drop, "not-vip/"+f.name, mine, benchFrame(netip.MustParseAddr(other)), actionPass)
		gate(b, drop, "not-owner-vlan/"+f.name, fixtures, tagged, actionDrop)
		gate(b, drop, "owner-range/"+f.name, fixtures, f.udp(vipMine, portRange+100), actionPass)
	}
	gate(b, drop, "arp-answer/IPv4", fixtures, packettest.Frame(
		packettest.Ethernet{Dst: broadcast, Src: clientMAC},
		packettest.ARP{
			Operation: packettest.ARPRequest, SenderMAC: clientMAC,
			Sender: v4.client, Target: v4.vip(vipMine),
		}), actionTX)
}

// gate reports how long a run of the program takes above one that drops at once.
func gate(b *testing.B, floor *ebpf.Program, name string, instance *datapath.Instance, frame []byte, want uint32) {
	b.Run(name, func(b *testing.B) {
		const rounds = 200
		var above []float64
		for range rounds {
			ground := once(b, floor, frame, actionDrop)
			above = append(above, once(b, instance.XDP(), frame, want)-ground)
		}
		for b.Loop() { //nolint:revive // the rounds above are the measurement
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(middle(above), "instructions")
	})
}

// once returns nanoseconds. A single run is one without the RCU grace period that ends many.
func once(b *testing.B, program *ebpf.Program, frame []byte, want uint32) float64 {
	b.Helper()
	action, took, err := program.Benchmark(frame, 1, nil)
	if err != nil {
		b.Fatalf("run: %v", err)
	}
	if action != want {
		b.Fatalf("the program returned %d, want %d", action, want)
	}
	return float64(took.Nanoseconds())
}
