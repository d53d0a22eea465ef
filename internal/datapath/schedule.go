package datapath

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A pool is what services of one name share, whatever their VIPs: the order in which backends get new
// flows, their loads, and the notes about clients. Its number is the region of the first of them.

// orderWords is the number of words of an order: its length, then four places to a word.
const orderWords = int(lbLimitsORDER_WORDS)

// validateSchedule refuses what would be an index out of range.
func validateSchedule(s *lb.Service) error {
	if s.Schedule == nil {
		return nil
	}
	if len(s.Schedule.Order) > lb.MaxOrder {
		return fmt.Errorf("an order of %d places: more than %d", len(s.Schedule.Order), lb.MaxOrder)
	}
	outside := func(place int16) bool { return !inRange(place, s) || place == lb.NoBackend }
	if slices.ContainsFunc(s.Schedule.Order, outside) || !inRange(s.Schedule.Sorry, s) {
		return errors.New("its order: no such backend")
	}
	return nil
}

// poolsOf returns the pool of each service, by index in want.Services.
func poolsOf(want *lb.State, regions []uint32) []uint32 {
	first := make(map[string]uint32)
	pools := slices.Clone(regions)
	for i := range want.Services {
		if s := &want.Services[i]; s.Forward != lb.ForwardLocal {
			if _, ok := first[s.Name]; !ok {
				first[s.Name] = regions[i]
			}
			pools[i] = first[s.Name]
		}
	}
	return pools
}

// schedule notes how new flows find their backends.
func (e *lbService) schedule(s *lb.Schedule, pool uint32) {
	e.Scheduler, e.Overflow = uint8(s.Scheduler), uint8(s.Overflow)
	e.Pool, e.Affinity = pool, uint32(s.Affinity/time.Second)
	e.Sorry = uint16(s.Sorry) & uint16(lbSlotLayoutSLOT_NOBODY)
}

// writeOrders stores the orders that differ. While one changes, a flow may find an entry of the old one.
func (s *mapSet) writeOrders(want *lb.State, pools []uint32) {
	for i := range want.Services {
		schedule := want.Services[i].Schedule
		if schedule == nil {
			continue
		}
		loads := s.loads.items[int(pools[i])*int(lbLimitsBACKENDS):][:lbLimitsBACKENDS]
		for place := range want.Services[i].Backends {
			b, load := &want.Services[i].Backends[place], &loads[place]
			atomic.StoreUint32(&load.Maxconn, uint32(b.MaxConn))
			atomic.StoreUint32(&load.Weight, uint32(b.Weight))
		}
		to := s.orders.items[int(pools[i])*orderWords:][:orderWords]
		words := make([]uint64, (len(schedule.Order)+3)/4)
		for n, place := range schedule.Order {
			words[n/4] |= uint64(place) << (n % 4 * 16)
		}
		length := uint64(len(schedule.Order))
		if length < to[0] {
			atomic.StoreUint64(&to[0], length)
		}
		for n, word := range words {
			if to[1+n] != word {
				atomic.StoreUint64(&to[1+n], word)
			}
		}
		atomic.StoreUint64(&to[0], length)
	}
}

// scheduled says whether the slots of a region are of a service that remembers its flows.
func (s *mapSet) scheduled(region uint32) bool {
	word := uint32(s.choices.items[int(region)*choiceWords])
	return lbSlotFlags(word>>lbSlotLayoutSLOT_FLAGS_SHIFT)&lbSlotFlagsSLOT_SCHEDULED != 0
}

// count adds a flow to the connections of its backend, if its service has them counted.
func (l *look) count(e *Exception) {
	if pool, ok := l.pools[e.Service]; ok && e.Counts {
		l.found[int(pool)*int(lbLimitsBACKENDS)+e.Backend]++
	}
}

// correctLoads makes the loads what a look at all flows found. What began and ended while it looked is
// counted already, and may or may not be among the flows; the next look sets that right. Of what was
// being opened, half is given up: it was seen again and counted, or never will be.
func (l *look) correctLoads() error {
	return l.d.resolve(func(s *mapSet) error {
		if l.renumbers || s != l.set {
			return nil // the next look knows
		}
		for i, found := range l.found {
			if before := l.before[i].Open; before != found {
				atomic.AddUint64(&s.loads.items[i].Open, found-before)
			}
			if opening := int64(l.before[i].Opening); opening != 0 {
				atomic.AddUint64(&s.loads.items[i].Opening, uint64(opening/2-opening))
			}
		}
		return nil
	})
}

// Loads returns the connections of the backends of services whose flows are remembered, by the
// service's name and the backend's place, as far as this director knows.
func (d *Datapath) Loads() (map[string][]int, error) {
	if d.maps == nil {
		return nil, nil
	}
	owners, err := d.maps.regionOwners()
	if err != nil {
		return nil, err
	}
	all := make(map[string][]int)
	for region, owner := range owners {
		if !owner.scheduled || owner.pool != region {
			continue
		}
		loads := make([]int, lbLimitsBACKENDS)
		for place := range loads {
			load := &d.maps.loads.items[int(region)*int(lbLimitsBACKENDS)+place]
			loads[place] = max(0, int(int64(atomic.LoadUint64(&load.Open))))
		}
		all[owner.service] = loads
	}
	return all, nil
}
