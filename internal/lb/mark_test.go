package lb

import "testing"

func TestAMarkNamesItsBits(t *testing.T) {
	for mark, want := range map[Mark]string{
		0:                            "",
		MarkDelegate:                 "delegate",
		MarkUDPAway:                  "udp-away",
		MarkMaybeLocal | MarkUDPKept: "maybe-local,udp-kept",
		MarkContested | MarkUDPAway:  "contested,udp-away",
		MarkWaiting | MarkUDPNoted:   "waiting,udp-noted",
	} {
		if got := mark.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint8(mark), got, want)
		}
	}
}
