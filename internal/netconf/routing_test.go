package netconf_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/netconf"
)

// routing are the settings that masquerading needs.
func (n node) routing(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, name := range []string{
		"ipv4.ip_forward", "ipv4.conf.eth0.forwarding", "ipv6.conf.all.forwarding", "ipv6.conf.eth0.forwarding", "ipv6.conf.eth0.accept_ra",
	} {
		value, err := n.Sysctl("net." + name)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = value
	}
	return found
}

func masquerade(from ...string) netconf.Want {
	m := lb.Masquerade{Out: "eth0"}
	for _, p := range from {
		m.From = append(m.From, netip.MustParsePrefix(p))
	}
	return netconf.Want{Masquerade: []lb.Masquerade{m}}
}

// A host that learns its default route from a router would forget it as a router.
func TestMasqueradingMakesARouterThatGoesOnLearning(t *testing.T) {
	n := newNode(t)
	if err := n.SetSysctl("net.ipv6.conf.eth0.accept_ra", "1"); err != nil {
		t.Fatal(err)
	}
	before := n.routing(t)
	set := func(want netconf.Want) {
		t.Helper()
		if err := n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), want) }); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(ip4, ip6, learns string) {
		t.Helper()
		want := map[string]string{
			"ipv4.ip_forward": ip4, "ipv4.conf.eth0.forwarding": ip4,
			"ipv6.conf.all.forwarding": ip6, "ipv6.conf.eth0.forwarding": ip6, "ipv6.conf.eth0.accept_ra": learns,
		}
		if diff := cmp.Diff(want, n.routing(t)); diff != "" {
			t.Error(diff)
		}
	}
	set(masquerade("10.0.0.0/24"))
	wants("1", "0", "1")
	both := masquerade("10.0.0.0/24", "2001:db8:1::/64")
	set(both)
	wants("1", "1", "2")
	if err := n.SetSysctl("net.ipv4.ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	err := n.lbd(func(h *netconf.Host) error {
		drifts, err := h.Check(t.Context(), both)
		want := []netconf.Drift{{Name: "sysctl net.ipv4.conf.all.forwarding", Found: "0", Wanted: "1"}}
		if diff := cmp.Diff(want, drifts); diff != "" {
			t.Error(diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	set(both)
	n.withdraw(t)
	if diff := cmp.Diff(before, n.routing(t)); diff != "" {
		t.Errorf("withdrawn:\n%s", diff)
	}
}

func TestARouterStaysOne(t *testing.T) {
	n := newNode(t)
	if err := n.Forward(); err != nil {
		t.Fatal(err)
	}
	before := n.routing(t)
	if err := n.lbd(func(h *netconf.Host) error { return h.Set(t.Context(), masquerade("10.0.0.0/24", "2001:db8:1::/64")) }); err != nil {
		t.Fatal(err)
	}
	n.withdraw(t)
	if diff := cmp.Diff(before, n.routing(t)); diff != "" {
		t.Error(diff)
	}
}
