package datapath_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// What there is no room for among the news is found among the flows, a moment later.
func TestNewsThatWereMissedAreFound(t *testing.T) {
	l := &slotLab{t, v4, instanceOf(t, slotWorld(1, 0, lb.SlotMoving))}
	memory := l.instance.Director()
	t.Cleanup(memory.CloseNews)
	if notes, missed, err := memory.News(1); err != nil || len(notes) != 0 || missed != 0 {
		t.Fatalf("%d news, missed within %s, %v", len(notes), missed, err)
	}
	const flows = 15_000 // of 96 bytes, in 1 MiB
	for port := range uint16(flows) {
		for range 2 {
			if _, err := l.instance.Run(l.segment(10_000+port, packettest.ACK), ingress); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := make(map[string]bool)
	hear := func(notes []datapath.Note) {
		for i := range notes {
			told[string(notes[i].Key)] = true
		}
	}
	notes, missed, err := memory.News(flows)
	if err != nil {
		t.Fatal(err)
	}
	hear(notes)
	noted := len(l.noted())
	if missed == 0 || len(told) >= noted {
		t.Errorf("news of %d flows of %d, missed within %s: this test proves nothing", len(told), noted, missed)
	}
	if notes, err = memory.AllNotes(missed); err != nil {
		t.Fatal(err)
	}
	hear(notes)
	if len(told) != noted {
		t.Errorf("told of %d flows; %d are noted", len(told), noted)
	}
	if _, missed, err = memory.News(flows); missed != 0 || err != nil {
		t.Errorf("missed within %s again, %v", missed, err)
	}
}

// otherPlaces is slotWorld with backends 0 and 1 at each other's places, as a director has them that saw
// them come in another order.
func otherPlaces(current, previous int16, mark lb.SlotMark) *lb.State {
	state := slotWorld(current, previous, mark)
	turned := slices.Clone(state.Services[0].Backends)
	turned[0], turned[1] = turned[1], turned[0]
	for i := range state.Services {
		state.Services[i].Backends = turned
	}
	return state
}

// A pair is two directors of one cluster: one that sees the packets, and one that is told.
type pair struct {
	seer, told *slotLab
	memory     [2]*datapath.Datapath
}

func (p *pair) tell(notes []datapath.Note) {
	p.told.Helper()
	if err := p.memory[1].Take(notes); err != nil {
		p.told.Fatal(err)
	}
}

func (p *pair) news(want int) []datapath.Note {
	p.seer.Helper()
	notes, _, err := p.memory[0].News(100)
	if err != nil || len(notes) != want {
		p.seer.Fatalf("%d news, %v, want %d", len(notes), err, want)
	}
	return notes
}

// One instance of each is enough for all.
func TestDirectorsTellEachOtherOfFlows(t *testing.T) {
	seer, told := instanceOf(t, slotWorld(1, 0, lb.SlotMoving)), instanceOf(t, otherPlaces(0, 1, lb.SlotMoving))
	memory := [2]*datapath.Datapath{seer.Director(), told.Director()}
	t.Cleanup(func() { memory[0].CloseNews() })
	for _, test := range []struct {
		name string
		do   func(*pair)
	}{
		{"what is noted is news, once", toldOnce},
		{"what is seen once is no news", notTold},
		{"a connection that ended is forgotten everywhere", toldToForget},
		{"what is seen here counts for more", seenHere},
		{"all is told to who joins, as old as it is", toldToJoin},
		{"what makes no sense is left out", notTaken},
	} {
		for _, f := range families {
			t.Run(test.name+"/"+f.name, func(t *testing.T) {
				p := &pair{&slotLab{t, f, seer}, &slotLab{t, f, told}, memory}
				for _, l := range []*slotLab{p.seer, p.told} {
					l.age(time.Hour)
					l.hasNoted("at first", map[uint16]int{})
				}
				test.do(p)
			})
		}
	}
}

func toldOnce(p *pair) {
	const syn, ack = packettest.SYN, packettest.ACK
	p.seer.goes("a new connection opens", p.seer.segment(portNew, syn), 1)
	p.seer.goes("and goes on", p.seer.segment(portNew, ack), 1)
	for range 2 {
		p.seer.goes("an old one stays", p.seer.segment(portOld, ack), 0)
	}
	p.told.goes("without news, one is as good as old", p.told.segment(portNew, ack), 0)
	p.tell(p.news(2))
	p.seer.goes("it goes on", p.seer.segment(portNew, ack), 1)
	p.news(0)
	p.told.goes("another director sends it to its backend", p.told.segment(portNew, ack), 1)
	p.told.goes("the old one, too", p.told.segment(portOld, ack), 0)
}

func notTold(p *pair) {
	for port := range uint16(100) {
		p.seer.goes("a flood", p.seer.segment(10000+port, packettest.SYN), 1)
		p.seer.goes("a flood", p.seer.segment(20000+port, packettest.ACK), 0)
	}
	p.news(0)
}

func toldToForget(p *pair) {
	const syn, ack = packettest.SYN, packettest.ACK
	for range 2 {
		p.seer.goes("an old one", p.seer.segment(portOld, ack), 0)
	}
	p.tell(p.news(1))
	p.told.hasNoted("told", map[uint16]int{portOld: 1}) // where it has that backend
	p.seer.age(reusedAfter)
	p.seer.goes("its port is used again", p.seer.segment(portOld, syn), 1)
	p.tell(p.news(1))
	p.told.hasNoted("told of the end", map[uint16]int{})
	p.seer.goes("which goes on", p.seer.segment(portOld, ack), 1)
	p.tell(p.news(1))
	p.told.goes("and is known", p.told.segment(portOld, ack), 1)
}

func seenHere(p *pair) {
	const syn, ack = packettest.SYN, packettest.ACK
	for range 2 {
		p.seer.goes("one that is old there", p.seer.segment(portOld, ack), 0)
	}
	notes := p.news(1)
	p.told.goes("and new here", p.told.segment(portOld, syn), 1)
	p.told.goes("which goes on", p.told.segment(portOld, ack), 1)
	p.tell(notes)
	p.told.goes("and stays", p.told.segment(portOld, ack), 1)
	p.told.age(time.Minute)
	p.tell(notes)
	p.told.goes("unless it was silent", p.told.segment(portOld, ack), 0)
}

func toldToJoin(p *pair) {
	const ack = packettest.ACK
	for range 2 {
		p.seer.goes("an old one", p.seer.segment(portOld, ack), 0)
		p.seer.goes("another", p.seer.segment(portSlow, ack), 0)
	}
	p.news(2)
	p.seer.age(slotTCPIdle)
	p.seer.goes("one goes on", p.seer.segment(portOld, ack), 0)
	notes := func(within time.Duration) []datapath.Note {
		all, err := p.memory[0].AllNotes(within)
		if err != nil {
			p.seer.Fatal(err)
		}
		return all
	}
	if all, lately := notes(0), notes(10*time.Second); len(all) != 2 || len(lately) != 1 {
		p.seer.Fatalf("%d notes, %d of what came by lately, want 2 and 1", len(all), len(lately))
	}
	p.tell(notes(0))
	p.told.hasNoted("told", map[uint16]int{portOld: 1, portSlow: 1})
	lately, err := p.memory[1].AllNotes(10 * time.Second)
	if err != nil || len(lately) != 0 {
		p.told.Errorf("%d notes are told back, %v", len(lately), err)
	}
	p.told.age(datapath.TellWithin + 2*time.Second)
	stay := map[uint16]int{portOld: 1}
	if datapath.Monotonic() < slotTCPIdle {
		stay[portSlow] = 1 // silence counts from when the machine was started
	}
	p.told.hasNoted("who was silent for long is forgotten as soon", stay)
}

func notTaken(p *pair) {
	for range 2 {
		p.seer.goes("an old one", p.seer.segment(portOld, packettest.ACK), 0)
	}
	note := p.news(1)[0]
	p.tell([]datapath.Note{{Kind: 99}, {note.Kind, append(slices.Clone(note.Key), 'x'), note.Value}})
	other := slices.Clone(note.Value)
	other[4+15] += 100 // the backend's address
	p.tell([]datapath.Note{{note.Kind, note.Key, other}})
	p.told.hasNoted("of no service, of no backend", map[uint16]int{})
	for n := range note.Value {
		if err := p.memory[1].Take([]datapath.Note{{note.Kind, note.Key, note.Value[:n]}}); err == nil {
			p.told.Errorf("a note cut to %d bytes is taken", n)
		}
	}
}

// Nothing is pushed out: what is noted stays, and what is not goes on as long as it is glimpsed.
func TestWhatFindsNoRoomIsCounted(t *testing.T) {
	const syn, ack = packettest.SYN, packettest.ACK
	l := &slotLab{t, v4, instanceOf(t, slotWorld(1, 0, lb.SlotMoving))}
	memory := l.instance.Director()
	for range 2 {
		l.goes("one that is noted", l.segment(portOld, ack), 0)
	}
	made, err := l.instance.FillExceptions()
	if err == nil {
		t.Fatal("there is room for more flows than the map says")
	}
	t.Logf("%d notes fill it: %v", made+1, err)
	for port := range uint16(100) {
		l.goes("a connection that opens", l.segment(30000+port, syn), 1)
		for i := range 5 {
			l.goes(fmt.Sprintf("its segment %d", i), l.segment(30000+port, ack), 1)
		}
		l.goes("an old one", l.segment(20000+port, ack), 0)
		l.goes("which goes on", l.segment(20000+port, ack), 0)
		l.goes("what is noted", l.segment(portOld, ack), 0)
	}
	if got := memory.Unnoted(); got != 600 {
		t.Errorf("%d times there was no room, want 600", got)
	}
}

// manyServices is slotWorld with more services that forward than there is room for at first, which come
// before those of slotWorld.
func manyServices(current, previous int16, mark lb.SlotMark) *lb.State {
	state := slotWorld(current, previous, mark)
	first := state.Services[0]
	var more []lb.Service
	for i := range 20 {
		s := first
		s.Name, s.Ports = fmt.Sprint("more", i), []lb.PortRange{{First: uint16(1000 + i), Last: uint16(1000 + i)}}
		more = append(more, s)
	}
	state.Services = append(more, state.Services...)
	return state
}

// Flows are noted by the numbers of services and backends. A larger map set has the same ones.
func TestALargerMapSetKnowsTheFlows(t *testing.T) {
	const syn, ack = packettest.SYN, packettest.ACK
	small := instanceOf(t, slotWorld(1, 0, lb.SlotMoving))
	before := &slotLab{t, v4, small}
	before.goes("a new connection opens", before.segment(portNew, syn), 1)
	for range 2 {
		before.goes("it goes on", before.segment(portNew, ack), 1)
		before.goes("an old one stays", before.segment(portOld, ack), 0)
	}
	before.goes("one opens just now", before.segment(portHalf, syn), 1)
	if _, err := small.Set(manyServices(1, 0, lb.SlotMoving), worldDevice); err == nil {
		t.Fatal("there is room for all of them: this test proves nothing")
	}
	large, err := small.Grow(manyServices(1, 0, lb.SlotMoving), worldDevice)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(large.Close)
	after := &slotLab{t, v4, large}
	before.goes("a last one, by the old set", before.segment(portLate, syn), 1)
	before.goes("goes on there", before.segment(portLate, ack), 1)
	for port, backend := range map[uint16]int{portNew: 1, portOld: 0, portHalf: 1, portLate: 1} {
		after.goes(fmt.Sprintf("port %d goes on", port), after.segment(port, ack), backend)
	}
	after.hasNoted("after all", map[uint16]int{portNew: 1, portOld: 0, portHalf: 1, portLate: 1})
	memory := large.Director()
	t.Cleanup(memory.CloseNews)
	if news, _, err := memory.News(100); err != nil || len(news) != 4 {
		t.Errorf("%d news, %v: want 4, from before and after", len(news), err)
	}
	after.age(time.Hour)
	after.hasNoted("in the end", map[uint16]int{})
}
