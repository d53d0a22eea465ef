package datapath_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
)

// sampleBytes is how much of a frame a sample has.
const sampleBytes = 96

// With a sample of one in one every drop is told of, with its reason, place and first bytes; but for
// those that are another node's, which every node drops all the time.
func TestDropsAreSampledUnlessAnotherNodeTakesThem(t *testing.T) {
	state := world()
	state.SampleDrops = 1
	instance := instanceOf(t, state)
	sampler, err := instance.Sampler()
	if err != nil {
		t.Fatal(err)
	}
	defer sampler.Close()
	take := func() []datapath.Drop {
		drops, err := sampler.Take()
		if err != nil {
			t.Fatal(err)
		}
		for i := range drops {
			drops[i].Ago = 0
		}
		return drops
	}
	sampled := make(map[string]int)
	for _, fix := range fixtures() {
		for _, frame := range append(fix.before, fix.frame) {
			take()
			if _, err := instance.Run(frame, ingress); err != nil {
				t.Fatal(err)
			}
		}
		var want []datapath.Drop
		if fix.want.action == actionDrop && !strings.HasSuffix(fix.want.reason, "not-owner") {
			want = []datapath.Drop{{
				Interface: "lo",
				Scope:     fix.want.scope,
				Reason:    reasonNamed(t, fix.want.reason),
				Length:    len(fix.frame),
				Frame:     fix.frame[:min(len(fix.frame), sampleBytes)],
			}}
			sampled[fix.want.reason]++
		}
		if diff := cmp.Diff(want, take()); diff != "" {
			t.Errorf("%s: sampled (-want +got):\n%s", fix.sentence, diff)
		}
	}
	t.Logf("sampled: %v", sampled)
}

func reasonNamed(t *testing.T, name string) datapath.Reason {
	t.Helper()
	for _, r := range datapath.Reasons() {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no reason %s", name)
	return datapath.Reason{}
}
