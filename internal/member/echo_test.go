package member

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
)

const hint = 100 * time.Millisecond

func TestAnEchoIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []echo{{life: 1<<64 - 1, at: 1}, {answer: true, life: 7, at: time.Hour}} {
		got, err := decodeEcho(want.encode())
		if err != nil || got != want {
			t.Errorf("%+v: %+v, %v", want, got, err)
		}
	}
	good := echo{life: 7, at: 1}.encode()
	for n := range good {
		if _, err := decodeEcho(good[:n]); err == nil {
			t.Errorf("accepted after %d of %d bytes", n, len(good))
		}
	}
	good[0] = 2
	if _, err := decodeEcho(good); err == nil {
		t.Error("neither question nor answer")
	}
	if _, err := decodeEcho(append(good, 0)); err == nil {
		t.Error("one byte more")
	}
}

func TestWhoIsNotHeardToHearUsIsAsked(t *testing.T) {
	gossip := []cluster.Peer{{Name: "n2", Alive: true}, {Name: "n3", Alive: false}}
	for _, c := range []struct {
		name string
		seen sighting
		want bool
	}{
		{"no heartbeats", sighting{}, true},
		{"it does not hear us", sighting{says: true, heard: after(1000)}, true},
		{"it hears us", sighting{says: true, hearsMe: true, heard: after(1000)}, false},
		{"it heard us a moment ago", sighting{says: true, hearsMe: true, heard: after(921)}, false},
		{"its heartbeat is late", sighting{says: true, hearsMe: true, heard: after(920)}, true},
	} {
		e := newEchoes(hint)
		var want []string
		if c.want {
			want = []string{"n2"}
		}
		seen := map[string]sighting{"n2": c.seen, "n3": {silent: true}}
		if diff := cmp.Diff(want, e.due(gossip, seen, after(1000))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if again := e.due(gossip, seen, after(1049)); c.want && len(again) > 0 {
			t.Errorf("%s: asked again at once", c.name)
		}
		if again := e.due(gossip, seen, after(1050)); c.want && len(again) != 1 {
			t.Errorf("%s: not asked again", c.name)
		}
	}
}

func TestAnEchoCountsAsAHeartbeat(t *testing.T) {
	const life, deadAfter = 7, 400 * time.Millisecond
	question := echo{life: 99, at: time.Hour} // of a peer, whose clock and lives are its own
	answer := func(life uint64, ms int) echo {
		return echo{answer: true, life: life, at: time.Duration(ms) * time.Millisecond}
	}
	heard := func(ms int) sighting { return sighting{says: true, hearsMe: true, heard: after(ms)} }
	unheard := sighting{says: true, heard: after(990)}
	for _, c := range []struct {
		name   string
		came   []echo // all at 1000
		before sighting
		at     int
		want   sighting
	}{
		{"nothing came", nil, sighting{silent: true}, 1000, sighting{silent: true}},
		{"it asks, so it is there", []echo{question}, sighting{silent: true}, 1399, sighting{}},
		{"it asked long ago", []echo{question}, sighting{silent: true}, 1400, sighting{silent: true}},
		{"it answered, so it hears us", []echo{answer(life, 980)}, sighting{}, 1000, heard(980)},
		{"whatever its heartbeat says", []echo{answer(life, 980)}, unheard, 1000, heard(980)},
		{"a newer heartbeat", []echo{answer(life, 980)}, heard(990), 1000, heard(990)},
		{"an older heartbeat", []echo{answer(life, 980)}, heard(970), 1000, heard(980)},
		{"answers overtake each other", []echo{answer(life, 980), answer(life, 960)}, sighting{}, 1000, heard(980)},
		{"an answer to an older life", []echo{answer(life-1, 980)}, sighting{}, 1000, sighting{}},
		{"and one to this", []echo{answer(life-1, 980), answer(life, 960)}, sighting{}, 1000, heard(960)},
		{"an answer to what was not asked yet", []echo{answer(life, 1001)}, sighting{}, 1000, sighting{}},
		{"an answer from before we began", []echo{answer(life, -1)}, sighting{}, 1000, sighting{}},
	} {
		e := newEchoes(hint)
		e.begun = noon
		for _, came := range c.came {
			e.note("n2", came, after(1000))
		}
		e.note("n9", question, after(1000)) // gossip forgot it
		seen := map[string]sighting{"n2": c.before}
		e.into(seen, life, deadAfter, after(c.at))
		if diff := cmp.Diff(map[string]sighting{"n2": c.want}, seen, cmp.AllowUnexported(sighting{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
