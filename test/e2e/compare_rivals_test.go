package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

// comparedBackends are behind each director.
const comparedBackends = 3

// A way is one director, or none, between a client and backends: one switch, and the same backends.
type way struct {
	name   string
	client *netlab.Host
	to     []netip.AddrPort
	pids   []int // of the director and the servers
}

// The rivals that are compared. Each has a lab of its own.
var rivals = []struct {
	name string
	make func(t testing.TB) way
}{
	{"direct", newDirectWay},
	{"lbctl-dr", func(t testing.TB) way { return newOurWay(t, "dr") }},
	{"lbctl-nat", func(t testing.TB) way { return newOurWay(t, "nat") }},
	{"nft-dnat", newNftWay},
	{"haproxy", newHAProxyWay},
}

// newDirectWay has no director: what the rest costs.
func newDirectWay(t testing.TB) way {
	t.Helper()
	var pids []int
	c := newMachines(t, options{weights: []int{100}, beside: func(c *cluster) { pids = serveBehind(t, c, "") }})
	w := way{client: c.client, pids: pids}
	for i := range comparedBackends {
		w.to = append(w.to, netip.AddrPortFrom(comparedBackend(i), port))
	}
	return w
}

// newOurWay has lbd on the director. Its packets come to its own MAC, as with the others.
func newOurWay(t testing.TB, forward string) way {
	t.Helper()
	services := fmt.Sprintf("\n  - {name: web, vips: [%s], ports: [%d], forward: %s, backends: [", vip4, port, forward)
	for i := range comparedBackends {
		services += fmt.Sprintf("{name: b%d, address: %s}, ", i+1, comparedBackend(i))
	}
	var pids []int
	c := newCluster(t, options{
		attach: "native", weights: []int{100}, vips: "\n  - {address: 192.0.2.80, announce: none}\n",
		services: services + "]}\n",
		beside: func(c *cluster) {
			pids = serveBehind(t, c, forward)
			if forward == "nat" {
				check(t, c.nodes[0].host.Forward())
			}
		},
	})
	return toDirector(t, c, append(pids, c.nodes[0].cmd.Process.Pid))
}

// newNftWay is the recipe of nftables' wiki:
//
//	table ip lb {
//	  chain prerouting {
//	    type nat hook prerouting priority dstnat;
//	    ip daddr 192.0.2.80 dnat to jhash ip saddr . tcp sport mod 3 map { 0: 192.0.2.101, ... }
//	  }
//	}
func newNftWay(t testing.TB) way {
	t.Helper()
	var pids []int
	c := newMachines(t, options{weights: []int{100}, beside: func(c *cluster) { pids = serveBehind(t, c, "nat") }})
	director := c.nodes[0].host
	check(t, director.Forward())
	check(t, director.SetSysctl("net.ipv4.conf.all.send_redirects", "0"))
	check(t, director.SetSysctl("net.ipv4.conf.eth0.send_redirects", "0"))
	check(t, director.Addr("eth0", netip.PrefixFrom(vip4, 32)))
	check(t, director.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "lb"})
		chain := conn.AddChain(&nftables.Chain{
			Table: table, Name: "prerouting", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		backends := &nftables.Set{
			Table: table, Anonymous: true, Constant: true, IsMap: true,
			KeyType: nftables.TypeInteger, DataType: nftables.TypeIPAddr,
		}
		var elements []nftables.SetElement
		for i := range comparedBackends {
			elements = append(elements, nftables.SetElement{
				Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: comparedBackend(i).AsSlice(),
			})
		}
		if err := conn.AddSet(backends, elements); err != nil {
			return err
		}
		const source, sourcePort, hash = unix.NFT_REG32_00, unix.NFT_REG32_01, unix.NFT_REG32_02
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(toVIP(),
			&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4, DestRegister: source},
			&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2, DestRegister: sourcePort},
			&expr.Hash{
				SourceRegister: source, DestRegister: hash, Length: 8,
				Modulus: comparedBackends, Seed: 0xdeadbeef, Type: expr.HashTypeJenkins,
			},
			&expr.Lookup{SourceRegister: hash, DestRegister: unix.NFT_REG_4, IsDestRegSet: true, SetName: backends.Name, SetID: backends.ID},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: unix.NFT_REG_4},
		)})
		return conn.Flush()
	}))
	return toDirector(t, c, pids)
}

// newHAProxyWay has HAProxy in TCP mode on the director, with as many threads as processors.
func newHAProxyWay(t testing.TB) way {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatalf("%v: tools/install-haproxy.sh, which make test runs, installs it", err)
	}
	var pids []int
	c := newMachines(t, options{weights: []int{100}, beside: func(c *cluster) { pids = serveBehind(t, c, "") }})
	director := c.nodes[0].host
	check(t, director.Addr("eth0", netip.PrefixFrom(vip4, 32)))
	// Each of its connections takes a port, which by default runs out: what its manual advises.
	check(t, director.SetSysctl("net.ipv4.ip_local_port_range", "1024 65023"))
	check(t, director.SetSysctl("net.ipv4.tcp_tw_reuse", "1"))
	config := fmt.Sprintf(`
global
  maxconn 4000
defaults
  mode tcp
  timeout connect 20s
  timeout client 1m
  timeout server 1m
listen web
  bind %s:%d
  balance roundrobin
`, vip4, port)
	for i := range comparedBackends {
		config += fmt.Sprintf("  server b%d %s:%d\n", i+1, comparedBackend(i), port)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	check(t, os.WriteFile(file, []byte(config), 0o600))
	wrote := &logs{}
	cmd := director.Command(context.Background(), program, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = wrote, wrote
	cmd.SysProcAttr.Setsid = true
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy wrote:\n%s", wrote)
		}
	})
	return toDirector(t, c, append(pids, cmd.Process.Pid))
}

// serveBehind puts servers on the switch, and returns their processes. With dr they hold the VIP, with nat the way to the client
// is the director.
func serveBehind(t testing.TB, c *cluster, forward string) (pids []int) {
	t.Helper()
	for i := range comparedBackends {
		b := &node{t: t, name: fmt.Sprintf("b%d", i+1), host: nettest.Host(t, c.lab, fmt.Sprintf("b%d", i+1))}
		check(t, c.lab.Connect(b.host, "eth0", c.sw, netlab.LinkOptions{}))
		check(t, b.host.Addr("eth0", netip.PrefixFrom(comparedBackend(i), 24)))
		switch forward {
		case "dr":
			check(t, b.host.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "1"))
			check(t, b.host.SetSysctl("net.ipv4.conf.eth0.arp_announce", "2"))
			check(t, b.host.Addr("lo", netip.PrefixFrom(vip4, 32)))
		case "nat":
			client := clientAddr(vip4)
			check(t, b.host.Route(netip.PrefixFrom(client, client.BitLen()), netip.MustParseAddr("192.0.2.11")))
		}
		server := startSide(t, b.host, "server", serverOptions{Name: b.name, Port: port})
		pids = append(pids, server.cmd.Process.Pid)
	}
	return pids
}

func comparedBackend(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(101 + i)}) }

// toDirector is done when every backend answered the client.
func toDirector(t testing.TB, c *cluster, pids []int) way {
	t.Helper()
	mac, err := c.nodes[0].host.MAC("eth0")
	check(t, err)
	check(t, c.client.Neighbour("eth0", vip4, mac))
	answered := make(map[string]bool)
	nettest.Eventually(t, time.Minute, func() error {
		time.Sleep(20 * time.Millisecond)
		name, err := answerOf(c.client)
		if err != nil {
			return err
		}
		if answered[name] = true; len(answered) < comparedBackends {
			return fmt.Errorf("only %v answered", answered)
		}
		return nil
	})
	return way{client: c.client, to: []netip.AddrPort{netip.AddrPortFrom(vip4, port)}, pids: pids}
}

func answerOf(client *netlab.Host) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := client.Dial(ctx, "tcp", net.JoinHostPort(vip4.String(), fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	v := newVisit(conn)
	defer v.reset()
	err = v.exchange()
	return v.node, err
}
