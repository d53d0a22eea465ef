package netconf

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// vipInterface holds the VIPs: on the interface itself, neighbours would be told our own MAC.
const vipInterface = "lo"

// A need is what one VIP takes, or masquerading, in the order in which it is to be added: an address that
// comes before its sysctls would answer ARP with this node's own MAC for a moment.
type need struct {
	of      string
	items   []item
	missing []entry // those of items that the kernel does not hold yet
}

// needs returns what all that is wanted needs, and an error for each part whose interface does not exist.
func (now *snapshot) needs(want Want) ([]need, error) {
	var needs []need
	var errs []error
	for _, vip := range want.VIPs {
		ifname := vip.Interface
		n := need{of: "vip " + vip.Addr.String()}
		if err := now.lacks(ifname); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.of, err))
			continue
		}
		of := settings
		if want.Backend {
			of = backendSettings
		}
		for _, s := range of(vip.Addr) {
			n.items = append(n.items, item{kindSysctl, ifname, s.name})
		}
		if vip.Addr.Is6() && !now.ownGlobal6(want.VIPs) {
			n.items = append(n.items, item{kindSysctl, ifname, ownSources().name})
		}
		if vip.MAC != nil {
			n.items = append(n.items, item{kindFilter, ifname, vip.MAC.String()})
		}
		if vip.Group.IsValid() {
			n.items = append(n.items, item{kindGroup, ifname, vip.Group.String()})
		}
		if vip.Addr.Is6() && vip.Announce != lb.AnnounceNone {
			n.items = append(n.items, item{kindGroup, ifname, solicitedNode(vip.Addr).String()})
		}
		n.items = append(n.items, item{kindAddress, vipInterface, vip.Addr.String()})
		needs = append(needs, n)
	}
	for _, m := range want.Masquerade {
		n := need{of: "masquerade", items: routing(m)}
		if err := now.lacks(m.Out); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.of, err))
			continue
		}
		needs = append(needs, n)
	}
	return needs, errors.Join(errs...)
}

// lacks returns an error when there is no such interface.
func (now *snapshot) lacks(ifname string) error {
	if _, ok := now.index[ifname]; ok {
		return nil
	}
	return fmt.Errorf("interface %s: no such interface (have: %s)", ifname, strings.Join(slices.Sorted(maps.Keys(now.index)), ", "))
}

// routing is what passing on takes. For IPv6 the kernel has one switch, and it makes the machine a
// router: one that believes no other router, and forgets the routes that it has from them. What learns
// its way out from others goes on doing so.
func routing(m lb.Masquerade) []item {
	var items []item
	if slices.ContainsFunc(m.From, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		items = append(items, item{kindSysctl, allInterfaces, forwarding4().name})
	}
	if slices.ContainsFunc(m.From, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		items = append(items, item{kindSysctl, m.Out, routesLearnt().name}, item{kindSysctl, allInterfaces, forwarding6().name})
	}
	return items
}

// ownGlobal6 says whether this machine has an IPv6 address of its own that it can use beyond the
// link. The kernel prefers such a one, wherever it is, to VIPs, which are deprecated.
func (now *snapshot) ownGlobal6(vips []lb.VIP) bool {
	return slices.ContainsFunc(now.usable6, func(a netip.Addr) bool {
		return !slices.ContainsFunc(vips, func(v lb.VIP) bool { return v.Addr == a })
	})
}

// solicitedNode is the group that solicitations for an address go to, RFC 4291 section 2.7.1. The
// kernel joins it for addresses of the interface; ours are on lo, and without the join a network
// card or a snooping switch would keep the solicitations from us.
func solicitedNode(addr netip.Addr) netip.Addr {
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	low := addr.As16()
	copy(group[13:], low[13:])
	return netip.AddrFrom16(group)
}

// compare finds what is missing. A VIP that cannot be had at all is left as it is.
func (n *need) compare(now *snapshot, rec *record) error {
	var missing []entry
	for _, it := range n.items {
		found, ok, err := now.inspect(it, rec)
		if err != nil {
			return fmt.Errorf("%s: %w", n.of, err)
		}
		if !ok {
			missing = append(missing, entry{item: it, Index: now.index[it.Interface], Old: found})
		}
	}
	n.missing = missing
	return nil
}

// add adds what is missing up to the first error, and notes it for VIPs that share things.
func (n *need) add(ctx context.Context, added map[item]bool) error {
	for _, e := range n.missing {
		if added[e.item] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.add(); err != nil {
			return fmt.Errorf("%s: %s: add: %w", n.of, e.item, err)
		}
		added[e.item] = true
	}
	return nil
}

// wanted is the set of all items.
func wanted(needs []need) map[item]bool {
	set := make(map[item]bool)
	for _, n := range needs {
		for _, it := range n.items {
			set[it] = true
		}
	}
	return set
}
