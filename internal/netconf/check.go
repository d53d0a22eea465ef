package netconf

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// A Drift is a difference between what is wanted and what is there.
type Drift struct {
	Name   string // "interface eth0: mac filter 03:bf:c0:00:02:50"
	Found  string
	Wanted string
	// Manual is a difference that Set leaves to the operator: it is not ours to change.
	Manual bool
}

// String returns one line for the operator.
func (d Drift) String() string {
	return fmt.Sprintf("%s: %s, should be %s", d.Name, d.Found, d.Wanted)
}

// Check compares the machine with want and changes nothing. Besides what Set would repair it
// reports settings of others that spoil VIPs.
func (h *Host) Check(ctx context.Context, want Want) ([]Drift, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now, err := observe()
	if err != nil {
		return nil, err
	}
	rec, err := loadRecord(h.statePath, now)
	if err != nil {
		return nil, err
	}
	needs, missing := now.needs(want)
	errs := []error{missing}
	seen := make(map[item]bool)
	var drifts []Drift
	for _, n := range needs {
		errs = append(errs, n.compare(now, rec))
		for _, e := range n.missing {
			if !seen[e.item] {
				drifts = append(drifts, e.drift())
			}
			seen[e.item] = true
		}
	}
	return append(drifts, now.spoilers(want.VIPs, want.Backend)...), errors.Join(errs...)
}

// drift describes an item that is not as it should be.
func (e entry) drift() Drift {
	if e.Kind == kindSysctl {
		return Drift{Name: e.String(), Found: e.Old, Wanted: e.setting().value}
	}
	return Drift{Name: e.String(), Found: "missing", Wanted: "present"}
}

// spoilers reports what others have set that keeps VIPs from working.
func (now *snapshot) spoilers(vips []lb.VIP, backend bool) []Drift {
	var drifts []Drift
	interfaces4 := make(map[string]bool)
	for _, vip := range vips {
		if vip.Addr.Is4() {
			interfaces4[vip.Interface] = true
		}
		for _, ifname := range slices.Sorted(maps.Keys(now.index)) {
			it := item{kindAddress, ifname, vip.Addr.String()}
			if ifname != vipInterface && now.held[it] {
				drifts = append(drifts, Drift{
					Name: it.String(), Found: "present", Wanted: "absent: neighbours learn this node's own mac", Manual: true,
				})
			}
		}
	}
	for _, ifname := range slices.Sorted(maps.Keys(interfaces4)) {
		if strict(ifname) && !backend {
			drifts = append(drifts, Drift{
				Name:  item{kindSysctl, ifname, looseReturn().name}.String(),
				Found: "1", Wanted: "0 or 2, or clients whose way back is another interface are dropped", Manual: true,
			})
		}
	}
	// The kernel applies the setting of "all" to every interface.
	if it := (item{kindSysctl, "all", "ipv4/drop_unicast_in_l2_multicast"}); len(interfaces4) > 0 {
		if value, err := readSysctl(it); err == nil && value != "0" && !backend {
			drifts = append(drifts, Drift{Name: it.String(), Found: value, Wanted: "0", Manual: true})
		}
	}
	return drifts
}

// value4 returns a one-digit setting, by its name in an item, or "" if there is none.
func value4(ifname, name string) string {
	value, err := os.ReadFile(item{kindSysctl, ifname, name}.sysctlPath())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(value))
}
