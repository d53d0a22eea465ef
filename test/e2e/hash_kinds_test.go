package e2e

import (
	"fmt"
	"net/netip"
	"testing"
)

// The VIPs that end in 80 pass what no service names, those in 81 have a service for everything, those
// in 82 drop the rest.
const hashVIPs = `
  - address: 192.0.2.80
  - address: '2001:db8::80'
  - address: 192.0.2.81
  - address: '2001:db8::81'
  - {address: 192.0.2.82, other: drop}
  - {address: '2001:db8::82', other: drop}
`

const hashServices = `
  - {name: sticky, vips: [192.0.2.80, '2001:db8::80'], ports: 8001, hash: source}
  - {name: spread, vips: [192.0.2.80, '2001:db8::80'], ports: 8200-8222, hash: source+port}
  - {name: finest, vips: [192.0.2.80, '2001:db8::80'], ports: 8100-8131, hash: source+port+dest-port}
  - {name: nets, vips: [192.0.2.80, '2001:db8::80'], ports: 8002, hash: source-net}
  - {name: small-nets, vips: [192.0.2.80, '2001:db8::80'], ports: 8003, hash: source-net, source-net: {ipv4: 28, ipv6: 120}}
  - {name: datagrams, vips: [192.0.2.80, '2001:db8::80'], protocol: udp, ports: all}
  - {name: anything, vips: [192.0.2.81, '2001:db8::81'], protocol: any}
  - {name: only, vips: [192.0.2.82, '2001:db8::82'], ports: 8001}
`

var (
	passing  = []netip.Addr{vip4, vip6}
	anything = []netip.Addr{netip.MustParseAddr("192.0.2.81"), netip.MustParseAddr("2001:db8::81")}
	dropping = []netip.Addr{netip.MustParseAddr("192.0.2.82"), netip.MustParseAddr("2001:db8::82")}
)

// A crowd is a cluster with clients in many networks.
type crowd struct {
	*cluster
	asked map[string]int // times that a test, or a part of it, asked lbctl
	// pairs are two clients each of a network, by family: of a /28 or a /64.
	pairs map[bool][][2]netip.Addr
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{
		cluster: newCluster(t, options{attach: "native", weights: []int{100, 100, 100}, vips: hashVIPs, services: hashServices}),
		asked:   make(map[string]int),
		pairs:   make(map[bool][][2]netip.Addr),
	}
	c.reach(t, "198.51.100.0/24", "2001:db8:1::/48")
	for i := range 12 {
		c.pairs[true] = append(c.pairs[true], c.pair(t, fmt.Sprintf("198.51.100.%d", 16*i+1)))
		c.pairs[false] = append(c.pairs[false], c.pair(t, fmt.Sprintf("2001:db8:1:%x::1", i)))
	}
	return c
}

// reach gives the nodes a way back to networks of clients.
func (c *crowd) reach(t *testing.T, networks ...string) {
	t.Helper()
	for _, network := range networks {
		to := netip.MustParsePrefix(network)
		for _, n := range c.nodes {
			check(t, n.host.Route(to, clientAddr(to.Addr())))
		}
	}
}

// pair makes an address and the next one addresses of the client.
func (c *crowd) pair(t *testing.T, first string) [2]netip.Addr {
	t.Helper()
	pair := [2]netip.Addr{netip.MustParseAddr(first), netip.MustParseAddr(first).Next()}
	for _, addr := range pair {
		check(t, c.client.Addr("lo", netip.PrefixFrom(addr, addr.BitLen())))
	}
	return pair
}

// enough is how often a part of a test asks lbctl. Each time the kernel verifies the program anew.
const enough = 3

// expect returns who answers. Each of the first times it must be who the lbctl of another node says
// that it is, and for a service's sake.
func (c *crowd) expect(t *testing.T, service, network string, from, to netip.AddrPort) string {
	t.Helper()
	name := c.answerer(t, network, from, to)
	if c.asked[t.Name()] == enough {
		return name
	}
	asked := c.nodes[c.asked[t.Name()]%len(c.nodes)]
	c.asked[t.Name()]++
	line := fmt.Sprintf("owner %s %s --protocol %s -o json", from, to, network)
	if o := parse[ownerAnswer](t, asked.lbctl(t, line)); o.Node != name || o.Service != service {
		t.Errorf("%s from %s to %s: answered by %s; lbctl owner says %s for service %q, want service %q",
			network, from, to, name, o.Node, o.Service, service)
	}
	return name
}

// nodes is a set of names.
type nodes map[string]bool

func (c *crowd) wantAll(t *testing.T, what string, got nodes) {
	t.Helper()
	if len(got) != len(c.nodes) {
		t.Errorf("%s: answered by %v, want all nodes", what, got)
	}
}

func wantOne(t *testing.T, what string, got nodes) {
	t.Helper()
	if len(got) != 1 {
		t.Errorf("%s: answered by %v, want one node", what, got)
	}
}

// label names a service in the form that lbctl shows.
func label(service string, vip netip.Addr) string { return service + " " + vip.String() }

func TestEveryKindOfHashChoosesTheNodeThatLbctlNames(t *testing.T) {
	c := newCrowd(t)
	for _, vip := range passing {
		pairs := c.pairs[vip.Is4()]
		for _, n := range c.nodes {
			n.serveAt(vip, 8001, 8002, 8003, 8200, 8222)
			for port := range uint16(32) {
				n.serveAt(vip, 8100+port)
			}
		}
		t.Run("source/"+family(vip), func(t *testing.T) {
			all := nodes{}
			for _, pair := range pairs {
				name := c.expect(t, label("sticky", vip), "tcp", at(pair[0], 20000), at(vip, 8001))
				one := nodes{name: true}
				for i := range 5 {
					one[c.answerer(t, "tcp", at(pair[0], 20001+i), at(vip, 8001))] = true
				}
				wantOne(t, "client "+pair[0].String(), one)
				all[name] = true
			}
			c.wantAll(t, "12 clients", all)
		})
		t.Run("source+port/"+family(vip), func(t *testing.T) {
			all := nodes{}
			for i := range 20 {
				from := at(pairs[0][0], 21000+i)
				name := c.expect(t, label("spread", vip), "tcp", from, at(vip, 8200))
				wantOne(t, from.String()+" to two ports", nodes{name: true, c.answerer(t, "tcp", from, at(vip, 8222)): true})
				all[name] = true
			}
			c.wantAll(t, "20 source ports", all)
		})
		t.Run("source+port+dest-port/"+family(vip), func(t *testing.T) {
			all := nodes{}
			for i := range 32 {
				all[c.expect(t, label("finest", vip), "tcp", at(pairs[0][0], 22000), at(vip, 8100+i))] = true
			}
			c.wantAll(t, "32 destination ports", all)
		})
		t.Run("source-net/"+family(vip), func(t *testing.T) {
			all, wide := nodes{}, nodes{}
			for _, pair := range pairs {
				name := c.expect(t, label("small-nets", vip), "tcp", at(pair[0], 23000), at(vip, 8003))
				wantOne(t, "the network of "+pair[0].String(), nodes{name: true, c.answerer(t, "tcp", at(pair[1], 23001), at(vip, 8003)): true})
				all[name] = true
				name = c.expect(t, label("nets", vip), "tcp", at(pair[0], 23000), at(vip, 8002))
				wantOne(t, "the network of "+pair[0].String(), nodes{name: true, c.answerer(t, "tcp", at(pair[1], 23001), at(vip, 8002)): true})
				wide[name] = true
			}
			c.wantAll(t, "12 small networks", all)
			if vip.Is4() {
				wantOne(t, "24 clients of a /24", wide)
			} else {
				c.wantAll(t, "12 networks of /64", wide)
			}
		})
	}
}
