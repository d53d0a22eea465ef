package desired

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/lb"
)

// The largest cluster: 64 nodes, 1,000 services on 100 VIPs; every tenth service is sick somewhere.
func BenchmarkANodeOf64FlapsUnder1000Services(b *testing.B) {
	cfg := &config.Config{Node: "n00"}
	for i := range lb.MaxNodes {
		cfg.Nodes = append(cfg.Nodes, config.Node{Name: fmt.Sprintf("n%02d", i), Weight: 100})
	}
	health := make(Health)
	for i := range 1000 {
		vip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i / 10)})
		if i%10 == 0 {
			cfg.VIPs = append(cfg.VIPs, config.VIP{Address: vip, Interface: "eth0"})
			node := fmt.Sprintf("n%02d", i/10%63)
			if health[node] == nil {
				health[node] = make(map[string]Unhealthy)
			}
			health[node][fmt.Sprintf("s%d", i)] = Unhealthy{}
		}
		cfg.Services = append(cfg.Services, config.Service{
			Name: fmt.Sprintf("s%d", i), VIPs: []netip.Addr{vip}, Protocol: lb.ProtocolTCP,
			Ports: []lb.PortRange{{First: 80, Last: 80}}, Hash: lb.HashSourcePort,
		})
	}
	var builder Builder
	for _, members := range []Members{nil, {"n63": {Down: true}}} {
		build(b, &builder, cfg, members, health)
	}
	b.Run("nothing changes", func(b *testing.B) {
		for b.Loop() {
			build(b, &builder, cfg, nil, health)
		}
	})
	b.Run("down and up", func(b *testing.B) {
		for b.Loop() {
			build(b, &builder, cfg, Members{"n63": {Down: true}}, health)
			build(b, &builder, cfg, nil, health)
		}
	})
}
