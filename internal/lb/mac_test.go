package lb

import (
	"net/netip"
	"testing"
)

func TestSharedMACsFollowFromTheAddress(t *testing.T) {
	for _, test := range []struct {
		form       MACForm
		vip        string
		mac, group string
	}{
		{MACMulticast, "192.0.2.80", "03:bf:c0:00:02:50", "invalid IP"},
		{MACMulticast, "2001:db8::80", "03:bf:00:00:00:80", "invalid IP"},
		{MACUnicast, "192.0.2.80", "02:bf:c0:00:02:50", "invalid IP"},
		{MACGroup, "192.0.2.80", "01:00:5e:7f:02:50", "239.127.2.80"},
		{MACGroup, "2001:db8::1:80", "33:33:00:01:00:80", "ff15::1:80"},
		{MACExplicit, "192.0.2.80", "", "invalid IP"},
	} {
		vip := netip.MustParseAddr(test.vip)
		if got := SharedMAC(test.form, vip).String(); got != test.mac {
			t.Errorf("%s %s: MAC %s, want %s", test.form, vip, got, test.mac)
		}
		if got := Group(test.form, vip).String(); got != test.group {
			t.Errorf("%s %s: group %s, want %s", test.form, vip, got, test.group)
		}
	}
}
