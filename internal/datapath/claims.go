package datapath

import (
	"fmt"
	"net/netip"
)

// Claims counts, for each VIP, the frames by which other machines said that it is theirs, since the maps
// were made. Peers of the cluster are no others.
func (d *Datapath) Claims() (map[netip.Addr]uint64, error) {
	claims := make(map[netip.Addr]uint64)
	if d.maps == nil {
		return claims, nil
	}
	vips, _ := d.maps.liveHalf()
	for i := range vips {
		v := &vips[i]
		if v.Scope == 0 {
			continue
		}
		addr := address(v.AddrHi, v.AddrLo)
		for _, reason := range []lbReason{lbReasonREASON_ARP_CONFLICT, lbReasonREASON_ND_CONFLICT} {
			var cpus []lbCounter
			if err := d.maps.maps["counters"].Lookup(uint32(v.Scope)*uint32(lbReasonREASON_COUNT)+uint32(reason), &cpus); err != nil {
				return nil, fmt.Errorf("read counters of vip %s: %w", addr, err)
			}
			for _, c := range cpus {
				claims[addr] += c.Packets
			}
		}
	}
	return claims, nil
}
