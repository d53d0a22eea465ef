package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

func TestABackendHasAFileOfItsOwn(t *testing.T) {
	got := parsed(t, `{role: backend, interface: eth1, method: tunnel, directors: ["2001:db8::11", 192.0.2.11], vips: 192.0.2.80}`)
	want := &Config{
		Attach: "auto", Shutdown: Leave,
		Backend: &BackendRole{
			Interface: "eth1", Method: lb.ForwardTunnel,
			Directors: []netip.Addr{netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("192.0.2.11")},
			VIPs:      []netip.Addr{netip.MustParseAddr("192.0.2.80")},
		},
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Error(diff)
	}
}

func TestDiffOfABackendShowsItsKeys(t *testing.T) {
	old := parsed(t, `{role: backend, interface: eth0, vips: [192.0.2.80]}`)
	fresh := parsed(t, `{role: backend, interface: eth0, method: tunnel, directors: 192.0.2.11, vips: [192.0.2.80, "2001:db8::80"]}`)
	want := []Change{
		{"directors", "", `["192.0.2.11"]`},
		{"method", "dr", "tunnel"},
		{"vips", `["192.0.2.80"]`, `["192.0.2.80", "2001:db8::80"]`},
	}
	if diff := cmp.Diff(want, Diff(old, fresh)); diff != "" {
		t.Error(diff)
	}
}

func TestANodeMaySayThatItIsOne(t *testing.T) {
	if c := parsed(t, "role: node\n"+before); c.Backend != nil {
		t.Errorf("a backend: %+v", c.Backend)
	}
}
