package balance

import (
	"cmp"
	"slices"

	"github.com/lbctl/lbctl/internal/lb"
)

// lookAtAll is how many backends the datapath compares for SchedulerLeastConn; of more, it draws some
// from the order.
const lookAtAll = 16

// An Orderer makes the order in which backends get new flows, and keeps it until it is another one.
// The zero value is ready.
type Orderer struct {
	scheduler lb.Scheduler
	weights   []int
	order     []int16
}

// Order returns the places that take new flows, each as often as its weight says, spread evenly:
// lb.Schedule.Order. Directors with equal weights have equal orders.
func (o *Orderer) Order(places []Place, scheduler lb.Scheduler) []int16 {
	weights := make([]int, len(places))
	for i := range places {
		if p := &places[i]; !p.Dead {
			weights[i] = p.Weight
		}
	}
	if o.order == nil || o.scheduler != scheduler || !slices.Equal(o.weights, weights) {
		o.scheduler, o.weights, o.order = scheduler, weights, order(weights, scheduler)
	}
	return o.order
}

func order(weights []int, scheduler lb.Scheduler) []int16 {
	turns := turnsOf(weights)
	if scheduler == lb.SchedulerLeastConn {
		once := make([]int, len(turns))
		for i := range turns {
			once[i] = min(turns[i], 1)
		}
		if all := interleave(once); len(all) <= lookAtAll {
			return all
		}
	}
	return interleave(turns)
}

// turnsOf is how often each has a turn: as its weight by the common divisor of all, or as near to that
// as lb.MaxOrder allows, and never less than once.
func turnsOf(weights []int) []int {
	divisor, total, takes := 0, 0, 0
	for _, w := range weights {
		if w > 0 {
			divisor, takes = gcd(w, divisor), takes+1
			total += w
		}
	}
	turns := make([]int, len(weights))
	for i, w := range weights {
		switch {
		case w == 0:
		case total/divisor <= lb.MaxOrder:
			turns[i] = w / divisor
		default:
			turns[i] = max(1, (w*(lb.MaxOrder-takes)+total/2)/total)
		}
	}
	return turns
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// interleave spreads the turns of each evenly: the k-th of n is at (k + 1/2) / n of the whole.
func interleave(turns []int) []int16 {
	type turn struct {
		at    uint64
		place int16
	}
	var list []turn
	for place, n := range turns {
		for k := range n {
			list = append(list, turn{(2*uint64(k) + 1) << 32 / (2 * uint64(n)), int16(place)})
		}
	}
	slices.SortStableFunc(list, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	order := make([]int16, len(list))
	for i := range list {
		order[i] = list[i].place
	}
	return order
}
