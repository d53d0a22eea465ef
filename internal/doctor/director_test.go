package doctor_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/doctor"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netlab"
	"github.com/lbctl/lbctl/internal/nettest"
)

func netlabNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// A directorLab is a director, a backend on its link and a way to others.
type directorLab struct {
	director, backend *netlab.Host
}

func newDirector(t *testing.T) *directorLab {
	t.Helper()
	lab := nettest.New(t)
	sw, err := lab.Switch("sw", netlab.SwitchOptions{})
	must(t, err)
	l := &directorLab{nettest.Host(t, lab, "director"), nettest.Host(t, lab, "backend")}
	for h, number := range map[*netlab.Host]int{l.director: 11, l.backend: 21} {
		must(t,
			lab.Connect(h, "eth0", sw, netlab.LinkOptions{}),
			h.Addr("eth0", prefix(fmt.Sprintf("192.0.2.%d/24", number))),
			h.Addr("eth0", prefix(fmt.Sprintf("2001:db8::%d/64", number))),
		)
	}
	must(t,
		l.director.Route(prefix("203.0.113.0/24"), netip.MustParseAddr("192.0.2.21")),
		l.director.Route(prefix("2001:db8:1::/64"), netip.MustParseAddr("2001:db8::21")))
	return l
}

func (l *directorLab) wrong(t *testing.T, d doctor.Director) (lines []string) {
	t.Helper()
	var findings []doctor.Finding
	must(t, l.director.Do(func() (err error) {
		findings, err = d.Examine(t.Context())
		return err
	}))
	for _, f := range findings {
		if !f.OK {
			lines = append(lines, fmt.Sprintf("%s %s: %s | %s", f.Check, f.Subject, f.Found, strings.Join(f.Fix, " | ")))
		}
	}
	return lines
}

func TestEachMistakeOnTheWayToABackendIsFound(t *testing.T) {
	target := func(method lb.Forward, addr string) doctor.Target {
		return doctor.Target{Service: "web", Name: "b1", Addr: netip.MustParseAddr(addr), Method: method}
	}
	with := func(t doctor.Target, change func(*doctor.Target)) doctor.Target {
		change(&t)
		return t
	}
	const near, beyond4, beyond6 = "192.0.2.21", "203.0.113.21", "2001:db8:1::21"
	for _, test := range []struct {
		name   string
		target doctor.Target
		mtu    int // of the director's interface
		want   string
	}{
		{"dr on the link", target(lb.ForwardDR, near), 1500, ""},
		{
			"dr beyond a router", target(lb.ForwardDR, beyond4), 1500,
			"route web/b1: 203.0.113.21 is behind the router 192.0.2.21, which would send a VIP's packets back: dr is for one link" +
				" | forward: tunnel, or an address of the backend on the link of eth0",
		},
		{
			"no way", target(lb.ForwardTunnel, "198.51.100.21"), 1500,
			"route web/b1: there is no way to 198.51.100.21: network is unreachable | add a route to 198.51.100.21",
		},
		{
			"the director itself", target(lb.ForwardDR, "192.0.2.11"), 1500,
			"route web/b1: 192.0.2.11 is this machine itself | give the backend's own address",
		},
		{
			"a tunnel that is too small", target(lb.ForwardTunnel, beyond4), 1500,
			"mtu web/b1: the tunnel over eth0 carries packets of 1480 bytes: larger ones of clients are refused, and those who do not hear that hang" +
				" | mss: 1440 in service web | ip link set eth0 mtu 1520, on all machines between here and there",
		},
		{
			"GUE in IPv6 that is too small for IPv6", with(target(lb.ForwardTunnel, beyond6), func(t *doctor.Target) { t.Encap, t.V6 = lb.EncapGUE, true }), 1500,
			"mtu web/b1: the tunnel over eth0 carries packets of 1448 bytes: larger ones of clients are refused, and those who do not hear that hang" +
				" | mss: 1388 in service web | ip link set eth0 mtu 1552, on all machines between here and there",
		},
		{"a tunnel with room", target(lb.ForwardTunnel, beyond4), 1520, ""},
		{"segments that fit", with(target(lb.ForwardTunnel, beyond4), func(t *doctor.Target) { t.MSS = 1440 }), 1500, ""},
		{
			"segments that do not", with(target(lb.ForwardTunnel, beyond4), func(t *doctor.Target) { t.MSS = 1441 }), 1500,
			"mtu web/b1: segments of 1441 bytes are packets of 1481, and the tunnel over eth0 carries 1480" +
				" | mss: 1440 in service web | ip link set eth0 mtu 1520, on all machines between here and there",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newDirector(t)
			must(t, onLink(l.director, func(link netlink.Link) error { return netlink.LinkSetMTU(link, test.mtu) }, "eth0"))
			var want []string
			if test.want != "" {
				want = []string{test.want}
			}
			got := l.wrong(t, doctor.Director{Backends: []doctor.Target{test.target}})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestADirectorOfNATMustRoute(t *testing.T) {
	l := newDirector(t)
	d := doctor.Director{Backends: []doctor.Target{
		{Service: "web", Name: "b4", Addr: netip.MustParseAddr("192.0.2.21"), Method: lb.ForwardNAT},
		{Service: "web6", Name: "b6", Addr: netip.MustParseAddr("2001:db8::21"), Method: lb.ForwardNAT},
	}}
	const off = ": it is off: answers of backends, and what they ask for, end here | sysctl -w net/"
	want := []string{"routing IPv4" + off + "ipv4/ip_forward=1", "routing IPv6" + off + "ipv6/conf/all/forwarding=1"}
	if diff := cmp.Diff(want, l.wrong(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	must(t, l.director.Forward())
	if lines := l.wrong(t, d); lines != nil {
		t.Errorf("a router: %q", lines)
	}
}

func TestRedirectsOfADirectorBetweenBackendsAndTheRouterAreFound(t *testing.T) {
	l := newDirector(t)
	must(t, l.director.Forward())
	d := doctor.Director{Backends: []doctor.Target{{Service: "web", Name: "b4", Addr: netip.MustParseAddr("192.0.2.21"), Method: lb.ForwardNAT}}}
	if lines := l.wrong(t, d); lines != nil {
		t.Errorf("no router: %q", lines)
	}
	must(t, l.director.Route(prefix("0.0.0.0/0"), netip.MustParseAddr("192.0.2.1")))
	want := []string{"redirects eth0: backends are told of the router by redirects, and answer clients through it: from an address that these do not know" +
		" | sysctl -w net/ipv4/conf/all/send_redirects=0 | sysctl -w net/ipv4/conf/eth0/send_redirects=0"}
	if diff := cmp.Diff(want, l.wrong(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range []string{"all", "eth0"} {
		must(t, l.director.SetSysctl("net.ipv4.conf."+name+".send_redirects", "0"))
	}
	if lines := l.wrong(t, d); lines != nil {
		t.Errorf("after the fix: %q", lines)
	}
}

func TestMasqueradingThatCannotWorkIsFound(t *testing.T) {
	l := newDirector(t)
	must(t, l.director.Forward())
	four, six := []netip.Prefix{prefix("10.0.0.0/24")}, []netip.Prefix{prefix("2001:db8:2::/64")}
	d := doctor.Director{
		Backends: []doctor.Target{
			{Service: "web", Name: "b1", Addr: netip.MustParseAddr("192.0.2.21"), Method: lb.ForwardNAT},
			{Service: "all", Name: "b1", Addr: netip.MustParseAddr("192.0.2.21"), Method: lb.ForwardNAT, Protocol: lb.ProtocolUDP},
		},
		Masquerade: []lb.Masquerade{
			{From: four, Out: "eth0"},
			{From: six, Out: "eth0"},
			{From: four, Out: "eth0", To: netip.MustParseAddr("192.0.2.11")},
		},
	}
	if lines := l.wrong(t, d); lines != nil {
		t.Errorf("all is well: %q", lines)
	}
	d.Masquerade = []lb.Masquerade{
		{From: four, Out: "lo"},
		{From: four, Out: "eth0", To: netip.MustParseAddr("192.0.2.99")},
		{From: []netip.Prefix{prefix("192.0.2.0/24")}, Out: "eth0"},
	}
	want := []string{
		"masquerade 10.0.0.0/24 by lo: lo has no address of that family: packets are dropped | an address on lo",
		"masquerade 10.0.0.0/24 by eth0: this machine does not have 192.0.2.99: nothing that is answered comes back | an address of this machine for to, or none",
		"masquerade all/b1: with ports: all, whatever it sends by udp is an answer of service all: it can begin nothing by it | the ports that service all needs",
	}
	if diff := cmp.Diff(want, l.wrong(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// claims counts ARP replies and advertisements for VIPs that reach the director, as the datapath does.
func (l *directorLab) claims(t *testing.T) func() (map[netip.Addr]uint64, error) {
	t.Helper()
	var conn *packet.Conn
	must(t, l.director.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		}
		return err
	}))
	var mu sync.Mutex
	var counting sync.WaitGroup
	seen := make(map[netip.Addr]uint64)
	counting.Go(func() {
		for buf := make([]byte, 128); ; {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			switch {
			case n >= 42 && hex.EncodeToString(buf[12:14]) == "0806" && hex.EncodeToString(buf[20:22]) == "0002":
				seen[netip.AddrFrom4([4]byte(buf[28:32]))]++
			case n >= 78 && hex.EncodeToString(buf[12:14]) == "86dd" && buf[20] == unix.IPPROTO_ICMPV6 && buf[54] == 136:
				seen[netip.AddrFrom16([16]byte(buf[62:78]))]++
			}
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		conn.Close()
		counting.Wait()
	})
	return func() (map[netip.Addr]uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(seen), nil
	}
}

func TestABackendThatAnswersForAVIPIsNamed(t *testing.T) {
	l := newDirector(t)
	d := doctor.Director{
		VIPs:     []doctor.VIP{{Addr: vip4, Interface: "eth0"}, {Addr: vip6, Interface: "eth0"}},
		Backends: []doctor.Target{{Service: "web", Name: "b1", Addr: netip.MustParseAddr("192.0.2.21"), Method: lb.ForwardDR}},
		Claims:   l.claims(t),
	}
	if lines := l.wrong(t, d); lines != nil {
		t.Errorf("at first: %q", lines)
	}
	must(t, l.backend.Addr("lo", prefix("192.0.2.80/32")))
	const fix = " answers ARP requests for it: clients go round the directors" +
		" | there: sysctl -w net/ipv4/conf/eth0/arp_ignore=1, and the VIP on lo; all of it: lbctl backend recipe"
	// nobody has spoken to the backend yet
	if diff := cmp.Diff([]string{"arp 192.0.2.80: somebody on the link of eth0" + fix}, l.wrong(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mac, err := l.backend.MAC("eth0")
	must(t, err)
	c, err := l.director.Dial(t.Context(), "udp", "192.0.2.21:9")
	must(t, err)
	defer c.Close()
	nettest.Eventually(t, 5*time.Second, func() error {
		if _, err := c.Write([]byte("hello")); err != nil && !strings.Contains(err.Error(), "refused") {
			return err
		}
		if got := nettest.Neighbor(t, l.director, "eth0", netip.MustParseAddr("192.0.2.21")); got != mac.String() {
			return fmt.Errorf("the backend is at %q", got)
		}
		return nil
	})
	want := []string{fmt.Sprintf("arp 192.0.2.80: backend web/b1 (192.0.2.21, %s)", mac) + fix}
	if diff := cmp.Diff(want, l.wrong(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	must(t, l.backend.SetSysctl("net.ipv4.conf.eth0.arp_ignore", "1"))
	must(t, l.backend.Addr("lo", prefix("2001:db8::80/128")))
	if lines := l.wrong(t, d); lines != nil {
		t.Errorf("after the fix: %q", lines)
	}
	must(t, l.backend.Addr("eth0", prefix("2001:db8::80/64")))
	want = []string{fmt.Sprintf("ndp 2001:db8::80: backend web/b1 (192.0.2.21, %s) answers solicitations for it: clients go round the directors"+
		" | there: the VIP on lo, and on no other interface; all of it: lbctl backend recipe", mac)}
	if diff := cmp.Diff(want, l.wrong(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is as it must be with NAT on one link, and surprises: said, but no mistake.
func TestWhoCannotBeAClientOfNATIsSaid(t *testing.T) {
	l := newDirector(t)
	target := func(name, addr string, source bool) doctor.Target {
		return doctor.Target{Service: "web", Name: name, Addr: netip.MustParseAddr(addr), Method: lb.ForwardNAT, SourceNAT: source}
	}
	d := doctor.Director{Backends: []doctor.Target{
		target("near", "192.0.2.21", false), target("full", "192.0.2.21", true), target("beyond", "203.0.113.21", false),
	}}
	var said []doctor.Finding
	must(t, l.director.Do(func() error {
		findings, err := d.Examine(t.Context())
		for _, f := range findings {
			if f.Check == "clients" {
				said = append(said, f)
			}
		}
		return err
	}))
	want := []doctor.Finding{{
		Check: "clients", Subject: "web/near", OK: true,
		Found: "neither it nor others on the link of eth0 can be clients of the VIP: answers would not come by here; with source-nat they can",
	}}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
