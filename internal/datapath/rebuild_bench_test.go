package datapath_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/config"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/lb"
)

// BenchmarkOneNodeLeavesAndReturns rebuilds and applies the tables of 100 services on 32 nodes when one
// node goes and when it comes back. No two services share a table: each has other sick nodes.
func BenchmarkOneNodeLeavesAndReturns(b *testing.B) {
	const nodes, services = 32, 100
	cfg, health := largeCluster(b, nodes, services)
	var builder desired.Builder
	full, err := builder.Build(cfg, nil, health, nil)
	if err != nil {
		b.Fatal(err)
	}
	if len(full.Tables) != services+1 {
		b.Fatalf("%d tables, want one for each service and one for the VIP", len(full.Tables))
	}
	instance, err := datapath.NewInstance(full, device)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(instance.Close)
	gone := desired.Members{"n31": {Down: true}}
	members := []desired.Members{gone, nil}
	var took [2][]float64
	before := full
	for b.Loop() {
		for i := range members {
			start := time.Now()
			after, err := builder.Build(cfg, members[i], health, nil)
			if err != nil {
				b.Fatal(err)
			}
			written, err := instance.Set(after, device)
			if err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], float64(time.Since(start).Microseconds())/1000)
			if moved := movedBuckets(before, after); written != moved || moved == 0 {
				b.Fatalf("%d entries written, %d buckets moved", written, moved)
			}
			before = after
		}
	}
	for i, name := range []string{"ms-leave", "ms-return"} {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], name)
	}
}

// movedBuckets counts buckets with another owner, over the tables that are in use.
func movedBuckets(old, fresh *lb.State) int {
	moved := 0
	for i := range fresh.Tables {
		for bucket, owner := range fresh.Tables[i].Owners {
			if old.Tables[i].Owners[bucket] != owner {
				moved++
			}
		}
	}
	return moved
}

func largeCluster(b *testing.B, nodes, services int) (*config.Config, desired.Health) {
	b.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "cluster:\n  name: large\n  seed: %064x\n  node: n0\n  nodes:\n", 1)
	for i := range nodes {
		fmt.Fprintf(&text, "    - {name: n%d, addresses: [192.0.2.%d]}\n", i, i+1)
	}
	text.WriteString("interface: lo\nvips: [{address: 198.51.100.80}]\nservices:\n")
	health := make(desired.Health)
	for i := range services {
		name := fmt.Sprintf("s%d", i)
		fmt.Fprintf(&text, "  - {name: %s, vips: [198.51.100.80], ports: %d}\n", name, 1000+2*i)
		for _, sick := range []int{i % 30, (i + 1 + i/30) % 30} {
			node := fmt.Sprintf("n%d", sick)
			if health[node] == nil {
				health[node] = make(map[string]desired.Unhealthy)
			}
			health[node][name] = desired.Unhealthy{}
		}
	}
	cfg, err := config.Parse("large.yaml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	return cfg, health
}
