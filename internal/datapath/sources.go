package datapath

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// Full NAT. A flow leaves from a port of its VIP; who may give out a port is decided here, and so is when
// a flow has ended. The program does the rest, see bpf/include/sources.h.

// sourcePorts are those that flows of full NAT leave from.
var sourcePorts = lb.SourcePorts

// quarantine is how long the port of a flow that ended is nobody's: as long as the backend may have the
// connection in TIME-WAIT.
const quarantine = time.Duration(lbLimitsQUARANTINE_SECONDS) * time.Second

// sourceSlots are those of a VIP's services that replies to its source ports meet.
func sourceSlots(s *lb.Service, vip *lbVip) []lbService {
	var slots []lbService
	for _, prefix := range prefixes(sourcePorts) {
		if s.Protocol == lb.ProtocolTCP {
			vip.TcpLengths |= 1 << prefix.Length
		} else {
			vip.UdpLengths |= 1 << prefix.Length
		}
		slots = append(slots, lbService{
			Selector: selector(vip.Scope, s.Protocol, prefix),
			Scope:    vip.Scope,
			Forward:  uint8(lbMethodFORWARD_RETURN),
		})
	}
	return slots
}

// ownBlocks are the blocks of source ports that this director gives out: each is one node's, dead or
// alive, so that nobody gives out again what a node that is gone for a while has given. Blocks with a port
// of a service are nobody's. None where no service is full NAT.
func ownBlocks(want *lb.State) []uint16 {
	if !slices.ContainsFunc(want.Services, func(s lb.Service) bool { return s.SourceNAT }) {
		return nil
	}
	names := make([]uint64, len(want.Nodes))
	for i := range want.Nodes {
		hash := fnv.New64a()
		hash.Write([]byte(want.Nodes[i].Name))
		names[i] = hash.Sum64()
	}
	var own []uint16
	for block := range int(lbLimitsSOURCE_BLOCKS) {
		best, score := -1, uint64(0)
		for i, name := range names {
			if s := mixed(name, uint64(block)); best < 0 || s > score {
				best, score = i, s
			}
		}
		if best >= 0 && want.Nodes[best].Local && !hasPorts(want, blockPorts(block)) {
			own = append(own, uint16(block))
		}
	}
	return own
}

// mixed is a score as random as its arguments are different: the finisher of MurmurHash3.
func mixed(name, block uint64) uint64 {
	h := name ^ (block+1)*0x9e3779b97f4a7c15
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func blockPorts(block int) lb.PortRange {
	first := sourcePorts.First + uint16(block)*uint16(lbLimitsSOURCE_BLOCK)
	return lb.PortRange{First: first, Last: first + uint16(lbLimitsSOURCE_BLOCK) - 1}
}

// hasPorts says whether a service of a VIP with full NAT has one of the ports: a client's packet to it
// could not be told from a reply.
func hasPorts(want *lb.State, ports lb.PortRange) bool {
	for i := range want.Services {
		full := &want.Services[i]
		if !full.SourceNAT {
			continue
		}
		for j := range want.Services {
			s := &want.Services[j]
			if s.VIP == full.VIP && s.Protocol == full.Protocol && slices.ContainsFunc(s.Ports, func(r lb.PortRange) bool {
				return r.First <= ports.Last && ports.First <= r.Last
			}) {
				return true
			}
		}
	}
	return false
}

// writeSources says which blocks are ours.
func (s *mapSet) writeSources(own []uint16) {
	d := s.published()
	if n := uint64(len(own)); n < atomic.LoadUint64(&d.SourceBlocks) {
		atomic.StoreUint64(&d.SourceBlocks, n)
	}
	copy(d.OwnBlocks[:], own)
	atomic.StoreUint64(&d.SourceBlocks, uint64(len(own)))
}

// A sourceEntry is a flow of full NAT as the maps have it.
type sourceEntry struct {
	key      lbReturnKey
	returned lbReturned
	source   lbSource
	known    bool // there is a source
}

func (e *sourceEntry) flow() lbNotedFlow {
	return lbNotedFlow{
		SrcHi: e.returned.SrcHi, SrcLo: e.returned.SrcLo, Region: e.returned.Region,
		SrcPort: e.returned.SrcPort, DstPort: e.returned.DstPort, Protocol: e.key.Protocol,
	}
}

// isOver says whether the flow has ended, as is_over of sources.h.
func (e *sourceEntry) isOver() bool {
	const both = uint8(lbReturnedFlagsRETURNED_CLIENT_FIN | lbReturnedFlagsRETURNED_BACKEND_FIN)
	return e.returned.Flags&uint8(lbReturnedFlagsRETURNED_RESET) != 0 || e.returned.Flags&both == both
}

// seen is when either side sent something by this director, spoke is the same by any director.
func (e *sourceEntry) seen() time.Duration {
	return max(time.Duration(e.returned.SeenNs), time.Duration(e.source.SeenNs))
}

func (e *sourceEntry) spoke() time.Duration {
	return max(e.seen(), time.Duration(e.source.HeardNs))
}

// readSources reads the flows of full NAT that were established.
func readSources(all map[string]*ebpf.Map) ([]sourceEntry, error) {
	known := make(map[lbNotedFlow]lbSource)
	for b, err := range batches[lbNotedFlow, lbSource](all["sources"]) {
		if err != nil {
			return nil, fmt.Errorf("read sources: %w", err)
		}
		for i := range b.keys {
			known[b.keys[i]] = b.values[i]
		}
	}
	var list []sourceEntry
	for b, err := range batches[lbReturnKey, lbReturned](all["returns"]) {
		if err != nil {
			return nil, fmt.Errorf("read returns: %w", err)
		}
		for i := range b.keys {
			e := sourceEntry{key: b.keys[i], returned: b.values[i]}
			if e.source, e.known = known[e.flow()]; e.known && e.source.Port != e.key.Source {
				e.source, e.known = lbSource{}, false
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// sourced calls do for the flows of full NAT, and has those forgotten that have ended, that were silent
// for longer than they may be, or whose backend is gone.
func (l *look) sourced(do func(*Exception), forget bool) error {
	entries, err := readSources(l.maps)
	if err != nil {
		return err
	}
	now := Monotonic()
	for entries := range slices.Chunk(entries, readAtOnce) {
		var list []Exception
		var ended []sourceEntry
		err := l.each(len(entries), func(s *mapSet, i int) {
			e := &entries[i]
			x, ok := s.sourcedException(l.owners, flowhash.Keys(s.keys(halfOf(s.word()))), e, now)
			silent := max(0, now-e.spoke())
			switch {
			case !ok && (e.known || silent >= quarantine), e.isOver() && silent >= quarantine:
				ended = append(ended, *e)
			case ok:
				list = append(list, x)
			}
		})
		if err != nil {
			return err
		}
		for i := range list {
			do(&list[i])
		}
		if forget {
			if err := l.forgetSources(ended); err != nil {
				return err
			}
		}
	}
	return nil
}

// sourcedException is a flow whose place is known: one that is not over has a backend there is a way to.
func (s *mapSet) sourcedException(owners map[uint32]regionOwner, keys flowhash.Keys, e *sourceEntry, now time.Duration) (Exception, bool) {
	owner, ok := owners[e.returned.Region]
	if !ok || !e.known || uint32(e.source.Place) >= uint32(lbLimitsBACKENDS) {
		return Exception{}, false
	}
	x := Exception{
		Service: owner.service, Protocol: lb.Protocol(e.key.Protocol), Backend: int(e.source.Place),
		Remote: netip.AddrPortFrom(address(e.returned.SrcHi, e.returned.SrcLo), e.returned.SrcPort),
		Local:  netip.AddrPortFrom(owner.vip, e.returned.DstPort),
		Addr:   address(e.key.AddrHi, e.key.AddrLo), Silent: max(0, now-e.spoke()), Source: e.key.Source, Over: e.isOver(),
	}
	hash := keys.Sum(owner.mask, x.Remote.Addr(), x.Remote.Port(), x.Local.Port())
	x.Slot = int(hash >> 32 * uint64(lb.Slots) >> 32)
	current, _, mark := s.slot(e.returned.Region, x.Slot)
	x.Current, x.Mark = int(current) == x.Backend, mark
	idle := owner.udpIdle
	if x.Protocol == lb.ProtocolTCP {
		idle = owner.tcpIdle
	}
	place := &s.backends.items[e.returned.Region*uint32(lbLimitsBACKENDS)+uint32(e.source.Place)]
	x.Port = place.Port
	return x, x.Silent <= idle+TellWithin && place.Ifindex != 0 && placeTag(place) == e.source.Tag
}

// placeTag is tag_of of sources.h.
func placeTag(b *lbBackend) uint32 {
	return uint32((b.AddrHi ^ b.AddrLo ^ uint64(b.Port)<<48) * 0x9e3779b97f4a7c15 >> 32)
}

// forgetSources takes out flows unless something came of them since they were read.
func (l *look) forgetSources(ended []sourceEntry) error {
	for i := range ended {
		e := &ended[i]
		flow := e.flow()
		var now sourceEntry
		if err := l.maps["returns"].Lookup(&e.key, &now.returned); err != nil || now.returned != e.returned {
			continue
		}
		var errs [2]error
		if e.known {
			if err := l.maps["sources"].Lookup(&flow, &now.source); err == nil && now.source != e.source {
				continue
			}
			errs[0] = l.maps["sources"].Delete(&flow)
		}
		errs[1] = l.maps["returns"].Delete(&e.key)
		for _, err := range errs {
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("forget a flow of full NAT: %w", err)
			}
		}
	}
	return nil
}
