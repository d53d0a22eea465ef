package datapath_test

import (
	"testing"
	"time"
)

// An identification may be used again once the stack has given the old datagram up (ipfrag_time).
func TestAFirstFragmentDecidesForThirtySeconds(t *testing.T) {
	instance := instanceOf(t, world())
	for _, f := range families {
		d := datagram{f, vipMine, 700}
		run := func(frame []byte) {
			t.Helper()
			if _, err := instance.Run(frame, ingress); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			age  time.Duration
			want ending
		}{
			{25 * time.Second, dropped("fragment-not-owner", f.serviceScope("sip", vipMine))},
			{6 * time.Second, accepted("fragment-unknown", f.scope(vipMine))},
		} {
			if step.age == 25*time.Second {
				run(d.first(portSIP)) // another node's
			}
			if err := instance.AgeFragments(step.age); err != nil {
				t.Fatal(err)
			}
			before := count(t, instance)
			run(d.later())
			sameCounters(t, before.and(fixture{frame: d.later(), want: step.want}), count(t, instance))
		}
	}
}
