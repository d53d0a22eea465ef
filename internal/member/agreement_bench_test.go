package member

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/ownership"
)

// settledOn returns a member of five nodes that owns all VIPs of a configuration, each as a whole.
func settledOn(tb testing.TB, cfg *config.Config) (*Member, time.Duration) {
	tb.Helper()
	weights := make(map[string]ownership.Weight)
	for _, domain := range desired.Domains(cfg) {
		weights[domain] = ownership.Weight{Weight: 100, Healthy: true, MinNodes: 1}
	}
	machine, err := ownership.New(ownership.DefaultConfig("n0"), 1, time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	m := &Member{opts: Options{Machine: ownership.DefaultConfig("n0")}, machine: machine}
	for i := range 5 {
		m.opts.Nodes = append(m.opts.Nodes, lb.Node{Name: fmt.Sprintf("n%d", i), Weight: 100})
	}
	now := time.Second
	machine.Handle(now, ownership.Weights{Domains: weights})
	machine.Handle(now, ownership.Ready{})
	for range 60 { // until nobody else can be there
		now += 200 * time.Millisecond
		machine.Handle(now, ownership.Tick{})
	}
	m.status = machine.Status(now)
	if held := m.held(m.agreement()); held != lb.Buckets*len(weights) {
		tb.Fatalf("it holds %d buckets of %d domains", held, len(weights))
	}
	return m, now
}

// held counts the buckets of an agreement that this node takes.
func (m *Member) held(agreed *desired.Agreement) (held int) {
	for _, t := range agreed.Tables {
		for _, owner := range t.Owners {
			if owner == 0 {
				held++
			}
		}
	}
	return held
}

func failoverVIPs(n int) *config.Config {
	cfg := &config.Config{Node: "n0"}
	for i := range n {
		cfg.VIPs = append(cfg.VIPs, config.VIP{
			Address: netip.AddrFrom4([4]byte{198, 51, byte(100 + i/250), byte(1 + i%250)}), Interface: "eth0", Announce: lb.AnnounceFailover,
		})
	}
	return cfg
}

// BenchmarkOneOfManyVIPsChanges is from what the machine says to the state that the kernel is to have.
func BenchmarkOneOfManyVIPsChanges(b *testing.B) {
	for _, vips := range []int{100, 500} {
		cfg := failoverVIPs(vips)
		m, now := settledOn(b, cfg)
		domain := desired.Domain(&cfg.VIPs[0], nil)
		b.Run(fmt.Sprintf("%d VIPs", vips), func(b *testing.B) {
			for b.Loop() {
				m.told.forget([]ownership.Change{{Domain: domain}})
				if _, err := desired.Agreed(cfg, m.agreement(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d VIPs, machine", vips), func(b *testing.B) {
			weights := make(map[string]ownership.Weight)
			for _, domain := range desired.Domains(cfg) {
				weights[domain] = ownership.Weight{Weight: 100, Healthy: true, MinNodes: 1}
			}
			changed := 0
			for i := 0; b.Loop(); i++ {
				now += time.Millisecond
				weights[domain] = ownership.Weight{Weight: 100 * (i % 2), Healthy: true, MinNodes: 1}
				a := m.machine.Handle(now, ownership.Weights{Domains: weights})
				changed += len(a.Changed)
			}
			b.ReportMetric(float64(changed)/float64(b.N), "changed/op")
		})
	}
}
