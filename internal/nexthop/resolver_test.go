package nexthop_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/nexthop"
)

// What the lab consists of: the director d and the backend near on one switch, with the router r and
// spare, and the backend far behind r.
var (
	own4, own6    = addr("192.0.2.1"), addr("2001:db8::1")
	near4, near6  = addr("192.0.2.7"), addr("2001:db8::7")
	gate4, gate6  = addr("192.0.2.254"), addr("2001:db8::fe")
	spare4        = addr("192.0.2.253")
	far4, far6    = addr("198.51.100.7"), addr("2001:db8:f::7")
	absent        = addr("192.0.2.99")
	nearMAC       = net.HardwareAddr{2, 0, 0, 0, 0, 7}
	gateMAC       = net.HardwareAddr{2, 0, 0, 0, 0, 0xfe}
	spareMAC      = net.HardwareAddr{2, 0, 0, 0, 0, 0xfd}
	replacedMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 8}
	addr          = netip.MustParseAddr
	prefix        = netip.MustParsePrefix
	compareAddr   = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	neverAnswered = nexthop.Way{Problem: "no answer to ARP on eth0"}
)

// A lab is a network in which d resolves.
type lab struct {
	t          *testing.T
	lab        *netlab.Lab
	d, r, near *netlab.Host
	sw         *netlab.Switch
	resolver   *nexthop.Resolver
	changed    chan struct{}
	stop       func()
}

// newLab builds the network and starts a resolver in d.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, lab: nettest.New(t), changed: make(chan struct{}, 1)}
	var err error
	l.sw, err = l.lab.Switch("sw", netlab.SwitchOptions{})
	l.must(err)
	behind, err := l.lab.Switch("behind", netlab.SwitchOptions{})
	l.must(err)
	l.d = l.host("d", l.sw, nil, "192.0.2.1/24", "2001:db8::1/64")
	l.near = l.host("near", l.sw, nearMAC, "192.0.2.7/24", "2001:db8::7/64")
	l.r = l.host("r", l.sw, gateMAC, "192.0.2.254/24", "2001:db8::fe/64")
	l.must(l.lab.Connect(l.r, "eth1", behind, netlab.LinkOptions{}))
	l.must(l.r.Addr("eth1", prefix("198.51.100.254/24")))
	l.must(l.r.Forward())
	l.must(l.d.Route(prefix("198.51.100.0/24"), gate4))
	l.must(l.d.Route(prefix("2001:db8:f::/64"), gate6))
	// A neighbour that does not answer three questions is known as such after 150 ms.
	for _, family := range []string{"ipv4", "ipv6"} {
		l.must(l.d.SetSysctl("net."+family+".neigh.eth0.retrans_time_ms", "50"))
	}
	l.start()
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) host(name string, sw *netlab.Switch, mac net.HardwareAddr, addrs ...string) *netlab.Host {
	l.t.Helper()
	h := nettest.Host(l.t, l.lab, name)
	l.must(l.lab.Connect(h, "eth0", sw, netlab.LinkOptions{MAC: mac}))
	for _, a := range addrs {
		l.must(h.Addr("eth0", prefix(a)))
	}
	return h
}

// start starts the resolver, which stop or the end of the test ends.
func (l *lab) start() {
	l.resolver = nexthop.New(slog.New(slog.DiscardHandler), func() {
		select {
		case l.changed <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.d.Do(func() error { return l.resolver.Run(ctx) }) }()
	stopped := false
	l.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("run: %v", err)
		}
	}
	l.t.Cleanup(l.stop)
}

// within is how long what the tests wait for may take.
const within = 5 * time.Second

// want waits until the ways are these, told by changed alone.
func (l *lab) want(want map[netip.Addr]nexthop.Way) {
	l.t.Helper()
	l.wantWithin(within, want)
}

func (l *lab) wantWithin(within time.Duration, want map[netip.Addr]nexthop.Way) {
	l.t.Helper()
	timeout := time.After(within)
	for {
		diff := cmp.Diff(want, l.resolver.Ways(), compareAddr)
		if diff == "" {
			return
		}
		select {
		case <-l.changed:
		case <-timeout:
			l.t.Fatalf("ways after %s (-want +got):\n%s", within, diff)
		}
	}
}

// hop is the way to what is reached by eth0.
func hop(mac net.HardwareAddr, source netip.Addr) nexthop.Way {
	return nexthop.Way{Hop: &lb.NextHop{Interface: "eth0", MAC: mac, Source: source, MTU: 1500}}
}

func via(gateway netip.Addr, w nexthop.Way) nexthop.Way {
	w.Gateway = gateway
	return w
}

// entry returns the kernel's entry in d.
func (l *lab) entry(of netip.Addr) (found netlink.Neigh, err error) {
	err = l.d.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		entries, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for i := range entries {
			if entries[i].IP.Equal(of.AsSlice()) {
				found = entries[i]
				return nil
			}
		}
		return errors.New("no entry")
	})
	return found, err
}

func TestAWayIsTheInterfaceTheMACAndTheOwnAddress(t *testing.T) {
	l := newLab(t)
	l.resolver.Set([]netip.Addr{near4, near6, far4, far6, near4})
	l.want(map[netip.Addr]nexthop.Way{
		near4: hop(nearMAC, own4),
		near6: hop(nearMAC, own6),
		far4:  via(gate4, hop(gateMAC, own4)),
		far6:  via(gate6, hop(gateMAC, own6)),
	})
	l.resolver.Set([]netip.Addr{near6})
	l.want(map[netip.Addr]nexthop.Way{near6: hop(nearMAC, own6)})
}

func TestAGatewayMayBeLinkLocalOrOfTheOtherFamily(t *testing.T) {
	l := newLab(t)
	local := addr("fe80::ff:fe00:fe") // of the router's MAC, RFC 4291 appendix A
	l.must(l.d.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		err = netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet("2001:db8:f::/64"), Gw: local.AsSlice()})
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: ipNet("198.51.100.0/24"), Via: &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: local.AsSlice()},
		})
	}))
	l.resolver.Set([]netip.Addr{far4, far6})
	l.want(map[netip.Addr]nexthop.Way{
		far4: via(local, hop(gateMAC, own4)), // RFC 5549
		far6: via(local, hop(gateMAC, own6)),
	})
}

func TestWhatCannotBeReachedSaysWhy(t *testing.T) {
	l := newLab(t)
	l.must(l.d.Do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet("203.0.113.0/24"), Type: 7}) // RTN_UNREACHABLE
	}))
	l.resolver.Set([]netip.Addr{
		absent, addr("2001:db8::99"), own4, addr("192.0.2.255"), addr("203.0.113.7"), addr("10.0.0.1"), addr("2001:db8:99::1"),
	})
	l.want(map[netip.Addr]nexthop.Way{
		absent:                 neverAnswered,
		addr("2001:db8::99"):   {Problem: "no answer to neighbour solicitations on eth0"},
		own4:                   {Problem: "192.0.2.1 is an address of this machine"},
		addr("192.0.2.255"):    {Problem: "192.0.2.255 is no address of one machine"},
		addr("203.0.113.7"):    {Problem: "no route to 203.0.113.7: no route to host"},
		addr("10.0.0.1"):       {Problem: "no route to 10.0.0.1: network is unreachable"},
		addr("2001:db8:99::1"): {Problem: "no route to 2001:db8:99::1: network is unreachable"},
	})
}

func TestASilentGatewayIsNamed(t *testing.T) {
	l := newLab(t)
	l.must(l.d.Route(prefix("203.0.113.0/24"), absent))
	l.resolver.Set([]netip.Addr{addr("203.0.113.7")})
	l.want(map[netip.Addr]nexthop.Way{
		addr("203.0.113.7"): {Gateway: absent, Problem: "gateway 192.0.2.99 on eth0 does not answer ARP"},
	})
}

func TestAnUnansweredQuestionIsPendingFirst(t *testing.T) {
	l := newLab(t)
	l.must(l.d.SetSysctl("net.ipv4.neigh.eth0.retrans_time_ms", "1000"))
	l.resolver.Set([]netip.Addr{absent})
	l.want(map[netip.Addr]nexthop.Way{absent: {Pending: true}})
	l.want(map[netip.Addr]nexthop.Way{absent: neverAnswered})
}

func TestABackendThatComesLaterIsFound(t *testing.T) {
	l := newLab(t)
	l.resolver.Set([]netip.Addr{absent})
	l.want(map[netip.Addr]nexthop.Way{absent: neverAnswered})
	l.must(l.near.Addr("eth0", netip.PrefixFrom(absent, 24)))
	began := time.Now()
	l.want(map[netip.Addr]nexthop.Way{absent: hop(nearMAC, own4)})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("found after %s", took)
	}
}

func TestABackendWithANewMACIsFollowed(t *testing.T) {
	l := newLab(t)
	l.resolver.Set([]netip.Addr{near4, near6})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4), near6: hop(nearMAC, own6)})
	l.must(l.near.SetSysctl("net.ipv4.conf.eth0.arp_notify", "1"))
	l.must(l.near.SetSysctl("net.ipv6.conf.eth0.ndisc_notify", "1"))
	l.must(l.near.SetMAC("eth0", replacedMAC))
	l.want(map[netip.Addr]nexthop.Way{near4: hop(replacedMAC, own4), near6: hop(replacedMAC, own6)})
}

func TestABackendThatGoesSilentIsNoticedWithoutTraffic(t *testing.T) {
	l := newLab(t)
	for _, set := range []string{"base_reachable_time_ms", "delay_first_probe_time"} {
		value := map[string]string{"base_reachable_time_ms": "200", "delay_first_probe_time": "1"}[set]
		l.must(l.d.SetSysctl("net.ipv4.neigh.eth0."+set, value))
	}
	l.resolver.Set([]netip.Addr{near4})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
	l.must(l.near.Down("eth0"))
	began := time.Now()
	l.wantWithin(15*time.Second, map[netip.Addr]nexthop.Way{near4: neverAnswered})
	t.Logf("noticed after %s", time.Since(began).Round(100*time.Millisecond))
}

func TestAnotherRouteIsFollowed(t *testing.T) {
	l := newLab(t)
	l.host("spare", l.sw, spareMAC, "192.0.2.253/24")
	l.resolver.Set([]netip.Addr{far4})
	l.want(map[netip.Addr]nexthop.Way{far4: via(gate4, hop(gateMAC, own4))})

	l.must(l.d.Do(func() error {
		return netlink.RouteReplace(&netlink.Route{Dst: ipNet("198.51.100.0/24"), Gw: spare4.AsSlice(), MTU: 1400})
	}))
	changed := via(spare4, hop(spareMAC, own4))
	changed.Hop.MTU = 1400
	l.want(map[netip.Addr]nexthop.Way{far4: changed})

	l.must(l.d.Do(func() error {
		return netlink.RouteDel(&netlink.Route{Dst: ipNet("198.51.100.0/24")})
	}))
	l.want(map[netip.Addr]nexthop.Way{far4: {Problem: "no route to 198.51.100.7: network is unreachable"}})
}

func TestAnInterfaceThatGoesAndComesIsFollowed(t *testing.T) {
	l := newLab(t)
	l.resolver.Set([]netip.Addr{near4})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
	l.must(l.sw.Host.Down("d-eth0")) // pulls the cable
	l.want(map[netip.Addr]nexthop.Way{near4: {Problem: "interface eth0 has no carrier"}})
	l.must(l.sw.Host.Up("d-eth0"))
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
	l.must(l.d.Down("eth0"))
	l.want(map[netip.Addr]nexthop.Way{near4: {Problem: "no route to 192.0.2.7: network is unreachable"}})
	l.must(l.d.Up("eth0"))
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
}

func TestAFlushedEntryIsAskedForAgainAndKeptMeanwhile(t *testing.T) {
	l := newLab(t)
	l.resolver.Set([]netip.Addr{near4})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
	e, err := l.entry(near4)
	l.must(err)
	l.must(l.d.Do(func() error { return netlink.NeighDel(&e) }))
	nettest.Eventually(t, within, func() error {
		if hop := l.resolver.Ways()[near4].Hop; hop == nil {
			t.Fatal("the hop was forgotten")
		}
		e, err := l.entry(near4)
		if err == nil && (e.State&netlink.NUD_REACHABLE == 0 || e.FlagsExt&netlink.NTF_EXT_MANAGED == 0) {
			err = fmt.Errorf("state %#x, flags %#x", e.State, e.FlagsExt)
		}
		return err
	})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
}

func TestTheKernelKeepsEntriesWhileTheyAreWanted(t *testing.T) {
	l := newLab(t)
	managed := func(want bool) {
		t.Helper()
		nettest.Eventually(t, within, func() error {
			e, err := l.entry(near4)
			if err == nil && (e.FlagsExt&netlink.NTF_EXT_MANAGED != 0) != want {
				err = fmt.Errorf("flags %#x, want managed %t", e.FlagsExt, want)
			}
			return err
		})
	}
	l.resolver.Set([]netip.Addr{near4})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4)})
	managed(true)
	l.resolver.Set(nil)
	l.want(map[netip.Addr]nexthop.Way{})
	managed(false)

	l.resolver.Set([]netip.Addr{near4})
	managed(true)
	l.stop()
	managed(false)
}

func TestAnEntryMadeByHandIsUsedAndLeftAlone(t *testing.T) {
	l := newLab(t)
	l.must(l.d.Neighbour("eth0", absent, replacedMAC))
	before, err := l.entry(absent)
	l.must(err)
	l.resolver.Set([]netip.Addr{absent})
	l.want(map[netip.Addr]nexthop.Way{absent: hop(replacedMAC, own4)})
	l.stop()
	after, err := l.entry(absent)
	l.must(err)
	if after.State != netlink.NUD_PERMANENT || before.State != after.State || before.FlagsExt != after.FlagsExt {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestAStormOfNeighboursHidesNothing(t *testing.T) {
	l := newLab(t)
	l.resolver.Set([]netip.Addr{near4, absent})
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4), absent: neverAnswered})
	l.must(l.d.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for i := range 20000 {
			other := &netlink.Neigh{
				LinkIndex: link.Attrs().Index, State: netlink.NUD_STALE, IP: net.IPv4(192, 0, 2, byte(128+i%64)),
				HardwareAddr: net.HardwareAddr{2, 1, 0, 0, byte(i >> 8), byte(i)},
			}
			if err := netlink.NeighSet(other); err != nil {
				return err
			}
		}
		return nil
	}))
	l.must(l.near.Addr("eth0", netip.PrefixFrom(absent, 24)))
	l.want(map[netip.Addr]nexthop.Way{near4: hop(nearMAC, own4), absent: hop(nearMAC, own4)})
}

func TestAThousandBackendsAreResolvedAtOnce(t *testing.T) {
	l := newLab(t)
	want := make(map[netip.Addr]nexthop.Way)
	var all []netip.Addr
	l.must(l.d.Addr("eth0", prefix("10.1.0.1/16")))
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(1 + i/250), byte(1 + i%250)})
		all = append(all, a)
		l.must(l.near.Addr("eth0", netip.PrefixFrom(a, 16)))
		want[a] = hop(nearMAC, addr("10.1.0.1"))
	}
	l.must(l.d.SetSysctl("net.ipv4.neigh.eth0.retrans_time_ms", "1000"))
	began := time.Now()
	l.resolver.Set(all)
	l.wantWithin(10*time.Second, want) // a fifth of a second, where nothing else runs
	t.Logf("1000 backends in %s", time.Since(began).Round(time.Millisecond))
}

func ipNet(s string) *net.IPNet {
	p := prefix(s)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
