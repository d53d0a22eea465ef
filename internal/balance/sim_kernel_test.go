package balance

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/lbctl/lbctl/internal/lb"
)

// A kernel does with packets what the datapath does: the rules of slots, in Go. What it remembers
// is never lost to others, as it is there when too many flows share a place.
type kernel struct {
	rules    Rules
	places   []Place
	choice   *lb.Choice
	records  map[int]record // by flow: "exceptions"
	glimpses map[int]record // by flow: seen once, or opened; "opened"
}

// A record says where a flow is.
type record struct {
	slot    int
	backend int16
	at      time.Duration
	keep    time.Duration // for how long it counts after at
	syn     bool          // all that was seen; only a moving slot looks for such
}

// live is for how long after its last packet no SYN moves a connection.
const live = 20 * time.Second

func (r record) valid(now time.Duration) bool { return now-r.at <= r.keep }

// apply makes an Output the one in force.
func (k *kernel) apply(rules Rules, out Output) {
	k.rules, k.places, k.choice = rules, out.Places, out.Choice
	for _, records := range []map[int]record{k.records, k.glimpses} {
		for flow, r := range records {
			if !k.usable(r.backend) {
				delete(records, flow)
			}
		}
	}
}

func (k *kernel) usable(backend int16) bool {
	return backend != lb.NoBackend && int(backend) < len(k.places) &&
		k.places[backend].Name != "" && !k.places[backend].Dead
}

func (k *kernel) idle(udp bool) time.Duration {
	if udp {
		return k.rules.UDPIdle
	}
	return k.rules.TCPIdle
}

// packet returns where a packet of a flow goes.
func (k *kernel) packet(now time.Duration, flow, slot int, udp, syn bool) int16 {
	current, previous, mark := k.choice.Current[slot], int16(lb.NoBackend), lb.SlotMark(0)
	if k.choice.Previous != nil {
		previous = k.choice.Previous[slot]
	}
	if k.choice.Marks != nil {
		mark = k.choice.Marks[slot]
	}
	if mark == 0 {
		return current
	}
	if syn {
		if r, ok := k.records[flow]; ok && now-r.at <= live {
			return r.backend
		}
		delete(k.records, flow)
		delete(k.glimpses, flow)
		if current != lb.NoBackend && mark&lb.SlotMoving != 0 {
			k.glimpses[flow] = record{slot, current, now, Opening, true}
		}
		return current
	}
	if r, ok := k.records[flow]; ok && r.valid(now) {
		return k.note(now, flow, r.slot, r.backend, udp)
	}
	if r, ok := k.glimpses[flow]; ok && r.valid(now) && (!r.syn || mark&lb.SlotMoving != 0) {
		return k.note(now, flow, r.slot, r.backend, udp)
	}
	if !udp && mark&lb.SlotMoving != 0 && previous != lb.NoBackend {
		current = previous
	}
	switch {
	case current == lb.NoBackend:
	case udp && mark&lb.SlotNoting != 0:
		k.glimpses[flow] = record{slot, current, now, k.idle(udp), false}
	case !udp && mark&lb.SlotMoving != 0:
		k.glimpses[flow] = record{slot, current, now, k.idle(udp), false}
	}
	return current
}

func (k *kernel) note(now time.Duration, flow, slot int, backend int16, udp bool) int16 {
	k.records[flow] = record{slot, backend, now, k.idle(udp), false}
	delete(k.glimpses, flow)
	return backend
}

// look is what lbd finds in the records.
func (k *kernel) look(now time.Duration) *Seen {
	seen := &Seen{Began: now, Slots: make([]bool, len(k.choice.Current)), Flows: make([]int, len(k.places))}
	for flow, r := range k.records {
		if !r.valid(now) {
			delete(k.records, flow)
			continue
		}
		if k.choice.Current[r.slot] != r.backend {
			seen.Slots[r.slot] = true
		}
		seen.Flows[r.backend]++
	}
	return seen
}

// A server is what flows are at, for as long as it lives.
type server struct {
	addr netip.Addr
	life int
}

func (s server) String() string { return fmt.Sprintf("%v (life %d)", s.addr, s.life) }
