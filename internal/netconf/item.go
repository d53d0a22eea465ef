package netconf

import (
	"fmt"
	"net/netip"
)

// kind says what sort of thing an item is. The words are in the state file.
type kind string

const (
	kindSysctl  kind = "sysctl"
	kindFilter  kind = "filter"
	kindGroup   kind = "group"
	kindAddress kind = "address"
)

// An item is one thing that the kernel holds for an interface.
type item struct {
	Kind      kind   `json:"kind"`
	Interface string `json:"interface"`
	Name      string `json:"name"` // MAC, group, address, or sysctl as in "ipv4/arp_ignore" or "ipv4/x=1"
}

// String returns the item as errors and drifts name it.
func (it item) String() string {
	switch it.Kind {
	case kindSysctl:
		return "sysctl " + it.sysctlName()
	case kindFilter:
		return fmt.Sprintf("interface %s: mac filter %s", it.Interface, it.Name)
	case kindGroup:
		return fmt.Sprintf("interface %s: group %s", it.Interface, it.Name)
	case kindAddress:
		return fmt.Sprintf("address %s on %s", it.Name, it.Interface)
	default:
		return fmt.Sprintf("%s %s of %s", it.Kind, it.Name, it.Interface)
	}
}

// add makes the kernel hold the item.
func (e entry) add() error {
	switch e.Kind {
	case kindSysctl:
		return writeSysctl(e.item, e.setting().value)
	case kindFilter:
		return addFilter(e)
	case kindGroup:
		return addGroup(e.Index, netip.MustParseAddr(e.Name))
	case kindAddress:
		return addVIP(e.Index, netip.MustParseAddr(e.Name))
	default:
		return fmt.Errorf("unknown kind %q", e.Kind)
	}
}

// remove undoes add; that the item is gone already is no error.
func (e entry) remove() error {
	switch e.Kind {
	case kindSysctl:
		return restoreSysctl(e)
	case kindFilter:
		return removeFilter(e)
	case kindGroup, kindAddress:
		return removeAddress(e.Index, netip.MustParseAddr(e.Name))
	default:
		return fmt.Errorf("unknown kind %q", e.Kind)
	}
}
