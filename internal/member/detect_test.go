package member

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/ownership"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// after is a time some milliseconds after noon.
func after(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

func TestAPeerIsSilentWhenNothingBringsIt(t *testing.T) {
	gossip := func(alive bool) []cluster.Peer { return []cluster.Peer{{Name: "n2", Alive: alive}} }
	heard := func(ms int, hearsMe bool) []heartbeat.Peer {
		return []heartbeat.Peer{{Name: "n2", LastHeard: after(ms), HearsMe: hearsMe}}
	}
	// The last that was heard on a link that is cut may have been either.
	cut := func(hearsMe bool) []heartbeat.Peer {
		return []heartbeat.Peer{{Name: "n2", LastHeard: after(1), HearsMe: hearsMe, Silent: true}}
	}
	for _, c := range []struct {
		name   string
		gossip []cluster.Peer
		links  [][]heartbeat.Peer
		want   sighting
	}{
		{"only in a file of ours", gossip(false), nil, sighting{silent: true}},
		{"gossip alone, and no links", gossip(true), nil, sighting{}},
		{"gossip, and a link that it was never on", gossip(true), [][]heartbeat.Peer{nil}, sighting{}},
		{"gossip, and a link that is cut", gossip(true), [][]heartbeat.Peer{cut(true)}, sighting{}},
		{"gossip, and a link that was cut one way first", gossip(true), [][]heartbeat.Peer{cut(false)}, sighting{}},
		{"heartbeats alone", gossip(false), [][]heartbeat.Peer{heard(5, true)}, sighting{says: true, hearsMe: true, heard: after(5)}},
		{"heartbeats before gossip", nil, [][]heartbeat.Peer{heard(5, false)}, sighting{says: true, heard: after(5)}},
		{"nothing any more", gossip(false), [][]heartbeat.Peer{cut(true)}, sighting{silent: true}},
		{"nothing any more, and gossip never", nil, [][]heartbeat.Peer{cut(true)}, sighting{silent: true}},
		{"nothing on both links", gossip(false), [][]heartbeat.Peer{cut(true), cut(false)}, sighting{silent: true}},
		{"one of two links", gossip(false), [][]heartbeat.Peer{cut(false), heard(7, true)}, sighting{says: true, hearsMe: true, heard: after(7)}},
		{"the other of two links", nil, [][]heartbeat.Peer{heard(7, true), cut(false)}, sighting{says: true, hearsMe: true, heard: after(7)}},
		{"both links, the second newer", nil, [][]heartbeat.Peer{heard(7, true), heard(9, true)}, sighting{says: true, hearsMe: true, heard: after(9)}},
		{"both links, the first newer", nil, [][]heartbeat.Peer{heard(9, true), heard(7, true)}, sighting{says: true, hearsMe: true, heard: after(9)}},
		{"heard on the first link only", nil, [][]heartbeat.Peer{heard(7, true), heard(9, false)}, sighting{says: true, hearsMe: true, heard: after(7)}},
		{"heard on the second link only", nil, [][]heartbeat.Peer{heard(9, false), heard(7, true)}, sighting{says: true, hearsMe: true, heard: after(7)}},
		{"heard on none", nil, [][]heartbeat.Peer{heard(9, false), heard(7, false)}, sighting{says: true, heard: after(9)}},
	} {
		got := sightings(c.gossip, c.links)
		if diff := cmp.Diff(map[string]sighting{"n2": c.want}, got, cmp.AllowUnexported(sighting{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if got := sightings(nil, nil); len(got) > 0 {
		t.Errorf("nobody: %v", got)
	}
}

func TestWhoHasOnlyJustBegunToListenCallsNobodySilent(t *testing.T) {
	seen := func() map[string]sighting {
		return map[string]sighting{"n2": {silent: true}, "n3": {}, "n4": {says: true, heard: after(1)}}
	}
	if diff := cmp.Diff(seen(), listened(seen(), true), cmp.AllowUnexported(sighting{})); diff != "" {
		t.Errorf("after a while (-want +got):\n%s", diff)
	}
	want := seen()
	delete(want, "n2")
	if diff := cmp.Diff(want, listened(seen(), false), cmp.AllowUnexported(sighting{})); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
}

func TestTheMachineIsToldWhatIsNew(t *testing.T) {
	heard := func(ms int, hearsMe bool) sighting { return sighting{says: true, hearsMe: hearsMe, heard: after(ms)} }
	silent := func(s bool) ownership.Event { return ownership.Silent{Peer: "n2", Silent: s} }
	heardBy := func(ms int, hears bool) ownership.Event {
		return ownership.HeardBy{Peer: "n2", Hears: hears, At: time.Duration(ms) * time.Millisecond}
	}
	for _, c := range []struct {
		name        string
		before, now *sighting
		want        []ownership.Event
	}{
		{"first seen", nil, &sighting{}, []ownership.Event{silent(false)}},
		{"first seen, silent", nil, &sighting{silent: true}, []ownership.Event{silent(true)}},
		{"first heard", nil, new(heard(5, false)), []ownership.Event{silent(false), heardBy(5, false)}},
		{"nothing new", new(heard(5, true)), new(heard(5, true)), nil},
		{"the next heartbeat", new(heard(5, true)), new(heard(9, true)), []ownership.Event{heardBy(9, true)}},
		{"it hears us no more", new(heard(5, true)), new(heard(9, false)), []ownership.Event{heardBy(9, false)}},
		{"heard on another link only, a little before", new(heard(9, false)), new(heard(7, true)), []ownership.Event{heardBy(7, true)}},
		// What it said last about hearing us is not taken back: gossip still brings it.
		{"the links are cut", new(heard(9, true)), &sighting{}, nil},
		{"all is cut", new(heard(9, true)), &sighting{silent: true}, []ownership.Event{silent(true)}},
		{"all is well again", &sighting{silent: true}, new(heard(99, true)), []ownership.Event{silent(false), heardBy(99, true)}},
		{"gossip is back", &sighting{silent: true}, &sighting{}, []ownership.Event{silent(false)}},
		{"not seen any more", &sighting{}, nil, nil},
	} {
		seen := func(s *sighting) map[string]sighting {
			if s == nil {
				return nil
			}
			return map[string]sighting{"n2": *s}
		}
		got := news(seen(c.before), seen(c.now), func(at time.Time) time.Duration { return at.Sub(noon) })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
