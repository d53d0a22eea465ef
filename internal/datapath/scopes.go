package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/lb"
)

// A scope is what counters are kept for: a VIP or a service. Its number is its index in labels,
// and stays as long as its label is wanted, across restarts too. Scope 0 is everything else; its
// label holds the layout of the maps, then the name of the cluster.

func vipLabel(v *lb.VIP) string { return "vip " + v.Addr.String() }

// ServiceScope is the Scope of the counters of a service at one of its VIPs.
func ServiceScope(s *lb.Service, v *lb.VIP) string {
	return "service " + s.Name + " " + v.Addr.String()
}

// cluster reads whom the maps belong to; "" before the first Set.
func (s *mapSet) cluster() (string, error) {
	var label lbLabel
	if err := s.maps["labels"].Lookup(uint32(0), &label); err != nil {
		return "", fmt.Errorf("read the cluster's name: %w", err)
	}
	return text(label.Text[layoutLength:]), nil
}

// writeCluster notes whom the maps belong to, for people who look at them when lbd does not run.
func (s *mapSet) writeCluster(name string) error {
	var label lbLabel
	if err := s.maps["labels"].Lookup(uint32(0), &label); err != nil {
		return fmt.Errorf("read the cluster's name: %w", err)
	}
	setText(label.Text[layoutLength:], name)
	if err := s.maps["labels"].Put(uint32(0), &label); err != nil {
		return fmt.Errorf("write the cluster's name: %w", err)
	}
	return nil
}

// labels reads the scopes in use.
func (s *mapSet) labels() (map[string]uint16, error) {
	used := make(map[string]uint16)
	keys, values := make([]uint32, s.sizes.scopes), make([]lbLabel, s.sizes.scopes)
	var cursor ebpf.MapBatchCursor
	n, err := s.maps["labels"].BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) || n != len(values) {
		return nil, fmt.Errorf("read labels: %d of %d: %w", n, len(values), err)
	}
	for i := range values[1:] {
		if name := text(values[1+i].Text[:]); name != "" {
			used[name] = uint16(1 + i)
		}
	}
	return used, nil
}

// assignScopes gives every VIP and service its number: the one it has, or a free one.
func (s *mapSet) assignScopes(want *lb.State) (map[string]uint16, error) {
	used, err := s.labels()
	if err != nil {
		return nil, err
	}
	taken := make(map[uint16]bool, len(used))
	for _, n := range used {
		taken[n] = true
	}
	scopes := make(map[string]uint16)
	next := uint16(1)
	for _, name := range labelsOf(want) {
		if n, ok := used[name]; ok {
			scopes[name] = n
			continue
		}
		for taken[next] {
			next++
		}
		if int(next) >= s.sizes.scopes {
			return nil, errTooSmall
		}
		taken[next] = true
		scopes[name] = next
		var label lbLabel
		setText(label.Text[:], name)
		if err := s.maps["labels"].Put(uint32(next), &label); err != nil {
			return nil, fmt.Errorf("write label %q: %w", name, err)
		}
	}
	return scopes, nil
}

// forgetScopes frees the numbers that nothing uses any more and clears their counters.
func (s *mapSet) forgetScopes(wanted map[string]uint16) error {
	used, err := s.labels()
	if err != nil {
		return err
	}
	for name, n := range used {
		if _, ok := wanted[name]; ok {
			continue
		}
		if err := s.clearCounters(n); err != nil {
			return err
		}
		if err := s.maps["labels"].Put(uint32(n), &lbLabel{}); err != nil {
			return fmt.Errorf("remove label %q: %w", name, err)
		}
	}
	return nil
}

func (s *mapSet) clearCounters(scope uint16) error {
	zero := make([]lbCounter, ebpf.MustPossibleCPU())
	for r := range uint32(lbReasonREASON_COUNT) {
		key := uint32(scope)*uint32(lbReasonREASON_COUNT) + r
		if err := s.maps["counters"].Put(key, zero); err != nil {
			return fmt.Errorf("clear counters of scope %d: %w", scope, err)
		}
	}
	return nil
}

func labelsOf(want *lb.State) []string {
	var names []string
	for i := range want.VIPs {
		names = append(names, vipLabel(&want.VIPs[i]))
	}
	for i := range want.Services {
		s := &want.Services[i]
		names = append(names, ServiceScope(s, &want.VIPs[s.VIP]))
	}
	return names
}
