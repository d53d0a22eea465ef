package nettest

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/lbctl/lbctl/internal/netlab"
)

// Neighbor returns the MAC by which a host knows an address on an interface, or "".
func Neighbor(t testing.TB, host *netlab.Host, ifname string, addr netip.Addr) (mac string) {
	t.Helper()
	err := host.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		entries, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		for _, entry := range entries {
			if entry.IP.Equal(addr.AsSlice()) {
				mac = entry.HardwareAddr.String()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
}
