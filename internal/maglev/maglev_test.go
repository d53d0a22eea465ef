package maglev

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/lb"
)

func named(n int, weight func(i int) int) []Backend {
	list := make([]Backend, n)
	for i := range list {
		list[i] = Backend{fmt.Sprintf("web-%d", i+1), weight(i)}
	}
	return list
}

func equal(int) int { return 100 }

// mixed are weights as people give them: 10 to 256, of a few kinds.
func mixed(i int) int { return []int{100, 10, 256, 50, 100}[i%5] }

// Directors of different versions and architectures share a cluster: a change of this sum moves
// connections whose director changes.
func TestTablesAreTheSameForever(t *testing.T) {
	table := Build(lb.Slots, []Backend{{"b1", 100}, {"b2", 100}, {"b3", 50}, {"b4", 0}, {"b5", 65536}, {"b6", 1}})
	var b []byte
	for _, index := range table {
		b = binary.BigEndian.AppendUint16(b, uint16(index))
	}
	sum := sha256.Sum256(b)
	const want = "79ce684e524ce777"
	if got := hex.EncodeToString(sum[:8]); got != want {
		t.Errorf("the sum of the table is %s, want %s", got, want)
	}
}

// The definition of the paper, for weights that are equal: one after the other takes the slot that
// it likes best of those that are left.
func TestBackendsOfOneWeightTakeTurns(t *testing.T) {
	const slots = 13
	backends := named(3, equal)
	want := slices.Repeat([]int16{-1}, slots)
	places := rank(backends)
	walks := walks(slots, places)
	for turn := range slots {
		who := turn % len(places)
		for j := range uint32(slots) {
			if slot := (walks[who].next + j*walks[who].skip) % slots; want[slot] < 0 {
				want[slot] = places[who].index
				break
			}
		}
	}
	if diff := cmp.Diff(want, Build(slots, backends)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheOrderOfBackendsDoesNotMatter(t *testing.T) {
	backends := named(50, mixed)
	shuffled := slices.Clone(backends)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if diff := cmp.Diff(names(Build(lb.Slots, backends), backends), names(Build(lb.Slots, shuffled), shuffled)); diff != "" {
		t.Errorf("(-in order +shuffled):\n%s", diff)
	}
}

func names(table []int16, backends []Backend) []string {
	list := make([]string, len(table))
	for i, index := range table {
		list[i] = backends[index].Name
	}
	return list
}

func TestOnlyRatiosOfWeightsCount(t *testing.T) {
	backends := named(50, mixed)
	scaled := slices.Clone(backends)
	for i := range scaled {
		scaled[i].Weight *= 256
	}
	if diff := cmp.Diff(Build(lb.Slots, backends), Build(lb.Slots, scaled)); diff != "" {
		t.Errorf("(-once +256 times the weight):\n%s", diff)
	}
}

func TestWithoutAWeightNobodyHasASlot(t *testing.T) {
	nobody := slices.Repeat([]int16{-1}, 13)
	for _, backends := range [][]Backend{nil, {{"b1", 0}}} {
		if diff := cmp.Diff(nobody, Build(13, backends)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", backends, diff)
		}
	}
}

func TestEveryWeightHasASlot(t *testing.T) {
	backends := named(MaxBackends, func(i int) int { return max(1, i%2*MaxWeight) })
	for i, n := range shares(Build(lb.Slots, backends), len(backends)) {
		if n == 0 {
			t.Errorf("%s, of weight %d, has no slot", backends[i].Name, backends[i].Weight)
		}
	}
}

func shares(table []int16, backends int) []int {
	list := make([]int, backends)
	for _, index := range table {
		list[index]++
	}
	return list
}

// Slots are whole ones, which is most of what shares are off: within 1 % of the weights at 100
// backends of any weights, and at 1,000 of one weight.
func TestSharesFollowWeights(t *testing.T) {
	for _, c := range []struct {
		n       int
		weights string
		weight  func(int) int
		percent float64 // that a share may be off
	}{
		{2, "equal", equal, 0.01},
		{3, "mixed", mixed, 0.03},
		{10, "equal", equal, 0.1},
		{100, "equal", equal, 0.15},
		{100, "mixed", mixed, 1},
		{1000, "equal", equal, 1},
	} {
		backends := named(c.n, c.weight)
		ofMaglev := worst(Build(lb.Slots, backends), backends)
		t.Logf("%4d backends, %s weights: shares at most %.2f %% off; rendezvous %.2f %%",
			c.n, c.weights, ofMaglev, worst(rendezvous(backends), backends))
		if ofMaglev > c.percent {
			t.Errorf("more than %g %%", c.percent)
		}
	}
}

// worst is by how many percent of what it should have a backend has more or less.
func worst(table []int16, backends []Backend) float64 {
	total := 0
	for _, b := range backends {
		total += b.Weight
	}
	worst := 0.0
	for i, n := range shares(table, len(backends)) {
		want := lb.Slots * float64(backends[i].Weight) / float64(total)
		worst = max(worst, 100*math.Abs(float64(n)-want)/want)
	}
	return worst
}

// rendezvous is what Maglev is compared with: the lowest -log(u)/weight has the slot.
func rendezvous(backends []Backend) []int16 {
	table := make([]int16, lb.Slots)
	lowest := slices.Repeat([]float64{math.Inf(1)}, lb.Slots)
	for i, b := range backends {
		if b.Weight == 0 {
			continue
		}
		sum := sha256.Sum256([]byte(b.Name))
		random := rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), 1))
		for slot := range table {
			if score := -math.Log(1-random.Float64()) / float64(b.Weight); score < lowest[slot] {
				lowest[slot], table[slot] = score, int16(i)
			}
		}
	}
	return table
}

// What has to move when a backend goes is what it had, and what it gets when it comes. Maglev moves
// some more, the same ones there and back: the table follows from who is there alone.
func TestFewOthersMoveWhenABackendGoesOrComes(t *testing.T) {
	for _, c := range []struct {
		n       int
		weights string
		weight  func(int) int
	}{
		{10, "equal", equal}, {100, "equal", equal}, {100, "mixed", mixed}, {1000, "equal", equal},
	} {
		backends := named(c.n, c.weight)
		before := Build(lb.Slots, backends)
		most, sum, trials := 0.0, 0.0, min(c.n, 100)
		for gone := range trials {
			rest := slices.Clone(backends)
			rest[gone].Weight = 0
			extra := 0
			for slot, index := range Build(lb.Slots, rest) {
				if index != before[slot] && int(before[slot]) != gone {
					extra++
				}
			}
			percent := 100 * float64(extra) / lb.Slots
			most, sum = max(most, percent), sum+percent
		}
		t.Logf("%4d backends, %s weights, one goes or comes: %.2f %% of the slots move besides its own, at most %.2f %%",
			c.n, c.weights, sum/float64(trials), most)
		if most > 1 {
			t.Error("more than 1 %")
		}
	}
}

func TestFewMoveWhenAWeightChanges(t *testing.T) {
	backends := named(100, equal)
	before := Build(lb.Slots, backends)
	for _, weight := range []int{99, 90, 50} {
		lighter := slices.Clone(backends)
		lighter[0].Weight = weight
		moved := 0
		for slot, index := range Build(lb.Slots, lighter) {
			if index != before[slot] {
				moved++
			}
		}
		needed := lb.Slots/100.0 - lb.Slots*float64(weight)/float64(99*100+weight)
		t.Logf("weight 100 -> %d of one of 100: %d slots move, %.0f had to", weight, moved, needed)
		if extra := float64(moved) - needed; extra > lb.Slots/100 {
			t.Errorf("%.0f more than needed", extra)
		}
	}
}

func BenchmarkBuildOf1000Backends(b *testing.B) {
	for name, weight := range map[string]func(int) int{"equal": equal, "mixed": mixed, "all different": func(i int) int { return 256 + i }} {
		backends := named(1000, weight)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Build(lb.Slots, backends)
			}
		})
	}
}
