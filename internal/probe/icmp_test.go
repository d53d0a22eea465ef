package probe

import (
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/nettest"
)

func TestICMPOnBothFamiliesWithEitherSocket(t *testing.T) {
	for name, groups := range map[string]string{"raw": "1 0", "datagram": "0 0"} {
		t.Run(name, func(t *testing.T) {
			host := nettest.Host(t, nettest.New(t), "node")
			if err := host.SetSysctl("net.ipv4.ping_group_range", groups); err != nil {
				t.Fatal(err)
			}
			err := host.Do(func() error {
				for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
					to := netip.AddrPortFrom(netip.MustParseAddr(addr), 0)
					expectDetail(t, to, Spec{Kind: ICMP}, true, "echo reply")
				}
				for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
					to := netip.AddrPortFrom(netip.MustParseAddr(addr), 0)
					expectDetail(t, to, Spec{Kind: ICMP}, false, "send: network is unreachable")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
