package flowhash

import (
	"math"
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/lb"
)

var seed = [32]byte{1, 2, 3, 4}

// The values are the definition: a node of another version or byte order must get the same.
func TestSumsNeverChange(t *testing.T) {
	keys := NewKeys(seed)
	for _, test := range []struct {
		src  string
		want uint64
	}{
		{"192.0.2.1", 0x4e741e819a711956},
		{"2001:db8::1", 0x3ef08d6debb04766},
	} {
		src := netip.MustParseAddr(test.src)
		got := keys.Sum(NewMask(lb.HashSourcePort, src.Is4()), src, 40000, 80)
		if got != test.want {
			t.Errorf("%s: %#x, want %#x", src, got, test.want)
		}
	}
}

func TestOnlyNamedFieldsTakePart(t *testing.T) {
	keys := NewKeys(seed)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.99")
	sum := func(h lb.HashFields, src netip.Addr, sport, dport uint16) uint64 {
		return keys.Sum(NewMask(h, true), src, sport, dport)
	}
	net24 := lb.HashFields{SourceBits4: 24, SourceBits6: 64}
	for _, test := range []struct {
		name string
		x, y uint64
		same bool
	}{
		{"source ignores ports", sum(lb.HashSource, a, 1, 2), sum(lb.HashSource, a, 3, 4), true},
		{"source sees the address", sum(lb.HashSource, a, 1, 2), sum(lb.HashSource, b, 1, 2), false},
		{"source+port sees the source port", sum(lb.HashSourcePort, a, 1, 2), sum(lb.HashSourcePort, a, 3, 2), false},
		{"source+port ignores the destination port", sum(lb.HashSourcePort, a, 1, 2), sum(lb.HashSourcePort, a, 1, 4), true},
		{"source+port+dest-port sees both", sum(lb.HashSourcePortDestPort, a, 1, 2), sum(lb.HashSourcePortDestPort, a, 1, 4), false},
		{"source-net keeps a network together", sum(net24, a, 1, 2), sum(net24, b, 3, 4), true},
	} {
		if (test.x == test.y) != test.same {
			t.Errorf("%s: %#x and %#x", test.name, test.x, test.y)
		}
	}
}

// The ports of one client are a sequence; 65,536 of them into 256 cells must look like chance:
// chi-squared with 255 degrees of freedom stays under 330 with probability 0.999.
func TestSequencesSpreadLikeChance(t *testing.T) {
	keys := NewKeys(seed)
	m := NewMask(lb.HashSourcePort, true)
	var cells [256]int
	src := netip.MustParseAddr("192.0.2.1")
	for port := range 65536 {
		cells[Bucket(keys.Sum(m, src, uint16(port), 80))>>8]++
	}
	chi := 0.0
	for _, n := range cells {
		chi += math.Pow(float64(n)-256, 2) / 256
	}
	if chi > 330 {
		t.Errorf("chi-squared %.0f, want under 330", chi)
	}
}
