package ownership

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/lb"
)

func setOfDensity(density float64) Set {
	random := rand.New(rand.NewPCG(1, 2))
	var s Set
	for b := range lb.Buckets {
		if random.Float64() < density {
			s.Add(b)
		}
	}
	return s
}

// oneOfEach is a message of each kind with all of its fields set.
func oneOfEach() []Message {
	parts := []Part{{"", SetOf(0, 7, 63, 64, lb.Buckets-1)}, {"web", setOfDensity(0.03)}}
	maybe := Maybe{Life: 11, Number: 5, Parts: parts, Kept: parts[:1]}
	record := Record{
		Name: "n1", Life: 1 << 60, Version: 3, Dead: true, Stage: StageMember, Waiting: true, Leaving: true,
		Lineage: Lineage{9, "n2"}, Config: 0xfedcba9876543210, Meta: []byte{1, 2}, Signature: []byte{3, 4},
		Weights: map[string]Weight{"": {Weight: 100, Healthy: true, MinNodes: 1}, "web": {lb.MaxWeight, false, 2, Whole{true, 7, true, Choice{1 << 60, "n2"}}}},
	}
	return []Message{
		State{11, 12, 13, Side{3, Lineage{9, "n2"}, "n1"}, []Record{record, {Name: "n2", Life: 1}}, []Leaves{{"n3", 1, 2, time.Second}}},
		Opinion{11, 12, []Ref{{"n1", 1}}},
		maybe,
		Offer{11, 12, 13, 14, parts, []Witnessed{{"n3", 4, 5, parts}}},
		Taken{11, 12, 13},
		Refused{11, 12, 13, maybe},
		Released{11, 12, 13, maybe},
		Claim{11, 12, 13, parts},
		Grant{11, 12, 13, 14, parts, maybe},
		Absent{11, 12, time.Second},
		AbsentGranted{11, 12, 13},
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	for _, want := range oneOfEach() {
		b, err := want.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unmarshal(b)
		if err != nil {
			t.Fatalf("%T: %v", want, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%T: (-sent +read)\n%s", want, diff)
		}
		for n := range b {
			if _, err := Unmarshal(b[:n]); err == nil {
				t.Errorf("%T: %d of %d bytes were taken for a message", want, n, len(b))
			}
		}
		if _, err := Unmarshal(append(b, 0)); err == nil {
			t.Errorf("%T: a byte too many was taken", want)
		}
	}
}

func TestSetsAreWrittenTheShortWay(t *testing.T) {
	for _, test := range []struct {
		density float64
		most    int
	}{
		{0, 3}, {1. / 32, 2300}, {1. / 3, lb.Buckets/8 + 4}, {1, lb.Buckets/8 + 4},
	} {
		want := setOfDensity(test.density)
		b := appendSet(nil, want)
		if len(b) > test.most {
			t.Errorf("density %v: %d bytes, at most %d", test.density, len(b), test.most)
		}
		r := &reader{rest: b}
		if got := r.set(); r.err != nil || !got.Equal(want) {
			t.Errorf("density %v: read %d buckets of %d, %v", test.density, got.Len(), want.Len(), r.err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range oneOfEach() {
		b, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Unmarshal(b)
		if err != nil {
			return
		}
		again, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Unmarshal(again)
		if err != nil {
			t.Fatalf("%#v is not read: %v", m, err)
		}
		if diff := cmp.Diff(m, back, cmpopts.EquateEmpty(), cmp.Comparer(Set.Equal)); diff != "" {
			t.Errorf("(-read +read again)\n%s", diff)
		}
	})
}
