package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/lb"
)

const idle = 15 * time.Minute

func backendsNamed(names ...string) []Backend {
	var list []Backend
	for i, name := range names {
		list = append(list, Backend{
			Name: name, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), Weight: 100, Reachable: true, Healthy: true,
		})
	}
	return list
}

// A slotView is a slot of a Choice.
type slotView struct {
	Current, Previous int16
	Mark              lb.SlotMark
}

// kinds counts the slots of a Choice by what is special about them.
func kinds(c *lb.Choice) map[slotView]int {
	count := make(map[slotView]int)
	for slot := range c.Current {
		v := slotView{Current: c.Current[slot], Previous: lb.NoBackend}
		if c.Previous != nil {
			v.Previous = c.Previous[slot]
		}
		if c.Marks != nil {
			v.Mark = c.Marks[slot]
		}
		count[v]++
	}
	return count
}

// A timeline is a service whose Outputs are applied at once, and nobody looks at flows unless asked.
type timeline struct {
	*testing.T
	*Service
	rules Rules
}

func (l *timeline) update(now time.Duration, backends []Backend, seen *Seen) Output {
	return l.Update(now, Input{Rules: l.rules, Backends: backends, Applied: true, Seen: seen})
}

func (l *timeline) expect(when string, out Output, next time.Duration, want map[slotView]int) {
	l.Helper()
	if diff := cmp.Diff(want, kinds(out.Choice)); diff != "" {
		l.Errorf("%s (-want +got):\n%s", when, diff)
	}
	if out.Next != next {
		l.Errorf("%s: next at %v, want %v", when, out.Next, next)
	}
}

func nothing(slots int, began time.Duration) *Seen {
	return &Seen{Began: began, Slots: make([]bool, slots)}
}

func TestADrainedBackendKeepsItsConnections(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle}}
	backends := backendsNamed("b1", "b2")
	l.expect("at first", l.update(0, backends, nil), 0, map[slotView]int{{0, -1, 0}: 3, {1, -1, 0}: 4})

	backends[0].Weight = 0
	moved := map[slotView]int{{1, 0, lb.SlotMoving}: 3, {1, -1, 0}: 4}
	end := time.Second + idle + slack
	l.expect("drained", l.update(time.Second, backends, nil), end, moved)
	l.expect("just before the end", l.update(end-1, backends, nothing(7, end-1)), end, moved)

	excepted := map[slotView]int{{1, -1, lb.SlotExceptions}: 3, {1, -1, 0}: 4}
	l.expect("learnt", l.update(end, backends, nil), 0, excepted)
	quiet := end + idle + slack
	l.expect("seen once", l.update(quiet, backends, nothing(7, quiet)), 0, excepted)
	busy := nothing(7, quiet+1)
	for slot, mark := range l.choice.Marks {
		busy.Slots[slot] = mark != 0
	}
	busy.Slots[slices.Index(busy.Slots, true)] = false
	out := l.update(quiet+2, backends, busy)
	if out.Moving != 2 {
		t.Errorf("%d slots are in transition, want the two with flows", out.Moving)
	}
	l.expect("gone", l.update(quiet+4, backends, nothing(7, quiet+3)), 0, map[slotView]int{{1, -1, 0}: 7})
}

func TestADeadBackendLosesItsSlotsAtOnce(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle, UDPIdle: time.Minute}}
	backends := backendsNamed("b1", "b2")
	l.update(0, backends, nil)
	backends[0].Healthy = false
	out := l.update(1, backends, nil)
	l.expect("dead", out, 0, map[slotView]int{{1, -1, 0}: 7})
	want := []Place{
		{Backend: lb.Backend{Name: "b1", Addr: backends[0].Addr}, State: StateDown, Dead: true},
		{Backend: lb.Backend{Name: "b2", Addr: backends[1].Addr}, State: StateUp, Weight: 100, Slots: 7},
	}
	if diff := cmp.Diff(want, out.Places, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	backends[1].Healthy = false
	l.expect("all dead", l.update(2, backends, nil), 0, map[slotView]int{{-1, -1, 0}: 7})
}

func TestUDPIsNotedFirst(t *testing.T) {
	l := &timeline{t, newService(7), Rules{UDPIdle: time.Minute}}
	backends := backendsNamed("b1", "b2")
	l.update(0, backends, nil)
	backends[0].Weight = 0
	end := time.Second + time.Minute + slack
	l.expect("drained", l.update(time.Second, backends, nil), end, map[slotView]int{{0, -1, lb.SlotNoting}: 3, {1, -1, 0}: 4})
	l.expect("noted", l.update(end, backends, nil), 0, map[slotView]int{{1, -1, lb.SlotExceptions}: 3, {1, -1, 0}: 4})
}

func TestBothProtocolsAreNotedAndThenMove(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle, UDPIdle: time.Minute}}
	backends := backendsNamed("b1", "b2")
	l.update(0, backends, nil)
	backends[0].Weight = 0
	end := time.Second + time.Minute + slack
	l.update(time.Second, backends, nil)
	l.expect("noted", l.update(end, backends, nil), end+idle+slack, map[slotView]int{{1, 0, lb.SlotMoving}: 3, {1, -1, 0}: 4})
	backends[0].Weight = 100
	l.expect("back", l.update(end+1, backends, nil), end+1+time.Minute+slack,
		map[slotView]int{{1, 0, lb.SlotMoving | lb.SlotNoting}: 3, {1, -1, 0}: 4})
}

func TestWhatChangesAgainKeepsItsOldest(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle}}
	backends := backendsNamed("b1", "b2", "b3")
	backends[1].Weight, backends[2].Weight = 0, 0
	l.expect("at first", l.update(0, backends, nil), 0, map[slotView]int{{0, -1, 0}: 7})

	backends[0].Weight, backends[1].Weight = 0, 100
	end := idle + slack
	l.expect("to b2", l.update(0, backends, nil), end, map[slotView]int{{1, 0, lb.SlotMoving}: 7})
	backends[1].Weight, backends[2].Weight = 0, 100
	l.expect("to b3", l.update(time.Minute, backends, nil), end, map[slotView]int{{2, 0, lb.SlotMoving}: 7})
	late := end - time.Second
	backends[1].Weight, backends[2].Weight = 100, 0
	l.expect("to b2 just before the end", l.update(late, backends, nil), late+Opening+slack, map[slotView]int{{1, 0, lb.SlotMoving}: 7})
	backends[0].Healthy = false
	l.expect("b1 dies", l.update(late+1, backends, nil), late+Opening+slack, map[slotView]int{{1, -1, lb.SlotMoving}: 7})
}

func TestPlacesStayWhileSomethingNamesThem(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle}}
	l.update(0, backendsNamed("b1", "b2", "b3"), nil)
	names := func(out Output) (list []string) {
		for _, p := range out.Places {
			list = append(list, fmt.Sprint(p.Name, " ", p.State))
		}
		return list
	}
	check := func(when string, out Output, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, names(out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	without := slices.Delete(backendsNamed("b1", "b2", "b3"), 0, 1)
	check("removed", l.update(0, without, nil), "b1 removed", "b2 up", "b3 up")
	end := idle + slack
	l.update(end, without, nil)
	later := end + idle + slack + 1
	still := nothing(7, later)
	still.Flows = []int{1, 0, 0}
	check("with a flow", l.update(later, without, still), "b1 removed", "b2 up", "b3 up")
	l.update(later+1, without, nothing(7, later+1))
	again := append(without, backendsNamed("", "", "", "b4")[3])
	check("free, and taken again", l.update(later+2, again, nil), "b4 up", "b2 up", "b3 up")
	again[2].Addr = netip.MustParseAddr("192.0.2.99")
	check("with another address", l.update(later+3, again, nil), "b4 removed", "b2 up", "b3 up", "b4 up")
}

func TestWhoComesAfterARestartGoesOn(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle, UDPIdle: time.Minute}}
	backends := backendsNamed("b1", "b2", "b3")
	backends[2].Weight = 0
	l.update(0, backends, nil)
	backends[0].Weight = 0
	noted := time.Minute + slack
	l.update(0, backends, nil)
	before := l.update(noted, backends[:2], nil)
	l.expect("before", before, noted+idle+slack, map[slotView]int{{1, 0, lb.SlotMoving}: 3, {1, -1, 0}: 4})

	var places []lb.Backend
	for _, p := range before.Places {
		places = append(places, lb.Backend{Addr: p.Addr, Port: p.Port})
	}
	l.Service = newService(7)
	l.Restore(0, l.rules, places, before.Choice)
	after := l.update(time.Second, []Backend{backends[1], backends[0]}, nil)
	l.expect("after", after, idle+slack, map[slotView]int{{1, 0, lb.SlotMoving}: 3, {1, -1, 0}: 4})
	want := []Place{
		{Backend: lb.Backend{Name: "b1", Addr: backends[0].Addr}, State: StateDrained, Leaving: 3},
		{Backend: lb.Backend{Name: "b2", Addr: backends[1].Addr}, State: StateUp, Weight: 100, Slots: 7},
		{Backend: lb.Backend{Name: "192.0.2.12", Addr: backends[2].Addr}, State: StateRemoved},
	}
	if diff := cmp.Diff(want, after.Places, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

func TestNoMorePlacesThanThereAre(t *testing.T) {
	s := New()
	var backends []Backend
	for i := range lb.MaxBackends {
		backends = append(backends, Backend{
			Name: fmt.Sprint(i), Addr: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), Weight: 1, Reachable: true, Healthy: true,
		})
	}
	rules := Rules{TCPIdle: idle}
	s.Update(0, Input{Rules: rules, Backends: backends, Applied: true})
	backends[5].Addr = netip.MustParseAddr("203.0.113.5")
	out := s.Update(1, Input{Rules: rules, Backends: backends, Applied: true})
	if got := out.Places[5]; len(out.Places) != lb.MaxBackends || got.State != StateRemoved || got.Leaving == 0 {
		t.Errorf("%d places, the one of the old address %+v", len(out.Places), got)
	}
}

func TestOnlyWhoCameUpStartsSlowly(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle}}
	backends := backendsNamed("b1", "b2")
	for i := range backends {
		backends[i].SlowStart = 100 * time.Second
	}
	state := func(out Output) string {
		return fmt.Sprint(out.Places[0].State, " ", out.Places[0].Weight, " ", out.Next)
	}
	check := func(when string, out Output, want string) {
		t.Helper()
		if got := state(out); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	check("with the service", l.update(0, backends, nil), "up 100 0s")
	backends[0].Healthy = false
	check("dead", l.update(1, backends, nil), "down 0 0s")
	backends[0].Healthy = true
	at := 10 * time.Second
	check("alive", l.update(at, backends, nil), "starting 10 20s")
	check("half", l.update(at+50*time.Second, backends, nil), "starting 50 1m10s")
	end := at + idle + slack
	check("grown", l.update(at+100*time.Second, backends, nil), "up 100 "+end.String())
}

func TestAnUpdateWithoutAChangeIsTheSameChoice(t *testing.T) {
	l := &timeline{t, newService(7), Rules{TCPIdle: idle}}
	backends := backendsNamed("b1", "b2")
	first := l.update(0, backends, nil)
	if again := l.update(1, backends, nil); again.Choice != first.Choice {
		t.Error("the Choice is another one")
	}
	backends[0].Weight = 0
	before := slices.Clone(first.Choice.Current)
	l.update(2, backends, nil)
	if !slices.Equal(before, first.Choice.Current) {
		t.Error("a Choice changed after it was given away")
	}
}

// Directors that were told different things on the way, but the same in the end, agree.
func TestDirectorsWithEqualInputsAgreeWhateverTheyKnewBefore(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	final := backendsNamed("b1", "b2", "b3", "b4", "b5")
	final[1].Healthy, final[2].Weight, final[3].Tier = false, 30, TierBackup
	names := func(out Output) []string {
		list := make([]string, len(out.Choice.Current))
		for slot, place := range out.Choice.Current {
			list[slot] = out.Places[place].Name
		}
		return list
	}
	const slots = 1009
	want := names(newService(slots).Update(0, Input{Rules: Rules{TCPIdle: idle}, Backends: final, Applied: true}))
	for range 10 {
		s := newService(slots)
		now := time.Duration(0)
		for range 5 {
			other := slices.Clone(final)
			random.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
			other = other[:random.IntN(len(other))]
			for i := range other {
				other[i].Weight, other[i].Healthy = random.IntN(100), random.IntN(3) > 0
			}
			s.Update(now, Input{Rules: Rules{TCPIdle: idle}, Backends: other, Applied: true})
			now += time.Minute
		}
		if diff := cmp.Diff(want, names(s.Update(now, Input{Rules: Rules{TCPIdle: idle}, Backends: final, Applied: true}))); diff != "" {
			t.Fatalf("(-without a past +with one):\n%s", diff)
		}
	}
}

// What a planner does when one backend of 1,000 dies and comes back.
func BenchmarkUpdateOf1000Backends(b *testing.B) {
	s := New()
	var backends []Backend
	for i := range lb.MaxBackends {
		backends = append(backends, Backend{
			Name: fmt.Sprint(i), Addr: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), Weight: 100, Reachable: true, Healthy: true,
		})
	}
	now := time.Duration(0)
	b.Run("one changes", func(b *testing.B) {
		for b.Loop() {
			now += time.Second
			backends[7].Healthy = !backends[7].Healthy
			s.Update(now, Input{Rules: Rules{TCPIdle: idle}, Backends: backends, Applied: true})
		}
	})
	b.Run("nothing changes", func(b *testing.B) {
		for b.Loop() {
			now += time.Second
			s.Update(now, Input{Rules: Rules{TCPIdle: idle}, Backends: backends, Applied: true})
		}
	})
}
