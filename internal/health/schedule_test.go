package health

import (
	"fmt"
	"testing"
	"time"
)

func TestTheSameSeedGivesTheSameTimes(t *testing.T) {
	a, b := NewSchedule("n1 web http"), NewSchedule("n1 web http")
	for i := range 100 {
		if x, y := a.Next(time.Second), b.Next(time.Second); x != y {
			t.Fatalf("wait %d: %s and %s", i, x, y)
		}
	}
}

// Of 10,000 checks in 10 parts of the interval, each part gets 1,000 with a standard deviation of
// 30.
func TestFirstProbesAreSpreadOverTheInterval(t *testing.T) {
	var parts [10]int
	for i := range 10000 {
		first := NewSchedule(fmt.Sprintf("n%d web http", i)).First(10 * time.Second)
		parts[first/time.Second]++
	}
	for i, n := range parts {
		if n < 850 || n > 1150 {
			t.Errorf("part %d has %d of 10000 checks", i, n)
		}
	}
}

func TestIntervalsVaryByATwentiethAndNotOnAverage(t *testing.T) {
	const interval, n = 2 * time.Second, 10000
	s := NewSchedule("n1 web http")
	shortest, longest, sum := interval, interval, time.Duration(0)
	for range n {
		next := s.Next(interval)
		shortest, longest, sum = min(shortest, next), max(longest, next), sum+next
	}
	if shortest < interval-interval/20 || longest > interval+interval/20 || longest-shortest < interval*9/100 {
		t.Errorf("from %s to %s", shortest, longest)
	}
	if mean := sum / n; mean < interval*999/1000 || mean > interval*1001/1000 {
		t.Errorf("%s on average", mean)
	}
}

func TestTheShortestIntervalsAreNoPanic(t *testing.T) {
	s := NewSchedule("")
	for _, interval := range []time.Duration{0, 1, 19, 20} {
		if first, next := s.First(interval), s.Next(interval); first < 0 || next < 0 {
			t.Errorf("interval %d: first %d, next %d", interval, first, next)
		}
	}
}
