package cluster

import (
	"testing"
	"time"
)

func TestGossipIsAsQuickAsADeathMayBe(t *testing.T) {
	lan, wan := presets[LAN], presets[WAN]
	half := lan
	half.probeInterval, half.probeTimeout, half.gossipInterval = 30*time.Millisecond, 15*time.Millisecond, 10*time.Millisecond
	half.challenge, half.mourning = 50*time.Millisecond, 50*time.Millisecond
	for name, test := range map[string]struct {
		opts Options
		want timing
	}{
		"not said":           {Options{}, lan},
		"as it is":           {Options{Preset: LAN, DeadAfter: 400 * time.Millisecond}, lan},
		"later":              {Options{Preset: LAN, DeadAfter: 5 * time.Second}, lan},
		"sooner":             {Options{Preset: LAN, DeadAfter: 200 * time.Millisecond}, half},
		"sooner, over a WAN": {Options{Preset: WAN, DeadAfter: 200 * time.Millisecond}, wan},
	} {
		if got, err := test.opts.timing(); got != test.want || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, test.want)
		}
	}
	if _, err := (&Options{Preset: "moon"}).timing(); err == nil {
		t.Error("a preset that is none is taken")
	}
}
