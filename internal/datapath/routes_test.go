package datapath_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/nexthop"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A router is a node with two links, whose routes one instance has a summary of. The other one asks the
// kernel about each packet.
type router struct {
	t             *testing.T
	node          *netlab.Host
	f             family
	summed, asked *datapath.Instance
	backends      *net.Interface // towards them
	routing       *datapath.Routing
	hangs         atomic.Bool           // whoever listens to the kernel
	sources       map[netip.Addr]uint16 // ports of flows of full NAT, by client
	stop          func()
}

var gatewayMACs = []net.HardwareAddr{{2, 0, 0, 0, 2, 0}, {2, 0, 0, 0, 2, 1}, {2, 0, 0, 0, 2, 2}}

// gateway is on the link of the clients.
func (r *router) gateway(i int) netip.Addr { return r.f.onLink(0, byte(100+i)) }

func newRouter(t *testing.T, f family) *router {
	t.Helper()
	lab := nettest.New(t)
	r := &router{t: t, node: nettest.Host(t, lab, "node"), f: f, sources: make(map[netip.Addr]uint16)}
	bits := map[family]int{v4: 25, v6: 64}[f]
	for link, name := range []string{"eth0", "eth1"} {
		sw, err := lab.Switch("sw"+name, netlab.SwitchOptions{})
		r.must(err)
		r.must(lab.Connect(r.node, name, sw, netlab.LinkOptions{}))
		r.must(r.node.Addr(name, netip.PrefixFrom(f.onLink(link, 2), bits)))
	}
	r.must(r.node.Forward())
	for i, mac := range gatewayMACs {
		r.must(r.node.Neighbour("eth0", r.gateway(i), mac))
	}
	r.must(r.node.Neighbour("eth0", f.onLink(0, 9), clientMAC))
	r.must(r.node.Route(r.all(), r.gateway(0)))
	r.in(func() (err error) {
		if r.backends, err = net.InterfaceByName("eth1"); err != nil {
			return err
		}
		state := natState(f, &lb.NextHop{Interface: "eth1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 8}, Source: f.onLink(1, 2), MTU: 1500})
		r.addFullNAT(state)
		if r.summed, err = lend(t, state, nil); err != nil {
			return err
		}
		r.routing = r.summed.Routing()
		r.asked, err = lend(t, state, nil)
		return err
	})
	r.establish(r.clients()...)
	r.follow()
	return r
}

// addFullNAT adds a service of which clients have flows, as established says.
func (r *router) addFullNAT(state *lb.State) {
	s := state.Services[0]
	s.Name, s.SourceNAT, s.Ports = "full", true, []lb.PortRange{{First: portRange, Last: portRange}}
	state.Services = append(state.Services, s)
}

// fullSource is the port that the one flow of a client to that service leaves from.
const fullSource = 40000

func (r *router) establish(clients ...netip.Addr) {
	r.t.Helper()
	var flows []datapath.Established
	for i, client := range clients {
		flows = append(flows, datapath.Established{
			Client: netip.AddrPortFrom(client, portClient), Replies: netip.AddrPortFrom(r.f.onLink(1, backendFar), webPort),
			Source: uint16(fullSource + len(r.sources) + i),
		})
	}
	for i, client := range clients {
		r.sources[client] = flows[i].Source
	}
	for _, instance := range []*datapath.Instance{r.summed, r.asked} {
		r.must(instance.Establish("full", netip.AddrPortFrom(r.f.vip(vipNAT), portRange), lb.ProtocolTCP, flows))
	}
}

// follow has the summary follow the kernel until stop is called, or the test ends.
func (r *router) follow() {
	summary := nexthop.NewSummary(slog.New(slog.DiscardHandler), func(routes *lb.Routes) error {
		if r.hangs.Load() {
			return nil
		}
		return r.routing.Give(routes)
	}, func() []netip.Addr { return nil }) // the neighbours here would not answer
	summary.Want(true)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.node.Do(func() error { return summary.Run(ctx) }) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("run: %v", err)
		}
		r.stop = func() {}
	}
	r.t.Cleanup(func() { r.stop() })
}

func (r *router) all() netip.Prefix {
	if r.f == v4 {
		return netip.MustParsePrefix("0.0.0.0/0")
	}
	return netip.MustParsePrefix("::/0")
}

func (r *router) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *router) in(fn func() error) {
	r.t.Helper()
	r.must(r.node.Do(fn))
}

// reply is what a backend sends to a client, with so many bytes behind its headers.
func (r *router) reply(to netip.Addr, payload int) []byte {
	return packettest.Frame(packettest.Ethernet{Dst: r.backends.HardwareAddr, Src: net.HardwareAddr{2, 0, 0, 0, 0, 8}},
		r.f.between(r.f.onLink(1, backendFar), to), packettest.TCP{Src: webPort, Dst: portClient, Flags: packettest.ACK},
		packettest.Raw{Bytes: bytes.Repeat([]byte{'x'}, payload)})
}

// fullReply is what it sends to the VIP, for a client of full NAT.
func (r *router) fullReply(to netip.Addr, payload int) []byte {
	return packettest.Frame(packettest.Ethernet{Dst: r.f.mac(vipNAT), Src: net.HardwareAddr{2, 0, 0, 0, 0, 8}},
		r.f.between(r.f.onLink(1, backendFar), r.f.vip(vipNAT)), packettest.TCP{Src: webPort, Dst: r.sources[to], Flags: packettest.ACK},
		packettest.Raw{Bytes: bytes.Repeat([]byte{'x'}, payload)})
}

// clients are everywhere: behind gateways, on both links, and one is this machine.
func (r *router) clients() []netip.Addr {
	return []netip.Addr{
		r.f.clients(0).Addr().Next(), r.f.clients(1).Addr().Next(),
		r.f.onLink(0, 9), r.f.onLink(0, 10), r.f.onLink(0, 11), r.f.onLink(1, 9), r.f.onLink(1, 2),
	}
}

// compare sends replies to clients, and says where the two do not agree.
func (r *router) compare() error {
	in := r.backends.Index - 1 // where the VIP is
	return r.node.Do(func() error {
		for _, to := range r.clients() {
			for _, payload := range []int{10, 1300, 1400, 1500} {
				if err := r.compareOne(r.reply(to, payload), r.backends.Index); err != nil {
					return fmt.Errorf("to %s, %d bytes: %w", to, payload, err)
				}
				if err := r.compareOne(r.fullReply(to, payload), in); err != nil {
					return fmt.Errorf("full NAT, to %s, %d bytes: %w", to, payload, err)
				}
			}
		}
		return nil
	})
}

func (r *router) compareOne(frame []byte, in int) error {
	want, err := r.asked.Run(frame, in)
	if err != nil {
		return err
	}
	got, err := r.summed.Run(frame, in)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("(-asked +summed):\n%s", diff)
	}
	return nil
}

// agree waits until nothing differs, with a summary that counts or without one.
func (r *router) agree(after string, counts bool) {
	r.t.Helper()
	nettest.Eventually(r.t, time.Minute, func() error {
		err := r.compare()
		if err == nil && r.routing.Counts() != counts {
			err = fmt.Errorf("the summary counts: %t, want %t", !counts, counts)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", after, err)
		}
		return err
	})
}

// leaves says by whom a reply to a client behind a gateway leaves; nil when XDP does not send it.
func (r *router) leaves() (mac net.HardwareAddr) {
	r.t.Helper()
	r.in(func() error {
		out, err := r.summed.Run(r.reply(r.f.clients(0).Addr().Next(), 10), r.backends.Index)
		if err == nil && out.Action == actionRedirect {
			mac = net.HardwareAddr(out.Frame[:6])
		}
		return err
	})
	return mac
}

func (r *router) want(mac net.HardwareAddr) {
	r.t.Helper()
	if got := r.leaves(); !bytes.Equal(got, mac) {
		r.t.Errorf("a reply left by %s, want %s", got, mac)
	}
}

func (r *router) replace(dst netip.Prefix, route netlink.Route) {
	r.t.Helper()
	r.in(func() error {
		route.Dst = &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())}
		return netlink.RouteReplace(&route)
	})
}

// Replies go where the kernel would send them, whatever becomes of its routes.
func TestRepliesGoWhereTheKernelWouldSendThem(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRouter(t, f)
			r.agree("at first", true)
			r.want(gatewayMACs[0])

			r.replace(r.all(), netlink.Route{Gw: r.gateway(1).AsSlice()})
			r.agree("another gateway", true)
			r.want(gatewayMACs[1])

			other := net.HardwareAddr{2, 0, 0, 0, 3, 3}
			r.must(r.node.Neighbour("eth0", r.gateway(1), other))
			r.agree("another MAC of the gateway", true)
			r.want(other)

			r.replace(f.clients(0), netlink.Route{Gw: r.gateway(2).AsSlice()})
			r.agree("a longer prefix", true)
			r.want(gatewayMACs[2])

			r.replace(f.clients(0), netlink.Route{Gw: r.gateway(2).AsSlice(), MTU: 1300})
			r.agree("an MTU of a route", true)
			r.in(func() error { return linkMTU("eth0", 1400) })
			r.agree("an MTU of a link", true)
			r.in(func() error { return linkMTU("eth0", 1500) })

			r.replace(f.clients(0), netlink.Route{Type: unix.RTN_BLACKHOLE})
			r.agree("a black hole", true)
			r.must(r.node.Addr("lo", netip.PrefixFrom(f.clients(1).Addr().Next(), f.onLink(0, 2).BitLen())))
			r.agree("an address of ours", true)
			r.in(func() error {
				return netlink.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: f.clients(0).Addr().AsSlice(), Mask: net.CIDRMask(f.clients(0).Bits(), f.clients(0).Addr().BitLen())}, Type: unix.RTN_BLACKHOLE})
			})

			r.in(func() error {
				return netlink.NeighDel(&netlink.Neigh{LinkIndex: r.backends.Index - 1, IP: r.gateway(1).AsSlice()})
			})
			r.agree("no MAC of the gateway", true)
			r.want(nil)
			r.must(r.node.Neighbour("eth0", r.gateway(1), other))
			r.agree("its MAC again", true)
			r.want(other)
		})
	}
}

func linkMTU(name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(link, mtu)
}

// What a summary cannot say, or nobody watches over, the kernel says.
func TestWithoutASummaryTheKernelIsAsked(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRouter(t, f)
			r.agree("at first", true)
			const table = 100
			r.in(func() error {
				all := &net.IPNet{IP: r.all().Addr().AsSlice(), Mask: net.CIDRMask(0, r.all().Addr().BitLen())}
				if err := netlink.RouteAdd(&netlink.Route{Dst: all, Gw: r.gateway(2).AsSlice(), Table: table}); err != nil {
					return err
				}
				rule := netlink.NewRule()
				rule.Table, rule.Priority, rule.IifName = table, 100, "eth1"
				rule.Family = map[family]int{v4: unix.AF_INET, v6: unix.AF_INET6}[f]
				return netlink.RuleAdd(rule)
			})
			r.agree("a rule", true)
			r.want(gatewayMACs[2])
			r.in(func() error {
				rule := netlink.NewRule()
				rule.Table, rule.Priority, rule.IifName = table, 100, "eth1"
				rule.Family = map[family]int{v4: unix.AF_INET, v6: unix.AF_INET6}[f]
				return netlink.RuleDel(rule)
			})
			r.agree("no rule", true)
			r.want(gatewayMACs[0])

			name := map[family]string{v4: "net.ipv4.conf.eth1.forwarding", v6: "net.ipv6.conf.eth1.forwarding"}[f]
			r.must(r.node.SetSysctl(name, "0"))
			r.agree("no forwarding", true)
			r.want(nil)
			r.must(r.node.SetSysctl(name, "1"))
			r.agree("forwarding", true)
			r.want(gatewayMACs[0])

			// nobody listens any more, and nobody has taken anything back
			r.hangs.Store(true)
			r.replace(f.clients(0), netlink.Route{Gw: r.gateway(2).AsSlice()})
			r.agree("lbd hangs", false)
			r.want(gatewayMACs[2])
			r.hangs.Store(false)
			r.agree("lbd goes on", true)
			r.want(gatewayMACs[2])

			r.stop()
			if r.routing.Counts() {
				t.Error("the summary counts after an orderly end")
			}
			r.want(gatewayMACs[2])
		})
	}
}
