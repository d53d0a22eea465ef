package datapath

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// OwnBlocks are the blocks of source ports that a director gives out.
var OwnBlocks = ownBlocks

// AgeSources makes what is known of flows of full NAT older.
func (i *Instance) AgeSources(by time.Duration) error {
	if err := i.ageNewSources(by); err != nil {
		return err
	}
	entries, err := readSources(i.set.maps)
	if err != nil {
		return err
	}
	for _, e := range entries {
		flow := e.flow()
		e.returned.SeenNs -= uint64(by)
		e.returned.Expects -= uint32(by >> 20)
		e.source.SeenNs -= uint64(by)
		e.source.HeardNs -= uint64(by)
		if err := i.set.maps["returns"].Put(&e.key, &e.returned); err != nil {
			return err
		}
		if err := i.set.maps["sources"].Put(&flow, &e.source); err != nil {
			return err
		}
	}
	return nil
}

// ageNewSources does so with those that are not established.
func (i *Instance) ageNewSources(by time.Duration) error {
	m := i.set.maps["new_returns"]
	aged := make(map[lbReturnKey]lbReturned)
	var key lbReturnKey
	var value lbReturned
	it := m.Iterate()
	for it.Next(&key, &value) {
		value.SeenNs -= uint64(by)
		value.Expects -= uint32(by >> 20) // of UDP: when it began
		aged[key] = value
	}
	for key, value := range aged {
		if err := m.Put(&key, &value); err != nil {
			return err
		}
	}
	return it.Err()
}

// PutSources establishes flows of datagrams like the one that leaves from a port: of other clients, from
// other ports, and silent for a time.
func (i *Instance) PutSources(like uint16, sources []uint16, silent time.Duration) error {
	entries, err := readSources(i.set.maps)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(entries, func(e sourceEntry) bool { return e.key.Source == like && e.key.Protocol == uint8(lb.ProtocolUDP) })
	if at < 0 {
		return fmt.Errorf("no flow leaves from %d", like)
	}
	for _, source := range sources {
		e, now := entries[at], uint64(Monotonic()-silent)
		e.key.Source, e.source.Port = source, source
		e.returned.SrcLo ^= uint64(source)
		e.returned.SeenNs, e.source.SeenNs = now, now
		flow := e.flow()
		if err := i.set.maps["sources"].Put(&flow, &e.source); err != nil {
			return err
		}
		if err := i.set.maps["returns"].Put(&e.key, &e.returned); err != nil {
			return err
		}
	}
	return nil
}

// Establish has full NAT know flows of one service and its first backend: from clients, by ports of the VIP. The
// backend's replies are from the addresses that replies are from.
func (i *Instance) Establish(service string, vip netip.AddrPort, protocol lb.Protocol, flows []Established) error {
	labels, err := i.set.labels()
	if err != nil {
		return err
	}
	region, served := i.set.regionsInUse()[labels[ServiceScope(&lb.Service{Name: service}, &lb.VIP{Addr: vip.Addr()})]]
	if !served {
		return fmt.Errorf("%s %s is not served", service, vip)
	}
	place := &i.set.backends.items[region*uint32(lbLimitsBACKENDS)]
	now := uint64(Monotonic())
	for _, f := range flows {
		key := lbReturnKey{Port: f.Replies.Port(), Source: f.Source, Scope: labels[vipLabel(&lb.VIP{Addr: vip.Addr()})], Protocol: uint8(protocol)}
		key.AddrHi, key.AddrLo = flowhash.Halves(f.Replies.Addr())
		e := sourceEntry{key: key, returned: lbReturned{SeenNs: now, Region: region, SrcPort: f.Client.Port(), DstPort: vip.Port(), Flags: uint8(lbReturnedFlagsRETURNED_ANSWERED)}}
		e.returned.SrcHi, e.returned.SrcLo = flowhash.Halves(f.Client.Addr())
		e.source = lbSource{SeenNs: now, Tag: placeTag(place), Port: f.Source}
		flow := e.flow()
		if err := i.set.maps["returns"].Put(&e.key, &e.returned); err != nil {
			return err
		}
		if err := i.set.maps["sources"].Put(&flow, &e.source); err != nil {
			return err
		}
	}
	return nil
}

// An Established flow of full NAT.
type Established struct {
	Client, Replies netip.AddrPort
	Source          uint16
}
