package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// A Report says what a Set did.
type Report struct {
	Buckets  int              // entries of tables written
	Slots    int              // entries of choices written
	Attached []AttachedDevice // by interface name; nil when it did not come to that
	Grown    bool             // a larger map set replaced the old one
}

// written counts entries that a Set changed.
type written struct{ buckets, slots int }

// write makes a map set equal to a state: what is pointed at first, then one word that publishes
// the rest. A packet sees all of the old state or all of the new, but for buckets that move within
// a table, which change one by one.
func (s *mapSet) write(want *lb.State, device func(string) (*net.Interface, error)) (written, error) {
	var done written
	scopes, err := s.assignScopes(want)
	if err != nil {
		return done, err
	}
	tables, err := s.assignTables(want, scopes)
	if err != nil {
		return done, err
	}
	regions, err := s.assignRegions(want, scopes)
	if err != nil {
		return done, err
	}
	reverses, err := reversesOf(want, scopes, regions, device)
	if err != nil {
		return done, err
	}
	half := 1 - halfOf(s.word())
	pools := poolsOf(want, regions)
	fresh, err := buildDirectory(half, want, scopes, tables, regions, pools, device)
	if err != nil {
		return done, err
	}
	if err := s.writeCluster(want.Cluster); err != nil {
		return done, err
	}
	nodes, err := s.writeNodes(want)
	if err != nil {
		return done, err
	}
	if err := s.writeInterfaces(want, device); err != nil {
		return done, err
	}
	done.buckets = s.writeTables(want, tables, nodes)
	if err := s.writeWatches(want, regions); err != nil {
		return done, err
	}
	// the way back is there before a packet goes to a backend
	stale, err := s.writeReverses(reverses)
	if err != nil {
		return done, err
	}
	s.writeOrders(want, pools)
	s.writeSources(ownBlocks(want))
	done.slots = s.writeChoices(want, regions, device)
	if !s.same(fresh) || !s.sameKeys(want) {
		s.stage(half, fresh, flowhash.NewKeys(want.Seed))
		s.publish(fresh.word)
		if err := waitForReaders(); err != nil {
			return done, err
		}
	}
	atomic.StoreUint32(&s.published().Sample, want.SampleDrops)
	if err := s.forgetReverses(reverses, stale); err != nil {
		return done, err
	}
	return done, s.forgetScopes(scopes)
}

// buildDirectory lays out VIPs and services for one half.
func buildDirectory(half uint64, want *lb.State, scopes map[string]uint16, tables, regions, pools []uint32,
	device func(string) (*net.Interface, error),
) (*directory, error) {
	vips := make([]lbVip, len(want.VIPs))
	for i := range want.VIPs {
		v := &want.VIPs[i]
		dev, err := device(v.Interface)
		if err != nil {
			return nil, fmt.Errorf("vip %s: %w", v.Addr, err)
		}
		vips[i] = lbVip{
			OwnMac:  hardwareAddr(dev),
			Ifindex: uint32(dev.Index),
			Scope:   scopes[vipLabel(v)],
			Table:   tables[v.Table],
		}
		vips[i].AddrHi, vips[i].AddrLo = flowhash.Halves(v.Addr)
		vips[i].Mac, vips[i].Flags = announced(v, vips[i].OwnMac)
		if v.HandOn {
			vips[i].Flags |= uint16(lbVipFlagsVIP_HANDED_ON)
			vips[i].NodesMac = [6]byte(lb.NodesMAC())
		}
		if v.Other == lb.OtherDrop {
			vips[i].Flags |= uint16(lbVipFlagsVIP_DROP_UNNAMED)
		}
	}
	var services []lbService
	sourced := make(map[[2]int]bool) // VIPs and protocols
	for i := range want.Services {
		svc := &want.Services[i]
		v := &want.VIPs[svc.VIP]
		if at := [2]int{svc.VIP, int(svc.Protocol)}; svc.SourceNAT && !sourced[at] {
			sourced[at] = true
			services = append(services, sourceSlots(svc, &vips[svc.VIP])...)
		}
		slots := serviceSlots(svc, v.Addr.Is4(), &vips[svc.VIP],
			scopes[ServiceScope(svc, v)], tables[svc.Table], regions[i], pools[i])
		if watches(svc, v) {
			for j := range slots {
				slots[j].Watches = 1
			}
		}
		services = append(services, slots...)
	}
	return place(half, vips, services, peerKeys(want))
}

// announced is the MAC that frames for a VIP come to, and what follows for them.
func announced(v *lb.VIP, own [6]byte) (mac [6]byte, flags uint16) {
	switch v.Announce {
	case lb.AnnounceMulticast:
		return [6]byte(v.MAC), 0
	case lb.AnnounceNone:
		flags = uint16(lbVipFlagsVIP_SILENT)
	case lb.AnnounceFailover:
	}
	if len(v.MAC) == 6 {
		own = [6]byte(v.MAC)
	}
	return own, flags | uint16(lbVipFlagsVIP_BY_BUCKET)
}

// hardwareAddr is the MAC of an interface; loopback, where tests run programs, has none.
func hardwareAddr(dev *net.Interface) (mac [6]byte) {
	copy(mac[:], dev.HardwareAddr)
	return mac
}

// same says whether the live half already holds what is wanted, wherever its slots are.
func (s *mapSet) same(want *directory) bool {
	vips, services := s.liveHalf()
	isSet := func(p *uint64) bool { return *p != 0 }
	return vips != nil && sameSet(s.peers(halfOf(s.word())), want.peers, isSet) &&
		sameSet(vips, want.vips, func(v *lbVip) bool { return v.Scope != 0 }) &&
		sameSet(services, want.services, func(v *lbService) bool { return v.Selector != 0 })
}

func sameSet[T comparable](a, b []T, used func(*T) bool) bool {
	seen := make(map[T]bool)
	for i := range a {
		if used(&a[i]) {
			seen[a[i]] = true
		}
	}
	n := 0
	for i := range b {
		if used(&b[i]) {
			if !seen[b[i]] {
				return false
			}
			n++
		}
	}
	return n == len(seen)
}

func (s *mapSet) sameKeys(want *lb.State) bool {
	return flowhash.Keys(s.keys(halfOf(s.word()))) == flowhash.NewKeys(want.Seed)
}

// stage fills the half that no packet looks at.
func (s *mapSet) stage(half uint64, d *directory, keys flowhash.Keys) {
	vips, services := s.half(half)
	copy(vips, d.vips)
	copy(services, d.services)
	copy(s.peers(half), d.peers)
	copy(s.keys(half), keys[:])
}

// writeInterfaces tells the ingress fix-up which MACs are ours.
func (s *mapSet) writeInterfaces(want *lb.State, device func(string) (*net.Interface, error)) error {
	wanted := make(map[uint32]lbInterface)
	for _, name := range interfaceNames(want) {
		dev, err := device(name)
		if err != nil {
			return err
		}
		wanted[uint32(dev.Index)] = lbInterface{Mac: hardwareAddr(dev)}
	}
	var stale []uint32
	var key uint32
	var value lbInterface
	for it := s.maps["interfaces"].Iterate(); it.Next(&key, &value); {
		if _, ok := wanted[key]; !ok {
			stale = append(stale, key)
		}
	}
	for index, value := range wanted {
		if err := s.maps["interfaces"].Put(index, &value); err != nil {
			return fmt.Errorf("write interface %d: %w", index, err)
		}
	}
	for _, index := range stale {
		if err := s.maps["interfaces"].Delete(index); err != nil {
			return fmt.Errorf("remove interface %d: %w", index, err)
		}
	}
	return nil
}

// Set makes the kernel equal to want: idempotent, and nothing is attached before all it needs is
// written. After an error the next Set starts from what is there.
func (d *Datapath) Set(ctx context.Context, want *lb.State) (Report, error) {
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	if err := validate(want); err != nil {
		return Report{}, err
	}
	var report Report
	set := d.maps
	if need := sizesFor(want); set == nil || !set.sizes.holds(need) {
		grown, err := d.growTo(need)
		if err != nil {
			return report, err
		}
		set, report.Grown = grown, d.maps != nil
	}
	done, err := d.write(set, want, findDevice)
	report.Buckets, report.Slots = done.buckets, done.slots
	if err == nil {
		err = d.use(set)
	}
	if err != nil {
		if set != d.maps {
			set.close()
		}
		return report, err
	}
	report.Attached, err = d.attach(interfaceNames(want))
	return report, err
}

// Possible says what keeps Set from doing all of it, as far as that can be known without doing it.
func (d *Datapath) Possible(want *lb.State) error {
	errs := []error{validate(want)}
	for _, name := range interfaceNames(want) {
		device, err := findDevice(name)
		if err != nil {
			errs = append(errs, err) // which names the interface
			continue
		}
		if !d.Runs(name) {
			err = refuseForeign(device.Index)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) growTo(need sizes) (*mapSet, error) {
	if d.maps == nil {
		return newMapSet(need)
	}
	return d.maps.grow(need)
}

// write writes a set, while nobody reads numbers in it.
func (d *Datapath) write(set *mapSet, want *lb.State, device func(string) (*net.Interface, error)) (written, error) {
	d.numbers.Lock()
	defer d.numbers.Unlock()
	d.written++
	return set.write(want, device)
}

// validate refuses what would be an index out of range here or in the kernel.
func validate(want *lb.State) error {
	if len(want.Nodes) > lb.MaxNodes {
		return fmt.Errorf("%d nodes: more than %d", len(want.Nodes), lb.MaxNodes)
	}
	if len(want.Services) > lb.MaxServices {
		return fmt.Errorf("%d services: more than %d", len(want.Services), lb.MaxServices)
	}
	for i := range want.VIPs {
		v := &want.VIPs[i]
		if v.Table < 0 || v.Table >= len(want.Tables) || len(v.MAC) != 6 && (len(v.MAC) != 0 || v.Announce == lb.AnnounceMulticast) {
			return fmt.Errorf("vip %s: no such table, or no MAC", v.Addr)
		}
	}
	for i := range want.Services {
		s := &want.Services[i]
		if s.VIP < 0 || s.VIP >= len(want.VIPs) || s.Table < 0 || s.Table >= len(want.Tables) {
			return fmt.Errorf("service %s: no such VIP or table", s.Name)
		}
		if err := validateChoice(s); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
	}
	if err := validateNAT(want); err != nil {
		return err
	}
	for i, t := range want.Tables {
		if len(t.Owners) != lb.Buckets {
			return fmt.Errorf("table %d: %d buckets, not %d", i, len(t.Owners), lb.Buckets)
		}
		if t.Marks != nil && len(t.Marks) != lb.Buckets {
			return fmt.Errorf("table %d: %d marks, not %d", i, len(t.Marks), lb.Buckets)
		}
	}
	return nil
}

// interfaceNames lists the interfaces that VIPs are announced on and that replies of NAT backends
// come in by, each once, in order.
func interfaceNames(want *lb.State) []string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range want.VIPs {
		add(want.VIPs[i].Interface)
	}
	for i := range want.Services {
		for _, b := range want.Services[i].Backends {
			if want.Services[i].Forward == lb.ForwardNAT && b.Hop != nil {
				add(b.Hop.Interface)
			}
		}
	}
	slices.Sort(names)
	return names
}
