package ownership

import (
	"slices"
	"testing"
)

func TestSetsDoWhatSetsDo(t *testing.T) {
	a, b := SetOf(1, 64, 200), SetOf(64, 65)
	union := slices.Clone(a)
	union.AddAll(b)
	for _, test := range []struct {
		name string
		got  Set
		want []int
	}{
		{"union", union, []int{1, 64, 65, 200}},
		{"and", a.And(b), []int{64}},
		{"without", a.Without(b), []int{1, 200}},
		{"without, shorter", b.Without(a), []int{65}},
		{"nothing", Set(nil).And(a), nil},
	} {
		if got := slices.Collect(test.got.All()); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if !test.got.Equal(SetOf(test.want...)) || !SetOf(test.want...).Equal(test.got) {
			t.Errorf("%s: is not equal to itself", test.name)
		}
		if test.got.Len() != len(test.want) || test.got.Empty() != (len(test.want) == 0) {
			t.Errorf("%s: %d buckets, empty %v", test.name, test.got.Len(), test.got.Empty())
		}
	}
	if a.max() != 200 || Set(nil).max() != -1 || a.Equal(b) || a.Has(1000) || !a.Has(200) {
		t.Error("max, Equal or Has is wrong")
	}
}

// A machine asks all the time what is missing or too much, and mostly nothing is.
func TestNothingLeftOfASetTakesNoMemory(t *testing.T) {
	small, large := SetOf(1, 64, 200), SetOf(1, 2, 64, 200, 4095)
	for _, pair := range [][2]Set{{small, large}, {small, small}, {nil, small}, {append(slices.Clone(small), 0, 0), small}} {
		var rest Set
		if n := testing.AllocsPerRun(100, func() { rest = pair[0].Without(pair[1]) }); n != 0 || !rest.Empty() {
			t.Errorf("%v without %v: %v, and %v allocations", pair[0], pair[1], rest, n)
		}
	}
}
