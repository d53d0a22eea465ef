package heartbeat

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listener is the detector of n1 in its 5th life, with the default timings.
func listener(t *testing.T) *detector {
	t.Helper()
	o := Options{Interface: "eth0", Cluster: "prod", Node: "n1", Life: 5, Insecure: true}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	return newDetector(o)
}

// mac is where all frames come from.
var mac = [6]byte{2, 0, 0, 0, 0, 2}

// says is a frame of n2; hears lists the lives of n1 that it hears.
func says(life, counter uint64, hears ...uint32) *frame {
	f := &frame{life: life, counter: counter, name: "n2"}
	for _, l := range hears {
		f.heard = append(f.heard, heard{id: nodeID("n1"), life: l, lately: true})
	}
	return f
}

func TestAPeerIsSilentAfterItsTimeAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := listener(t)
		if got := d.hear(says(1, 1), mac, time.Now()); got != heardNews {
			t.Errorf("first frame: %d", got)
		}
		heard := time.Now()
		for end := heard.Add(DefaultDeadAfter); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if d.look(time.Now()) {
				t.Fatalf("silent after %s", time.Since(heard))
			}
			if got := d.next(); !got.Equal(end) {
				t.Fatalf("next look %s after the frame", got.Sub(heard))
			}
		}
		if !d.look(time.Now()) {
			t.Errorf("not silent after %s", time.Since(heard))
		}
		if d.look(time.Now()) || !d.next().IsZero() {
			t.Error("silent twice")
		}
		want := []Peer{{Name: "n2", Life: 1, MAC: mac[:], LastHeard: heard, Silent: true, SilentSince: time.Now(), HearsMeSince: heard}}
		if diff := cmp.Diff(want, d.snapshot()); diff != "" {
			t.Errorf("peers (-want +got):\n%s", diff)
		}
		if got := d.hear(says(1, 2), mac, time.Now()); got != heardNews {
			t.Errorf("after the silence: %d", got)
		}
		want[0].Silent, want[0].SilentSince, want[0].LastHeard = false, time.Time{}, time.Now()
		if diff := cmp.Diff(want, d.snapshot()); diff != "" {
			t.Errorf("peers (-want +got):\n%s", diff)
		}
	})
}

func TestWhoWasStoppedDoesNotBlameTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := listener(t)
		d.hear(says(1, 1), mac, time.Now())
		d.look(time.Now())
		time.Sleep(30 * time.Second) // stopped: n2 went on sending
		if d.look(time.Now()) {
			t.Error("silent before its frames could be read")
		}
		d.hear(says(1, 300), mac, time.Now().Add(-50*time.Millisecond))
		time.Sleep(DefaultInterval)
		if d.look(time.Now()) {
			t.Error("silent though it was heard")
		}
		// One that did stop is found out a moment later.
		time.Sleep(30 * time.Second)
		found := time.Now()
		for !d.look(time.Now()) {
			time.Sleep(DefaultInterval / 2)
		}
		if took := time.Since(found); took > 2*DefaultInterval {
			t.Errorf("silence noticed after %s", took)
		}
	})
}

func TestOnlyNewerFramesCount(t *testing.T) {
	d, now := listener(t), time.Unix(1, 0)
	for _, step := range []struct {
		life, counter uint64
		want          verdict
	}{
		{2, 10, heardNews},
		{2, 10, heardBefore},
		{2, 9, heardBefore},
		{2, 11, heardAgain},
		{1, 99, heardBefore}, // a life that is over
		{3, 1, heardNews},    // counts from the start
		{2, 12, heardBefore},
		{3, 1, heardBefore},
		{3, 500, heardAgain}, // frames may be lost
	} {
		if got := d.hear(says(step.life, step.counter), mac, now); got != step.want {
			t.Errorf("life %d, counter %d: %d, want %d", step.life, step.counter, got, step.want)
		}
	}
}

func TestAPeerHearsThisLifeOrNone(t *testing.T) {
	d, at := listener(t), time.Unix(1, 0)
	lost := says(1, 5, 5)
	lost.heard[0].lately = false
	other := says(1, 6)
	other.heard = []heard{{id: nodeID("n3"), life: 5, lately: true}}
	var got []string
	for _, f := range []*frame{says(1, 1), says(1, 2, 4), says(1, 3, 5), says(1, 4, 5), lost, other, says(1, 7, 4, 5)} {
		v := d.hear(f, mac, at)
		p := d.snapshot()[0]
		got = append(got, fmt.Sprint(f.counter, v == heardNews, p.HearsMe, p.HearsMeSince.Unix()))
		at = at.Add(time.Second)
	}
	want := []string{
		"1 true false 1",  // has not heard us yet
		"2 false false 1", // an earlier life of ours: it may be a recording of then
		"3 true true 3",
		"4 false true 3",
		"5 true false 5", // not any more
		"6 false false 5",
		"7 true true 7",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counter, news, hears me, since (-want +got):\n%s", diff)
	}
}

func TestAFrameSaysWhomItsSenderHears(t *testing.T) {
	d, now := listener(t), time.Unix(10, 0)
	for n, ago := range map[string]time.Duration{"n2": 0, "n3": DefaultDeadAfter - 1, "n4": DefaultDeadAfter, "n5": time.Hour} {
		d.hear(&frame{life: 1<<32 + 7, counter: 1, name: n}, mac, now.Add(-ago))
	}
	want := []heard{
		{nodeID("n2"), 7, true}, {nodeID("n3"), 7, true}, {nodeID("n4"), 7, false}, {nodeID("n5"), 7, false},
	}
	if diff := cmp.Diff(want, d.report(now, nil), cmp.AllowUnexported(heard{})); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestWhatIsNotConfirmedIsNotSaid(t *testing.T) {
	d, now := listener(t), time.Unix(10, 0)
	for _, n := range []string{"n2", "n3"} {
		d.hear(&frame{life: 7, counter: 1, name: n}, mac, now)
	}
	want := []heard{{nodeID("n2"), 7, true}, {nodeID("n3"), 7, false}}
	got := d.report(now, func(name string, life uint64) bool { return name == "n2" && life == 7 })
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(heard{})); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestANewLifeIsNotHeardYet(t *testing.T) {
	d, at := listener(t), time.Unix(1, 0)
	d.hear(says(1, 1, 5), mac, at)
	d.begin(6, at.Add(time.Second))
	for _, want := range []struct {
		hears bool
		since int64
		next  *frame
	}{{false, 2, says(1, 2, 5)}, {false, 2, says(1, 3, 6)}, {true, 3, says(1, 4, 6)}} {
		if p := d.snapshot()[0]; p.HearsMe != want.hears || p.HearsMeSince.Unix() != want.since {
			t.Errorf("before frame %d: hears me %v since %d", want.next.counter, p.HearsMe, p.HearsMeSince.Unix())
		}
		d.hear(want.next, mac, at.Add(2*time.Second))
	}
}

func TestANewMACIsNews(t *testing.T) {
	d, at := listener(t), time.Unix(1, 0)
	d.hear(says(1, 1), mac, at)
	before := d.snapshot()[0].MAC
	other := [6]byte{2, 0, 0, 0, 0, 3}
	if got := d.hear(says(1, 2), other, at); got != heardNews {
		t.Errorf("frame from another MAC: %d", got)
	}
	if after := d.snapshot()[0].MAC; before[5] != 2 || after[5] != 3 {
		t.Errorf("before %s, after %s", before, after)
	}
}

func TestAbsenceIsKnownUntilItIsTakenBack(t *testing.T) {
	d, at := listener(t), time.Unix(1, 0)
	away := says(1, 2)
	away.absence = 5 * time.Second
	var got []string
	for _, f := range []*frame{says(1, 1), away, says(1, 3)} {
		v := d.hear(f, mac, at)
		until := d.snapshot()[0].AbsentUntil
		got = append(got, fmt.Sprint(v == heardNews, until.IsZero(), until.Sub(at) == 5*time.Second))
	}
	if diff := cmp.Diff([]string{"true true false", "true false true", "true true false"}, got); diff != "" {
		t.Errorf("news, here, absent for 5s (-want +got):\n%s", diff)
	}
}

func TestMoreNamesThanNodesPushOutTheSilent(t *testing.T) {
	d, now := listener(t), time.Unix(1, 0)
	hear := func(n int) verdict {
		return d.hear(&frame{life: 1, counter: uint64(now.Unix()), name: fmt.Sprint("n", n)}, mac, now)
	}
	for n := range maxHeard {
		hear(n)
	}
	if got := hear(maxHeard); got != heardTooMany {
		t.Errorf("one too many: %d", got)
	}
	d.look(now)
	for range 10 { // n0 falls silent
		now = now.Add(DefaultInterval)
		for n := 1; n < maxHeard; n++ {
			d.peers[fmt.Sprint("n", n)].LastHeard = now
		}
		d.look(now)
	}
	if got := hear(maxHeard); got != heardNews {
		t.Errorf("in the place of a silent one: %d", got)
	}
	if d.peers["n0"] != nil || len(d.peers) != maxHeard {
		t.Errorf("%d peers", len(d.peers))
	}
}

func TestTheRhythmIsKeptAndNothingIsMadeUp(t *testing.T) {
	const interval = 100 * time.Millisecond
	start := time.Unix(1, 0)
	for _, c := range []struct {
		name      string
		late, gap time.Duration // of this tick; until the next one
	}{
		{"in time", 0, 100 * time.Millisecond},
		{"a little late: the next one is on the beat", 30 * time.Millisecond, 70 * time.Millisecond},
		{"very late: a new beat", 60 * time.Millisecond, 100 * time.Millisecond},
		{"missed some", 950 * time.Millisecond, 100 * time.Millisecond},
	} {
		now := start.Add(c.late)
		if got := nextTick(start, now, interval).Sub(now); got != c.gap {
			t.Errorf("%s: next after %s, want %s", c.name, got, c.gap)
		}
	}
	if got := nextTick(time.Time{}, start, interval); !got.Equal(start.Add(interval)) {
		t.Errorf("after the first: %s", got.Sub(start))
	}
}
