package rendezvous

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

// Nodes of different versions and architectures share a cluster: a change of this sum splits it.
func TestTablesAreTheSameForever(t *testing.T) {
	table := NewBuilder().Build([]Node{{"n1", 100}, {"n2", 100}, {"n3", 50}, {"n4", 0}, {"n5", 256}, {"n6", 1}})
	var b []byte
	for _, owner := range table.Owners {
		b = binary.BigEndian.AppendUint16(b, uint16(owner))
	}
	sum := sha256.Sum256(b)
	const want = "805f6d36e438d767"
	if got := hex.EncodeToString(sum[:8]); got != want {
		t.Errorf("the sum of the owners is %s, want %s", got, want)
	}
}

// weightings of five nodes: equal, different, extreme, one that serves nothing.
var weightings = [][5]int{
	{100, 100, 100, 100, 100},
	{10, 20, 30, 40, 50},
	{1, 256, 1, 256, 3},
	{100, 0, 7, 0, 100},
}

// subset returns the nodes whose bit is set. Their indexes differ between subsets, names do not.
func subset(bits int, weights [5]int) []Node {
	var nodes []Node
	for i, w := range weights {
		if bits&(1<<i) != 0 {
			nodes = append(nodes, Node{fmt.Sprintf("n%d", i+1), w})
		}
	}
	return nodes
}

func TestEveryBucketHasOneOwnerAndItIsEligible(t *testing.T) {
	b := NewBuilder()
	for _, weights := range weightings {
		for bits := range 1 << 5 {
			nodes := subset(bits, weights)
			eligible := slices.ContainsFunc(nodes, func(n Node) bool { return n.Weight > 0 })
			for bucket, owner := range b.Build(nodes).Owners {
				switch {
				case owner == lb.NoNode && !eligible:
				case owner >= 0 && int(owner) < len(nodes) && nodes[owner].Weight > 0:
				default:
					t.Fatalf("%v: bucket %d has owner %d", nodes, bucket, owner)
				}
			}
		}
	}
}

func TestANodeThatComesOrGoesMovesOnlyItsOwnBuckets(t *testing.T) {
	b := NewBuilder()
	for _, weights := range weightings {
		var owners [1 << 5][]string
		for bits := range owners {
			nodes := subset(bits, weights)
			owners[bits] = names(b.Build(nodes), nodes)
		}
		for bits, without := range owners {
			for i := range 5 {
				with, name := owners[bits|1<<i], fmt.Sprintf("n%d", i+1)
				for bucket := range without {
					if with[bucket] != without[bucket] && with[bucket] != name {
						t.Fatalf("%v, subset %05b: %s moved bucket %d from %q to %q",
							weights, bits, name, bucket, without[bucket], with[bucket])
					}
				}
			}
		}
	}
}

func names(table *lb.Table, nodes []Node) []string {
	list := make([]string, len(table.Owners))
	for i, owner := range table.Owners {
		if owner != lb.NoNode {
			list[i] = nodes[owner].Name
		}
	}
	return list
}

func TestTheOrderOfNodesDoesNotMatter(t *testing.T) {
	b := NewBuilder()
	nodes := subset(31, weightings[1])
	reversed := slices.Clone(nodes)
	slices.Reverse(reversed)
	if diff := cmp.Diff(names(b.Build(nodes), nodes), names(NewBuilder().Build(reversed), reversed)); diff != "" {
		t.Errorf("(-in order +reversed):\n%s", diff)
	}
}

// The definition in floating point: the lowest -log2(u)/weight. Where it and the table disagree,
// two nodes are so close that rounding decides.
func TestTheLowestLogarithmByWeightOwnsABucket(t *testing.T) {
	b := NewBuilder()
	for _, weights := range weightings {
		nodes := subset(31, weights)
		for bucket, owner := range b.Build(nodes).Owners {
			lowest, mine := math.Inf(1), 0.0
			for i, n := range nodes {
				if n.Weight == 0 {
					continue
				}
				sum := sha256.Sum256([]byte(n.Name))
				u := float64(mix(binary.BigEndian.Uint64(sum[:])^uint64(bucket))) / (1 << 64)
				s := -math.Log2(u) / float64(n.Weight)
				lowest = min(lowest, s)
				if int(owner) == i {
					mine = s
				}
			}
			if mine > lowest*1.001 {
				t.Fatalf("%v: bucket %d: node %d has %g, another %g", nodes, bucket, owner, mine, lowest)
			}
		}
	}
}

// Buckets fall to nodes like balls into bins: a share p of n buckets has a standard deviation of
// sqrt(n·p·(1-p)). That is 0.8% of a node's share with 5 nodes of one weight, 2.2% with 32.
func TestSharesFollowWeightsAsChanceAllows(t *testing.T) {
	b := NewBuilder()
	var vectors [][]Node
	for _, weights := range weightings {
		vectors = append(vectors, subset(31, weights))
	}
	for _, n := range []int{2, 3, 8, 32, 64} {
		vectors = append(vectors, nodesNamed(n))
	}
	for _, nodes := range vectors {
		total := 0
		for _, n := range nodes {
			total += n.Weight
		}
		owned := make([]int, len(nodes))
		for _, owner := range b.Build(nodes).Owners {
			owned[owner]++
		}
		worst, worstSigma := 0.0, 0.0
		for i, n := range nodes {
			if n.Weight == 0 {
				continue
			}
			p := float64(n.Weight) / float64(total)
			want := p * lb.Buckets
			off := math.Abs(float64(owned[i]) - want)
			sigma := math.Sqrt(want * (1 - p))
			worst, worstSigma = max(worst, off/want), max(worstSigma, off/sigma)
			if off > 4*sigma+1 {
				t.Errorf("%v: %s owns %d buckets, want %.0f ± %.0f", nodes, n.Name, owned[i], want, 4*sigma)
			}
		}
		t.Logf("%2d nodes, weights %d..%d: shares at most %.2f%% off, %.1f standard deviations",
			len(nodes), nodes[0].Weight, nodes[len(nodes)-1].Weight, 100*worst, worstSigma)
	}
}
