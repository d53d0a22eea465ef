package balance

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

func placesOf(weights ...int) []Place {
	places := make([]Place, len(weights))
	for i, w := range weights {
		places[i].Weight = w
	}
	return places
}

func TestAnOrderHasEachBackendAsOftenAsItsWeightSays(t *testing.T) {
	dead := placesOf(100, 100, 100)
	dead[1].Dead = true
	many := slices.Repeat([]int{7}, 17)
	for _, test := range []struct {
		name      string
		places    []Place
		scheduler lb.Scheduler
		want      []int16
	}{
		{"of one weight", placesOf(100, 100, 100), lb.SchedulerRoundRobin, []int16{0, 1, 2}},
		{"spread evenly", placesOf(300, 200, 100), lb.SchedulerRoundRobin, []int16{0, 1, 0, 2, 1, 0}},
		{"by the common divisor", placesOf(50, 0, 250), lb.SchedulerRandom, []int16{2, 2, 0, 2, 2, 2}},
		{"none of the dead", dead, lb.SchedulerRoundRobin, []int16{0, 2}},
		{"of nobody", placesOf(0, 0), lb.SchedulerRoundRobin, []int16{}},
		{"all, where all are looked at", placesOf(300, 200, 0, 100), lb.SchedulerLeastConn, []int16{0, 1, 3}},
		{"else as for the others", placesOf(append(many, 14)...), lb.SchedulerLeastConn,
			[]int16{17, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}},
	} {
		if diff := cmp.Diff(test.want, new(Orderer).Order(test.places, test.scheduler)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAnOrderOfManyWeightsIsNearlyExact(t *testing.T) {
	places := make([]Place, lb.MaxBackends)
	total := 0
	for i := range places {
		places[i].Weight = 1 + i*37%lb.MaxWeight
		total += places[i].Weight
	}
	order := new(Orderer).Order(places, lb.SchedulerRoundRobin)
	if len(order) > lb.MaxOrder {
		t.Fatalf("%d places are more than %d", len(order), lb.MaxOrder)
	}
	count := make([]int, len(places))
	for _, place := range order {
		count[place]++
	}
	for i, n := range count {
		want := max(1, float64(places[i].Weight)*lb.MaxOrder/float64(total))
		if off := math.Abs(float64(n) - want); n < 1 || off > 0.5+0.04*want {
			t.Errorf("place %d of weight %d: %d turns, want %.1f", i, places[i].Weight, n, want)
		}
	}
}

func TestAnOrderIsMadeAnewOnlyIfItIsAnotherOne(t *testing.T) {
	var o Orderer
	first := o.Order(placesOf(3, 2, 1), lb.SchedulerRoundRobin)
	if again := o.Order(placesOf(3, 2, 1), lb.SchedulerRoundRobin); &first[0] != &again[0] {
		t.Error("the same order was made anew")
	}
	if other := o.Order(placesOf(3, 2, 2), lb.SchedulerRoundRobin); len(other) != 7 {
		t.Errorf("with another weight: %v", other)
	}
	if other := o.Order(placesOf(3, 2, 2), lb.SchedulerLeastConn); len(other) != 3 {
		t.Errorf("with another scheduler: %v", other)
	}
}
