package datapath

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// maxReversePorts is how many ports of a NAT service get an entry each for each backend; a service
// of more has to be one of all ports.
const maxReversePorts = 4096

// reverses are what replies of NAT backends are known by, and what they become.
type reverses map[lbReverseKey]lbReverse

// reversesOf lays them out. A backend that is on its way from one service to another is that one's
// which sends it new flows.
func reversesOf(want *lb.State, scopes map[string]uint16, regions []uint32, device func(string) (*net.Interface, error)) (reverses, error) {
	all := make(reverses)
	for _, chosen := range []bool{false, true} {
		for i := range want.Services {
			s := &want.Services[i]
			if s.Forward != lb.ForwardNAT || s.SourceNAT {
				continue
			}
			if err := all.add(s, &want.VIPs[s.VIP], scopes[ServiceScope(s, &want.VIPs[s.VIP])], regions[i], device, chosen); err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Name, err)
			}
		}
	}
	return all, nil
}

// add adds the backends of a service that new flows go to, or the others.
func (r reverses) add(s *lb.Service, v *lb.VIP, scope uint16, region uint32, device func(string) (*net.Interface, error), chosen bool) error {
	value := lbReverse{Scope: scope}
	value.VipHi, value.VipLo = flowhash.Halves(v.Addr)
	for place := range s.Backends {
		b := &s.Backends[place]
		isChosen := s.Choice != nil && slices.Contains(s.Choice.Current, int16(place))
		if !b.Addr.IsValid() || isChosen != chosen {
			continue
		}
		// other directors may send to a backend before this one knows the way to it
		ifname := v.Interface
		if b.Hop != nil {
			ifname = b.Hop.Interface
		}
		dev, err := device(ifname)
		if err != nil {
			return fmt.Errorf("backend %s: %w", b.Name, err)
		}
		value.Watched = 0
		if b.Watched {
			value.Watched = watchNumber(region, place)
		}
		value.Ifindex, value.OwnMac = uint32(dev.Index), hardwareAddr(dev)
		eachReverse(s, b, func(key lbReverseKey, port uint16) {
			value.Port = port
			value.HeaderChange, value.Change = changesOf(b.Addr, v.Addr, key.Port, port)
			r[key] = value
		})
	}
	return nil
}

// eachReverse calls yield for each port of a backend that a service has, with the VIP's port: 0 for
// the backend's own, whichever it is.
func eachReverse(s *lb.Service, b *lb.Backend, yield func(key lbReverseKey, port uint16)) {
	key := lbReverseKey{Protocol: uint8(s.Protocol)}
	key.AddrHi, key.AddrLo = flowhash.Halves(b.Addr)
	if b.Port != 0 {
		key.Port = b.Port
		yield(key, s.Ports[0].First)
		return
	}
	for _, r := range s.Ports {
		if r == lb.AllPorts {
			yield(key, 0)
			return
		}
		for port := int(r.First); port <= int(r.Last); port++ {
			key.Port = uint16(port)
			yield(key, 0)
		}
	}
}

// kinds tells the program what to look for.
func (r reverses) kinds() uint32 {
	kinds := lbReverseKinds(0)
	for key := range r {
		kinds |= lbReverseKindsREVERSE_PORTS
		if key.Port == 0 {
			kinds |= lbReverseKindsREVERSE_ALL
		}
	}
	return uint32(kinds)
}

// validateNAT refuses what replies could not be told by.
func validateNAT(want *lb.State) error {
	total := 0
	for i := range want.Services {
		s := &want.Services[i]
		if s.Forward != lb.ForwardNAT {
			continue
		}
		if err := validateNATPorts(s); err != nil {
			return fmt.Errorf("service %s: %w", s.Name, err)
		}
		for j := range s.Backends {
			b := &s.Backends[j]
			if !b.Addr.IsValid() {
				continue
			}
			if b.Addr.Is4() != want.VIPs[s.VIP].Addr.Is4() {
				return fmt.Errorf("service %s: backend %s: %s is not of the VIP's family", s.Name, b.Name, b.Addr)
			}
			if !s.SourceNAT {
				eachReverse(s, b, func(lbReverseKey, uint16) { total++ })
			}
		}
	}
	if total > int(lbLimitsREVERSE_ENTRIES) {
		return fmt.Errorf("%d ports of NAT backends: more than %d", total, lbLimitsREVERSE_ENTRIES)
	}
	return nil
}

func validateNATPorts(s *lb.Service) error {
	if s.Protocol != lb.ProtocolTCP && s.Protocol != lb.ProtocolUDP {
		return fmt.Errorf("protocol %s has no ports to translate", s.Protocol)
	}
	if s.SourceNAT {
		return nil // replies name the flow
	}
	n := 0
	for _, r := range s.Ports {
		n += int(r.Last) - int(r.First) + 1
	}
	if n > maxReversePorts && s.Ports[0] != lb.AllPorts {
		return fmt.Errorf("%d ports: more than %d, and not all", n, maxReversePorts)
	}
	for i := range s.Backends {
		if s.Backends[i].Port != 0 && n != 1 {
			return fmt.Errorf("backend %s: a port of its own, but the service has %d", s.Backends[i].Name, n)
		}
	}
	return nil
}

// writeReverses adds what is wanted and returns what to remove, once no packet needs it any more.
func (s *mapSet) writeReverses(want reverses) (stale []lbReverseKey, err error) {
	have, err := s.readReverses()
	if err != nil {
		return nil, fmt.Errorf("read map reverse: %w", err)
	}
	for key, value := range want {
		if before, ok := have[key]; ok && before == value {
			continue
		}
		if err := s.maps["reverse"].Put(&key, &value); err != nil {
			return nil, fmt.Errorf("write map reverse: %w", err)
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			stale = append(stale, key)
		}
	}
	s.writeReplies(want)
	// what is not there yet is looked for in vain; what is there must be looked for
	atomic.StoreUint32(&s.published().Reverse, want.kinds())
	return stale, nil
}

func (s *mapSet) forgetReverses(want reverses, stale []lbReverseKey) error {
	s.forgetReplies(want)
	for _, key := range stale {
		if err := s.maps["reverse"].Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove from map reverse: %w", err)
		}
	}
	return nil
}

func (s *mapSet) readReverses() (reverses, error) {
	have := make(reverses)
	keys, values := make([]lbReverseKey, 1024), make([]lbReverse, 1024)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := s.maps["reverse"].BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, err
		}
		for i := range n {
			have[keys[i]] = values[i]
		}
		if err != nil {
			return have, nil
		}
	}
}
