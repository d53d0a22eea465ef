package datapath_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

const (
	actionDrop = 1
	actionPass = 2
)

// packetsPerRound is one syscall: long enough for the caches to be what they are under load, short
// enough for the floor to be measured in the same moment.
const packetsPerRound = 1 << 17

// BenchmarkXDP reports nanoseconds above the floor of the same round, medians: drops and accepts
// above a program that drops at once, passes of others' packets above one that parses and passes.
func BenchmarkXDP(b *testing.B) {
	drop, parse := packettest.Floors(b)
	for _, test := range []struct {
		name   string
		owner  int16
		dst4   string
		dst6   string
		want   uint32
		floor  *ebpf.Program
		ground uint32
	}{
		{"not-owner", 1, "192.0.2.80", "2001:db8::80", actionDrop, drop, actionDrop},
		{"owner", 0, "192.0.2.80", "2001:db8::80", actionPass, drop, actionDrop},
		{"not-vip", 1, "192.0.2.81", "2001:db8::81", actionPass, parse, actionPass},
	} {
		instance := benchInstance(b, test.owner)
		for _, dst := range []string{test.dst4, test.dst6} {
			for _, flows := range []packettest.Flows{1, 1 << 10, 1 << 17, 1 << 20} {
				frame := benchFrame(netip.MustParseAddr(dst))
				family := "v4"
				if frame[12] == 0x86 {
					family = "v6"
				}
				b.Run(test.name+"/"+family+"/flows="+flows.String(), func(b *testing.B) {
					ours := packettest.NewLane(b, instance.XDP(), frame, flows, test.want)
					ground := packettest.NewLane(b, test.floor, frame, flows, test.ground)
					compare(b, ours, ground, 0)
				})
			}
		}
	}
}

// compare interleaves the two, so that both see the same moments of a noisy machine. The bar is what the
// project wants it to cost at most, or 0.
func compare(b *testing.B, ours, ground *packettest.Lane, bar float64) {
	const rounds = 41
	var above, floors []float64
	ours.Time(b, packetsPerRound)
	for range rounds {
		floor := ground.Time(b, packetsPerRound)
		above = append(above, ours.Time(b, packetsPerRound)-floor)
		floors = append(floors, floor)
	}
	for b.Loop() { //nolint:revive // the rounds above are the measurement
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(above), "ns-above-floor/pkt")
	b.ReportMetric(middle(floors), "ns-floor/pkt")
	if bar > 0 {
		b.ReportMetric(bar, "ns-bar/pkt")
	}
}

// middle is the mean of the middle half: as robust as the median, and finer than the whole
// nanoseconds that single rounds are measured in.
func middle(values []float64) float64 {
	slices.Sort(values)
	half := values[len(values)/4 : len(values)-len(values)/4]
	sum := 0.0
	for _, v := range half {
		sum += v
	}
	return sum / float64(len(half))
}

var loopback = &net.Interface{Index: 1, Name: "lo", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}

func device(string) (*net.Interface, error) { return loopback, nil }

// benchInstance serves one VIP a family with one service each, every bucket owned by one node; node
// 0 is this one.
func benchInstance(b *testing.B, owner int16) *datapath.Instance {
	b.Helper()
	return benchTable(b, &lb.Table{Owners: slices.Repeat([]int16{owner}, lb.Buckets)})
}

// benchTable is benchInstance with any table.
func benchTable(b *testing.B, table *lb.Table) *datapath.Instance {
	b.Helper()
	want := &lb.State{
		Cluster: "bench",
		Nodes: []lb.Node{
			{Index: 0, Name: "n0", Weight: 100, Local: true},
			{Index: 1, Name: "n1", Weight: 100},
		},
		Tables: []*lb.Table{table},
	}
	for _, addr := range []string{"192.0.2.80", "2001:db8::80"} {
		want.Services = append(want.Services, lb.Service{
			Name: "web", VIP: len(want.VIPs), Protocol: lb.ProtocolTCP,
			Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort,
		})
		want.VIPs = append(want.VIPs, lb.VIP{
			Addr: netip.MustParseAddr(addr), Interface: "lo", MAC: net.HardwareAddr{3, 0xbf, 192, 0, 2, 80},
		})
	}
	instance, err := datapath.NewInstance(want, device)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(instance.Close)
	return instance
}

// benchFrame is a TCP segment to port 80, 64 or 74 bytes.
func benchFrame(dst netip.Addr) []byte {
	frame := []byte{3, 0xbf, 192, 0, 2, 80, 2, 0, 0, 0, 0, 9}
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12] = 5 << 4
	if dst.Is4() {
		ip := make([]byte, 20)
		ip[0], ip[3], ip[8], ip[9] = 0x45, 40, 64, 6
		copy(ip[16:], dst.AsSlice())
		frame = append(frame, 0x08, 0x00)
		return append(append(append(frame, ip...), tcp...), make([]byte, 10)...)
	}
	ip := make([]byte, 40)
	ip[0], ip[5], ip[6], ip[7] = 0x60, 20, 6, 64
	copy(ip[8:], netip.MustParseAddr("2001:db8:1::").AsSlice())
	copy(ip[24:], dst.AsSlice())
	frame = append(frame, 0x86, 0xdd)
	return append(append(frame, ip...), tcp...)
}
