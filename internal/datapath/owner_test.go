package datapath_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
	"github.com/lbctl/lbctl/internal/rendezvous"
)

const clusterSize = 5

// clusterState is what node number local is told, when the members of a subset (a bit each) are
// alive: the same as every other, but for who it is.
func clusterState(local int, table *lb.Table) *lb.State {
	state := &lb.State{Cluster: "five", Seed: worldSeed, Tables: []*lb.Table{table}}
	for i := range clusterSize {
		state.Nodes = append(state.Nodes, lb.Node{Index: i, Name: nodeName(i), Weight: 1, Local: i == local})
	}
	for _, f := range families {
		vip := len(state.VIPs)
		state.VIPs = append(state.VIPs, lb.VIP{Addr: f.vip(vipMine), Interface: "lo", MAC: f.mac(vipMine)})
		state.Services = append(state.Services,
			lb.Service{Name: "web", VIP: vip, Protocol: lb.ProtocolTCP, Hash: lb.HashSourcePort,
				Ports: []lb.PortRange{{First: portWeb, Last: portWeb}}},
			lb.Service{Name: "all", VIP: vip, Protocol: lb.ProtocolUDP, Hash: lb.HashSourcePortDestPort,
				Ports: []lb.PortRange{lb.AllPorts}})
	}
	return state
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i) }

// subsetTable gives each bucket to a member of a subset, by weight.
func subsetTable(builder *rendezvous.Builder, subset int, weights [clusterSize]int) *lb.Table {
	nodes := make([]rendezvous.Node, clusterSize)
	for i := range nodes {
		nodes[i] = rendezvous.Node{Name: nodeName(i), Weight: weights[i] * (subset >> i & 1)}
	}
	return builder.Build(nodes)
}

// flowKinds are the ways of a packet through the program, each with what its bucket follows from.
func flowKinds() []flowKind {
	return []flowKind{
		{"IPv4 TCP", v4, lb.HashSourcePort, func(src netip.Addr, port uint16) []byte {
			return frameOf(v4.eth(vipMine), v4.between(src, v4.vip(vipMine)), tcp{Src: port, Dst: portWeb})
		}},
		{"IPv6 TCP", v6, lb.HashSourcePort, func(src netip.Addr, port uint16) []byte {
			return frameOf(v6.eth(vipMine), v6.between(src, v6.vip(vipMine)), tcp{Src: port, Dst: portWeb})
		}},
		{"IPv6 UDP behind a tag and an extension header", v6, lb.HashSourcePortDestPort, func(src netip.Addr, port uint16) []byte {
			return frameOf(v6.eth(vipMine), vlan{ID: 5}, v6.between(src, v6.vip(vipMine)),
				packettest.Extension{Kind: packettest.ProtocolDestination}, udp{Src: port, Dst: portWeb})
		}},
		{"IPv4 echo", v4, lb.HashSource, func(src netip.Addr, _ uint16) []byte {
			return frameOf(v4.eth(vipMine), v4.between(src, v4.vip(vipMine)), v4.echo())
		}},
	}
}

type flowKind struct {
	name   string
	family family
	mode   lb.HashFields
	frame  func(src netip.Addr, port uint16) []byte
}

// frameForEachBucket finds by trial a packet for every bucket; neighbours are of different kinds.
func frameForEachBucket() [][]byte {
	frames := make([][]byte, lb.Buckets)
	keys := flowhash.NewKeys(worldSeed)
	kinds := flowKinds()
	for k, kind := range kinds {
		mask := flowhash.NewMask(kind.mode, kind.family == v4)
		src := kind.family.client.AsSlice()
		for n, found := uint32(0), 0; found < lb.Buckets/len(kinds); n++ {
			binary.BigEndian.PutUint32(src[len(src)-4:], n*40503)
			addr, _ := netip.AddrFromSlice(src)
			port := uint16(n)
			bucket := flowhash.Bucket(keys.Sum(mask, addr, port, portWeb))
			if bucket%len(kinds) == k && frames[bucket] == nil {
				frames[bucket] = kind.frame(addr, port)
				found++
			}
		}
	}
	return frames
}

// Every bucket, every set of nodes that may be alive, every node's own program.
func TestExactlyOneNodeAcceptsEachPacket(t *testing.T) {
	const workers = 2
	frames := frameForEachBucket()
	builder := rendezvous.NewBuilder()
	table := subsetTable(builder, 0, [clusterSize]int{})
	var nodes [clusterSize]*datapath.Instance
	var runners [workers][clusterSize]*packettest.Runner
	for i := range nodes {
		nodes[i] = instanceOf(t, clusterState(i, table))
		for w := range runners {
			runners[w][i] = packettest.NewRunner(t, nodes[i].XDP())
		}
	}
	step := lb.Buckets/packettest.Scaled(t, lb.Buckets) | 1 // odd, to meet all kinds of frames
	for subset := range 1 << clusterSize {
		next := subsetTable(builder, subset, [clusterSize]int{100, 50, 256, 1, 7})
		for i, node := range nodes {
			written, err := node.Set(clusterState(i, next), worldDevice)
			if err != nil {
				t.Fatal(err)
			}
			if moved := moved(table, next); written != moved {
				t.Errorf("subset %05b: node %d wrote %d buckets, but %d moved", subset, i, written, moved)
			}
		}
		table = next
		var group sync.WaitGroup
		for w := range runners {
			group.Go(func() {
				for b := w * step; b < lb.Buckets; b += workers * step {
					if !oneAccepts(t, &runners[w], frames[b], int(table.Owners[b])) {
						t.Errorf("subset %05b, bucket %d", subset, b)
						return
					}
				}
			})
		}
		group.Wait()
	}
}

// oneAccepts gives a packet to all nodes; the owner alone, if there is one, may accept it.
func oneAccepts(t *testing.T, nodes *[clusterSize]*packettest.Runner, frame []byte, owner int) bool {
	for i, runner := range nodes {
		action, _, err := runner.Run(frame)
		if err != nil {
			t.Error(err)
			return false
		}
		want := uint32(actionDrop)
		if i == owner {
			want = actionPass
		}
		if action != want {
			t.Errorf("node %d of owner %d: action %d, want %d", i, owner, action, want)
			return false
		}
	}
	return true
}

func moved(a, b *lb.Table) int {
	n := 0
	for i := range a.Owners {
		if a.Owners[i] != b.Owners[i] {
			n++
		}
	}
	return n
}

// Nodes learn of each other in different orders; each builds its table for itself.
func TestNodesThatKnowTheSameOwnTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 7))
	one, another := rendezvous.NewBuilder(), rendezvous.NewBuilder()
	for range packettest.Scaled(t, 10) {
		var weights [clusterSize]int
		for i := range weights {
			weights[i] = 1 + random.IntN(lb.MaxWeight)
		}
		for subset := range 1 << clusterSize {
			checkAgreement(t, one, another, random.Perm(clusterSize), subset, weights)
		}
	}
}

func checkAgreement(t *testing.T, one, another *rendezvous.Builder, order []int, subset int, weights [clusterSize]int) {
	t.Helper()
	table := subsetTable(one, subset, weights)
	var nodes []rendezvous.Node
	for _, i := range order {
		if subset>>i&1 == 1 {
			nodes = append(nodes, rendezvous.Node{Name: nodeName(i), Weight: weights[i]})
		}
	}
	other := another.Build(nodes)
	for b, owner := range table.Owners {
		name, otherName := "", ""
		if owner != lb.NoNode {
			name = nodeName(int(owner))
		}
		if other.Owners[b] != lb.NoNode {
			otherName = nodes[other.Owners[b]].Name
		}
		if name != otherName || (name == "") != (subset == 0) || name != "" && subset>>owner&1 == 0 {
			t.Fatalf("subset %05b, weights %d, bucket %d: owned by %q and %q", subset, weights, b, name, otherName)
		}
	}
}
