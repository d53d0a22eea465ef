package rendezvous

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lbctl/lbctl/internal/lb"
)

func TestTheTableOfLogarithmsIsRounded(t *testing.T) {
	for i, got := range log2Table() {
		want := math.Round(math.Log2(1+float64(i)/log2Steps) * (1 << log2Fraction))
		if float64(got) != want {
			t.Errorf("log2(1 + %d/%d): %d, want %.0f", i, log2Steps, got, want)
		}
	}
}

// The widest step of the table is the first: a chord is below the curve by at most
// step²/8·log2(e) = 1.72e-7, 12 units.
func TestLogarithmsAreInterpolatedToTwelveUnits(t *testing.T) {
	b := NewBuilder()
	random := rand.New(rand.NewPCG(1, 2))
	inputs := []uint64{0, 1, 2, 3, math.MaxUint64, math.MaxUint64 - 1, 1 << 63, 1<<63 - 1}
	for range 100_000 {
		inputs = append(inputs, random.Uint64()>>random.IntN(64))
	}
	for _, x := range inputs {
		want := (64 - math.Log2(float64(x|2))) * (1 << log2Fraction)
		if got := float64(b.minusLog2(x)); math.Abs(got-want) > 12+2 {
			t.Fatalf("-log2(%#x / 2^64): %.0f units, want %.1f", x, got, want)
		}
	}
}

// A draw of 0 would win against every weight.
func TestNoDrawIsZero(t *testing.T) {
	b := NewBuilder()
	if got := b.minusLog2(math.MaxUint64); got == 0 {
		t.Error("the largest number gave 0")
	}
}

func TestAHigherWeightNeverScoresHigher(t *testing.T) {
	for weight := 1; weight < lb.MaxWeight; weight++ {
		if inverse(weight+1) > inverse(weight) {
			t.Errorf("inverse(%d) = %d is below inverse(%d) = %d", weight, inverse(weight), weight+1, inverse(weight+1))
		}
	}
	const highest = 63 << log2Fraction
	if got := score(highest, inverse(1), rankMask); got < inverse(1) {
		t.Errorf("the highest score overflowed to %d", got)
	}
}

func TestMemoryIsBoundWhenNodesComeAndGo(t *testing.T) {
	b := NewBuilder()
	nodes := nodesNamed(100)
	for i := range len(nodes) - 3 {
		b.Build(nodes[i : i+3])
	}
	if got := len(b.draws); got > lb.MaxNodes+3 {
		t.Errorf("%d nodes are remembered", got)
	}
}
