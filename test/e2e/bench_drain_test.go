package e2e

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// clients is how many connections there are while the nodes change.
const clients = 300

// Today's way with nothing but the kernel, nftables' hash on each node, beside ours: of connections
// that exist, how many break when one node of three takes no more, and when there are but two.
func BenchmarkConnectionsBrokenByAPlannedChange(b *testing.B) {
	for _, change := range []struct {
		name     string
		nftables func(t testing.TB, nodes []*node)
		ours     func(t testing.TB, c *cluster)
	}{
		{"drain", func(t testing.TB, nodes []*node) {
			// n1 takes over what n3 had
			hashInto(t, nodes[0], 3, 0, 2)
			hashInto(t, nodes[2], 3)
		}, func(t testing.TB, c *cluster) {
			c.drain(t, c.nodes[0], "n3")
		}},
		{"three-to-two", func(t testing.TB, nodes []*node) {
			hashInto(t, nodes[0], 2, 0)
			hashInto(t, nodes[1], 2, 1)
			hashInto(t, nodes[2], 2)
		}, func(t testing.TB, c *cluster) {
			c.drain(t, c.nodes[0], "n3")
			c.called("n3").stop(syscall.SIGTERM)
			c.awaitMember(t, "n3", "down")
			c.agree(t)
		}},
	} {
		b.Run("change="+change.name+"/way=nftables", func(b *testing.B) {
			for b.Loop() {
				c := newHashed(b)
				report300(b, c, func() { change.nftables(b, c.nodes) })
			}
		})
		b.Run("change="+change.name+"/way=lbctl", func(b *testing.B) {
			for b.Loop() {
				c := newMembers(b, options{weights: three, tuning: []string{"absence: 1s"}})
				report300(b, c, func() { change.ours(b, c) })
			}
		})
	}
}

// report300 counts which of the connections do not survive a change.
func report300(b *testing.B, c *cluster, change func()) {
	b.Helper()
	for _, n := range c.nodes {
		startSide(b, n.host, "server", serverOptions{Name: n.name, VIPs: []netip.Addr{vip4}, Port: port})
	}
	visits := make([]*visit, clients)
	check(b, c.client.Do(func() error {
		client := loadClient{clientOptions: clientOptions{VIPs: []netip.Addr{vip4}, Port: port}, dialer: net.Dialer{KeepAlive: -1, Timeout: patience}}
		for i := range visits {
			v, err := client.connect(i)
			if err != nil {
				return err
			}
			visits[i] = v
			b.Cleanup(v.reset)
			if err := v.exchange(); err != nil {
				return err
			}
		}
		return nil
	}))
	change()
	var broken atomic.Int64
	var all sync.WaitGroup
	for _, v := range visits {
		all.Go(func() {
			if v.exchange() != nil {
				broken.Add(1)
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(broken.Load()), "broken/300")
	b.ReportMetric(0, "ns/op") // building the cluster is no figure
}

// newHashed is three nodes that share the VIP by nftables' own recipe for a cluster without a director.
func newHashed(t testing.TB) *cluster {
	t.Helper()
	c := newMachines(t, options{weights: three})
	shared := net.HardwareAddr{3, 0xbf, 192, 0, 2, 80}
	check(t, c.client.Neighbour("eth0", vip4, shared))
	for i, n := range c.nodes {
		check(t, n.host.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "1"))
		check(t, n.host.Addr("lo", netip.PrefixFrom(vip4, 32)))
		hashInto(t, n, 3, i)
	}
	return c
}

// hashInto makes a node take the clients whose hash is one of its own, in one step:
//
//	table netdev lb {
//	  chain ingress {
//	    type filter hook ingress device eth0 priority 0;
//	    ip daddr 192.0.2.80 jhash ip saddr . tcp sport mod 3 seed 0xdeadbeef 0 meta pkttype set host accept
//	    ip daddr 192.0.2.80 drop
//	  }
//	}
func hashInto(t testing.TB, n *node, total int, mine ...int) {
	t.Helper()
	check(t, n.host.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "lb"})
		chain := conn.AddChain(&nftables.Chain{
			Table: table, Name: "ingress", Device: "eth0",
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
		})
		conn.FlushChain(chain)
		for _, slot := range mine {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(toVIP(), takeSlot(total, slot)...)})
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(toVIP(), &expr.Verdict{Kind: expr.VerdictDrop})})
		return conn.Flush()
	}))
}

func toVIP() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: unix.NFT_REG_1},
		same(unix.NFT_REG_1, binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)),
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4, DestRegister: unix.NFT_REG_1},
		same(unix.NFT_REG_1, vip4.AsSlice()),
	}
}

func takeSlot(total, slot int) []expr.Any {
	// registers of 4 bytes: the hash reads two of them as one key
	const source, sourcePort, hash = unix.NFT_REG32_00, unix.NFT_REG32_01, unix.NFT_REG32_02
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4, DestRegister: source},
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2, DestRegister: sourcePort},
		&expr.Hash{
			SourceRegister: source, DestRegister: hash, Length: 8,
			Modulus: uint32(total), Seed: 0xdeadbeef, Type: expr.HashTypeJenkins,
		},
		same(hash, binaryutil.NativeEndian.PutUint32(uint32(slot))),
		&expr.Immediate{Register: unix.NFT_REG_1, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: unix.NFT_REG_1},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func same(register uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}
