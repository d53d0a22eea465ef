package datapath_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// A roster is a schedule and what its three backends are like.
type roster struct {
	lb.Schedule
	weights [3]int
	maxconn [3]int
	slots   int16 // the backend of all slots
	dead    []int
}

// rosterWorld is slotWorld with a schedule.
func rosterWorld(r roster) *lb.State {
	state := slotWorld(r.slots, lb.NoBackend, 0, r.dead...)
	for i := range state.Services {
		s := &state.Services[i]
		s.Schedule = &r.Schedule
		s.Backends = slices.Clone(s.Backends)
		for place := range s.Backends {
			s.Backends[place].Weight, s.Backends[place].MaxConn = r.weights[place], r.maxconn[place]
		}
	}
	return state
}

// equal is three backends of one weight.
func equal(scheduler lb.Scheduler) roster {
	return roster{
		Schedule: lb.Schedule{Scheduler: scheduler, Order: []int16{0, 1, 2}, Sorry: lb.NoBackend}, weights: [3]int{100, 100, 100},
	}
}

func (l *slotLab) schedule(r roster) {
	l.Helper()
	if _, err := l.instance.Set(rosterWorld(r), worldDevice); err != nil {
		l.Fatal(err)
	}
}

// at is the backend that a frame goes to, lb.NoBackend for none.
func (l *slotLab) at(frame []byte) int {
	l.Helper()
	out, err := l.instance.Run(frame, ingress)
	if err != nil {
		l.Fatal(err)
	}
	if out.Action == actionTX && slices.Equal(out.Frame[:5], []byte{2, 0, 0, 7, 0}) {
		return int(out.Frame[5])
	}
	return lb.NoBackend
}

// open opens a connection: it goes to the same backend with every segment.
func (l *slotLab) open(port uint16) int {
	l.Helper()
	backend := l.at(l.segment(port, packettest.SYN))
	if backend == lb.NoBackend {
		return backend
	}
	for range 3 {
		l.goes("a connection that opens goes on", l.segment(port, packettest.ACK), backend)
	}
	return backend
}

// shares opens so many connections, from a port on, and counts where they are.
func (l *slotLab) shares(from uint16, n int) (count [3]int) {
	l.Helper()
	for i := range n {
		backend := l.at(l.segment(from+uint16(i), packettest.SYN))
		if backend < 0 {
			l.Fatalf("connection %d goes nowhere", i)
		}
		count[backend]++
	}
	return count
}

// look is what lbd does every two seconds, and returns the connections that it found.
func (l *slotLab) look() []int {
	l.Helper()
	if _, err := l.instance.Exceptions(); err != nil {
		l.Fatal(err)
	}
	loads, err := l.instance.Loads()
	if err != nil {
		l.Fatal(err)
	}
	return loads["tcp"][:3]
}

func (l *slotLab) hasLoads(when string, want ...int) {
	l.Helper()
	if diff := gocmp.Diff(want, l.look()); diff != "" {
		l.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestScheduledFlows(t *testing.T) {
	instance := instanceOf(t, rosterWorld(equal(lb.SchedulerRoundRobin)))
	inBoth := []string{"round-robin", "errors", "affinity"} // families
	for _, test := range []struct {
		name string
		do   func(*slotLab)
	}{
		{"round-robin", roundRobin},
		{"random", randomly},
		{"least-conn", leastConn},
		{"least-conn draws", leastConnOfMany},
		{"a SYN that is repeated goes to the same backend", repeatedSYNs},
		{"flows of the dead are scheduled anew", scheduledDead},
		{"who is drained keeps what it has", scheduledDrain},
		{"datagrams are scheduled", scheduledDatagrams},
		{"errors", scheduledErrors},
		{"what closes is forgotten soon", closingFlows},
		{"what is closed by halves stays while it goes on", halfClosed},
		{"what was reset by somebody else stays", madeUpResets},
		{"pairs from made-up sources fill nobody", pairsFillNobody},
		{"who says nothing is remembered while there is room", silentSinceItOpened},
		{"affinity", affinity},
		{"a full backend passes on", fullPassesOn},
		{"a full backend may drop", fullDrops},
		{"when all are full one says sorry", fullSorry},
		{"maglev overflows, too", fullMaglev},
		{"what is unknown goes by its slot", unknownBySlot},
		{"what opens while its bucket leaves goes by its slot", bucketsThatLeave},
		{"a service may begin and end to remember", beginsAndEnds},
	} {
		for i, f := range families {
			if i > 0 && !slices.Contains(inBoth, test.name) {
				continue
			}
			t.Run(test.name+"/"+f.name, func(t *testing.T) {
				l := &slotLab{t, f, instance}
				if err := instance.Forget(); err != nil {
					t.Fatal(err)
				}
				l.schedule(equal(lb.SchedulerRoundRobin))
				test.do(l)
			})
		}
	}
}

func roundRobin(l *slotLab) {
	if got := l.shares(10000, 300); got != [3]int{100, 100, 100} {
		l.Errorf("of one weight: %v", got)
	}
	r := equal(lb.SchedulerRoundRobin)
	r.weights, r.Order = [3]int{300, 200, 100}, []int16{0, 1, 0, 2, 1, 0}
	l.schedule(r)
	for turn := range uint16(50) {
		if got := l.shares(20000+6*turn, 6); got != [3]int{3, 2, 1} {
			l.Fatalf("turn %d: %v", turn, got)
		}
	}
}

func randomly(l *slotLab) {
	r := equal(lb.SchedulerRandom)
	r.weights, r.Order = [3]int{300, 200, 100}, []int16{0, 1, 0, 2, 1, 0}
	l.schedule(r)
	const n = 30000
	got := l.shares(10000, n)
	for place, part := range []float64{3, 2, 1} {
		want := n * part / 6
		// five times the standard deviation: one run of 500,000 fails
		if off := math.Abs(float64(got[place]) - want); off > 5*math.Sqrt(want*(1-part/6)) {
			l.Errorf("place %d: %d of %d, want %.0f", place, got[place], n, want)
		}
	}
}

func leastConn(l *slotLab) {
	for port := range uint16(30) { // by turns
		l.open(1000 + port)
	}
	l.hasLoads("by turns", 10, 10, 10)
	for port := range uint16(30) {
		if l.at(l.segment(1000+port, packettest.ACK)) == 1 {
			l.goes("a connection ends", l.segment(1000+port, packettest.ACK|packettest.FIN), 1)
			l.goes("and ends again", l.segment(1000+port, packettest.ACK|packettest.FIN), 1)
		}
	}
	l.hasLoads("after the second one's ended", 10, 0, 10)
	l.schedule(equal(lb.SchedulerLeastConn))
	for port := range uint16(10) {
		if got := l.open(2000 + port); got != 1 {
			l.Errorf("the least loaded is 1, and a connection goes to %d", got)
		}
	}
	for range 3 {
		l.open(uint16(3000 + len(l.noted())))
	}
	l.hasLoads("then all are alike", 11, 11, 11)
	r := equal(lb.SchedulerLeastConn)
	r.weights = [3]int{200, 100, 100}
	l.schedule(r)
	for port := range uint16(11) {
		l.open(4000 + port)
	}
	l.hasLoads("with twice the weight", 22, 11, 11)
	if got := l.shares(10000, 400); got != [3]int{200, 100, 100} {
		l.Errorf("who is being opened counts, too: %v", got)
	}
}

// Of more than 16 places of the order three are drawn. The busy one gets a connection only if all three are its.
func leastConnOfMany(l *slotLab) {
	for range 3 {
		for port := range uint16(100) {
			if l.at(l.segment(1000+port, packettest.SYN)) == 0 {
				l.open(1000 + port)
			}
		}
	}
	for range 10 {
		l.look()
	}
	r := equal(lb.SchedulerLeastConn)
	for range 7 {
		r.Order = append(r.Order, 0, 1, 2)
	}
	l.schedule(r)
	var count [3]int
	for port := range uint16(30) {
		count[l.at(l.segment(5000+port, packettest.SYN))]++
	}
	if count[0] > 6 {
		l.Errorf("the busy one got %d of 30", count[0])
	}
}

func repeatedSYNs(l *slotLab) {
	for port := range uint16(30) {
		backend := l.at(l.segment(1000+port, packettest.SYN))
		for range 3 {
			l.goes("a SYN that is sent again", l.segment(1000+port, packettest.SYN), backend)
		}
		l.goes("the connection", l.segment(1000+port, packettest.ACK), backend)
		l.goes("a late SYN, or somebody else's", l.segment(1000+port, packettest.SYN), backend)
		l.goes("the connection lives", l.segment(1000+port, packettest.ACK), backend)
	}
	l.hasLoads("each counts once", 10, 10, 10)
}

func scheduledDead(l *slotLab) {
	backends := make(map[uint16]int)
	for port := range uint16(30) {
		backends[1000+port] = l.open(1000 + port)
	}
	r := equal(lb.SchedulerRoundRobin)
	r.dead, r.Order, r.weights, r.slots = []int{1}, []int16{0, 2}, [3]int{100, 0, 100}, 2
	l.schedule(r)
	for port, backend := range backends {
		if backend != 1 {
			l.goes("who lives stays", l.segment(port, packettest.ACK), backend)
			continue
		}
		l.goes("a segment to the dead is for another to answer", l.segment(port, packettest.ACK), 2)
		if got := l.open(port); got == 1 || got == lb.NoBackend {
			l.Errorf("a SYN for the dead goes to %d", got)
		}
	}
	if got := l.look(); got[1] != 0 || got[0]+got[2] != 30 {
		l.Errorf("connections: %v", got)
	}
}

func scheduledDrain(l *slotLab) {
	backends := make(map[uint16]int)
	for port := range uint16(30) {
		backends[1000+port] = l.open(1000 + port)
	}
	r := equal(lb.SchedulerRoundRobin)
	r.Order, r.weights = []int16{0, 2}, [3]int{100, 0, 100}
	l.schedule(r)
	for port, backend := range backends {
		l.goes("who was there stays", l.segment(port, packettest.ACK), backend)
	}
	if got := l.shares(10000, 100); got != [3]int{50, 0, 50} {
		l.Errorf("new ones: %v", got)
	}
}

func scheduledDatagrams(l *slotLab) {
	var count [3]int
	for port := range uint16(30) {
		backend := l.at(l.datagram(1000 + port))
		count[backend]++
		for range 3 {
			l.goes("a datagram of the same flow", l.datagram(1000+port), backend)
		}
	}
	if count != [3]int{10, 10, 10} {
		l.Errorf("flows: %v", count)
	}
	l.age(slotUDPIdle + datapath.TellWithin + time.Second)
	l.hasNoted("after the time", map[uint16]int{})
}

func scheduledErrors(l *slotLab) {
	backends := make(map[uint16]int)
	for port := range uint16(6) {
		backends[1000+port] = l.open(1000 + port)
	}
	for port, backend := range backends {
		l.goes("an error about it", l.errorAbout(port), backend)
		l.goes("its end", l.segment(port, packettest.RST), backend)
	}
	l.hasLoads("an error is no segment", 0, 0, 0)
	l.goes("an error about nothing that is known goes by the slot", l.errorAbout(999), 0)
	for id := range uint16(6) {
		d := datagram{l.family, vipMine, id}
		at := l.at(d.fragment(0, true, udp{Src: 2000 + id, Dst: portWeb}, raw{Bytes: make([]byte, 56)}))
		l.goes("a fragment follows the first", d.later(), at)
	}
}

func closingFlows(l *slotLab) {
	backend := l.open(1000)
	l.goes("it closes", l.segment(1000, packettest.FIN|packettest.ACK), backend)
	l.goes("and acknowledges", l.segment(1000, packettest.ACK), backend)
	l.age(2 * time.Minute)
	l.hasNoted("for a while", map[uint16]int{1000: backend})
	l.age(20 * time.Second)
	l.hasNoted("then no more", map[uint16]int{})
	backend = l.open(1000)
	l.goes("it is reset", l.segment(1000, packettest.RST), backend)
	l.age(80 * time.Second)
	l.hasNoted("which is sooner", map[uint16]int{})
	backend = l.open(1001)
	l.goes("another one closes", l.segment(1001, packettest.FIN|packettest.ACK), backend)
	l.goes("and opens again just then", l.segment(1001, packettest.SYN), backend)
	l.goes("or ends", l.segment(1001, packettest.FIN|packettest.ACK), backend)
	l.age(5 * time.Second)
	if got := l.open(1001); got == backend {
		l.Errorf("its port is used again, and it is no new flow")
	}
	if got := l.noted(); got[1001] == backend {
		l.Errorf("the new one is noted at the old one's backend")
	}
	idle := l.open(1002)
	l.age(slotTCPIdle + time.Minute)
	if got := l.open(1002); got == idle {
		l.Errorf("who said nothing for too long is no new flow")
	}
}

// Of one that is closed by halves a director sees what the client acknowledges.
func halfClosed(l *slotLab) {
	for port := range uint16(6) {
		backend := l.open(1000 + port)
		l.goes("it ends what it has to say", l.segment(1000+port, packettest.FIN|packettest.ACK), backend)
		l.age(80 * time.Second)
		l.noted()
		l.goes("and hears something", l.segment(1000+port, packettest.ACK), backend)
		l.age(slotTCPIdle - time.Minute)
		l.noted()
		l.goes("and more", l.segment(1000+port, packettest.ACK), backend)
	}
	l.hasLoads("which is no load of new ones", 0, 0, 0)
	l.age(slotTCPIdle + time.Minute)
	l.hasNoted("as long as any other", map[uint16]int{})
}

func madeUpResets(l *slotLab) {
	at := make(map[uint16]int)
	for port := range uint16(6) {
		at[1000+port] = l.open(1000 + port)
	}
	say := func(sentence string, flags uint8) {
		l.Helper()
		for port, backend := range at {
			l.goes(sentence, l.segment(port, flags), backend)
		}
	}
	// what is new goes elsewhere
	opens := func(sentence string, further int, before ...uint8) {
		l.Helper()
		for port, backend := range at {
			r := equal(lb.SchedulerRoundRobin)
			r.Order = []int16{int16(backend+1) % 3}
			l.schedule(r)
			for _, flags := range before {
				l.goes("before "+sentence, l.segment(port, flags), backend)
			}
			l.goes(sentence, l.segment(port, packettest.SYN), (backend+further)%3)
		}
	}
	opens("somebody resets it and opens it at once", 0, packettest.RST)
	say("it lives", packettest.ACK)
	say("somebody resets it again", packettest.RST)
	l.hasLoads("who says so is believed at first", 0, 0, 0)
	l.age(20 * time.Second)
	say("it lives", packettest.ACK)
	l.age(20 * time.Second)
	opens("and somebody opens it", 0)
	say("it lives", packettest.ACK)
	l.age(slotTCPIdle - time.Minute)
	l.noted()
	say("it lives", packettest.ACK)
	l.hasLoads("all of them count", 2, 2, 2)
	say("it is reset", packettest.RST)
	l.hasLoads("by itself", 0, 0, 0)
	l.age(5 * time.Second)
	opens("and opens anew", 1)
}

// The segment after a SYN proves nothing, where nobody sees what the backend answered.
func pairsFillNobody(l *slotLab) {
	r := equal(lb.SchedulerRoundRobin)
	r.maxconn = [3]int{10, 10, 10}
	l.schedule(r)
	const pairs = 3000
	for port := range uint16(pairs) {
		for _, flags := range []uint8{packettest.SYN, packettest.ACK} {
			if l.at(l.segment(20_000+port, flags)) == lb.NoBackend {
				l.Fatalf("after %d pairs all are full", port)
			}
		}
	}
	l.hasLoads("of pairs", 0, 0, 0)
	for port := range uint16(30) {
		if l.open(1000+port) == lb.NoBackend {
			l.Fatalf("connection %d is refused", port)
		}
	}
	l.hasLoads("of connections", 10, 10, 10)
	l.goes("one too many", l.segment(1100, packettest.SYN), lb.NoBackend)
	r = equal(lb.SchedulerLeastConn)
	l.schedule(r)
}

func silentSinceItOpened(l *slotLab) {
	backend := l.at(l.segment(1000, packettest.SYN))
	l.goes("it is open", l.segment(1000, packettest.ACK), backend)
	l.age(slotTCPIdle - time.Minute)
	l.hasNoted("and says nothing", map[uint16]int{1000: backend})
	l.goes("for long", l.segment(1000, packettest.ACK), backend)
}

func affinity(l *slotLab) {
	const keeps = 100 * time.Second
	r := equal(lb.SchedulerRoundRobin)
	r.Affinity = keeps
	l.schedule(r)
	backend := l.at(l.segment(1000, packettest.SYN))
	l.goes("the next one, before the first is open", l.segment(1001, packettest.SYN), backend)
	for range 2 {
		l.goes("the first goes on", l.segment(1000, packettest.ACK), backend)
	}
	for port := range uint16(10) {
		l.goes("a new one of the same client", l.segment(1002+port, packettest.SYN), backend)
	}
	other := frameOf(l.eth(vipMine), l.between(l.client.Next(), l.vip(vipMine)), tcp{Src: 1000, Dst: portWeb, Flags: packettest.SYN})
	if got := l.at(other); got == backend || got == lb.NoBackend {
		l.Errorf("another client is at %d, the first at %d", got, backend)
	}
	l.age(keeps - 10*time.Second)
	l.goes("just in time", l.segment(1100, packettest.SYN), backend)
	l.age(keeps - 10*time.Second)
	l.goes("the time begins with the last new one", l.segment(1200, packettest.SYN), backend)
	l.age(keeps + 10*time.Second)
	backend = l.open(1299) // whoever's turn it is
	l.age(keeps + 10*time.Second)
	if got := l.open(1300); got == backend {
		l.Errorf("after the time it is still at %d", got)
	}
	backend = l.at(l.segment(1300, packettest.ACK))
	r.Order, r.weights[backend] = slices.DeleteFunc(slices.Clone(r.Order), func(p int16) bool { return int(p) == backend }), 0
	l.schedule(r)
	if got := l.open(1400); got == backend {
		l.Errorf("a drained backend gets a new flow")
	}
}

func fullPassesOn(l *slotLab) {
	r := equal(lb.SchedulerRoundRobin)
	r.maxconn = [3]int{2, 5, 0}
	l.schedule(r)
	for port := range uint16(20) {
		l.open(1000 + port)
	}
	l.hasLoads("as many as they may", 2, 5, 13)
	l.goes("one ends", l.segment(l.portAt(0), packettest.RST), 0)
	for port := range uint16(3) {
		l.open(2000 + port)
	}
	l.hasLoads("and another may come", 2, 5, 15)
	r = equal(lb.SchedulerLeastConn)
	r.maxconn = [3]int{2, 7, 16}
	l.schedule(r)
	for port := range uint16(5) {
		l.open(3000 + port)
	}
	l.hasLoads("with least-conn, too", 2, 7, 16)
	l.goes("all are full", l.segment(4000, packettest.SYN), lb.NoBackend)
	l.counts("full", "tcp", 1)
	l.hasLoads("which adds nothing", 2, 7, 16)
}

// portAt is a port of the client whose flow is noted there.
func (l *slotLab) portAt(backend int) uint16 {
	for port, at := range l.noted() {
		if at == backend {
			return port
		}
	}
	return 0
}

// counts checks what was counted of a service, since the last time somebody looked.
func (l *slotLab) counts(reason, service string, want uint64) {
	l.Helper()
	list, err := l.instance.Counters()
	if err != nil {
		l.Fatal(err)
	}
	for _, c := range list {
		if c.Scope == l.serviceScope(service, vipMine) && c.Reason == reason && c.Packets >= want {
			return
		}
	}
	l.Errorf("%s is not counted %d times: %v", reason, want, list)
}

func fullDrops(l *slotLab) {
	r := equal(lb.SchedulerRoundRobin)
	r.maxconn, r.Overflow = [3]int{0, 3, 0}, lb.OverflowDrop
	l.schedule(r)
	refused := 0
	for port := range uint16(30) {
		if l.open(1000+port) == lb.NoBackend {
			refused++
		}
	}
	if l.hasLoads("none passes on", 10, 3, 10); refused != 7 {
		l.Errorf("%d were refused, want 7", refused)
	}
}

func fullSorry(l *slotLab) {
	r := equal(lb.SchedulerRandom)
	r.Order, r.Sorry, r.weights, r.maxconn = []int16{0, 1}, 2, [3]int{100, 100, 0}, [3]int{3, 3, 0}
	l.schedule(r)
	for port := range uint16(10) {
		l.open(1000 + port)
	}
	l.hasLoads("the rest is told sorry", 3, 3, 4)
}

func fullMaglev(l *slotLab) {
	r := equal(lb.SchedulerMaglev)
	r.maxconn = [3]int{4, 4, 0}
	l.schedule(r)
	for port := range uint16(4) {
		if got := l.open(1000 + port); got != 0 {
			l.Errorf("all slots are the first one's, and a connection goes to %d", got)
		}
	}
	for port := range uint16(20) {
		if got := l.open(2000 + port); got == 0 {
			l.Errorf("the first one is full, and gets another connection")
		}
	}
	if got := l.look(); got[0] != 4 || got[1] != 4 || got[2] != 16 {
		l.Errorf("connections: %v", got)
	}
}

// The bucket's next owner sends what is unknown there, too.
func bucketsThatLeave(l *slotLab) {
	r := equal(lb.SchedulerRoundRobin)
	r.slots = 2
	l.schedule(r)
	before := make(map[uint16]int)
	for port := range uint16(9) {
		before[1000+port] = l.at(l.segment(1000+port, packettest.SYN))
	}
	state := rosterWorld(r)
	state.Tables[tableMine] = marked(1, lb.MarkDelegate)
	if _, err := l.instance.Set(state, worldDevice); err != nil {
		l.Fatal(err)
	}
	if got := l.shares(2000, 9); got != [3]int{0, 0, 9} {
		l.Errorf("while its bucket leaves: %v", got)
	}
	for port, backend := range before {
		l.goes("what opened before goes on", l.segment(port, packettest.ACK), backend)
	}
	l.schedule(r)
	if got := l.shares(3000, 9); got != [3]int{3, 3, 3} {
		l.Errorf("when it stays after all: %v", got)
	}
}

func unknownBySlot(l *slotLab) {
	r := equal(lb.SchedulerRoundRobin)
	r.slots = 2
	l.schedule(r)
	for port := range uint16(9) {
		l.goes("what nothing is known of", l.segment(1000+port, packettest.ACK), 2)
	}
	l.hasNoted("which leaves nothing", map[uint16]int{})
	state := rosterWorld(r)
	moving := slotWorld(1, 2, lb.SlotMoving).Services[0].Choice
	for i := range state.Services {
		state.Services[i].Choice = moving
	}
	if _, err := l.instance.Set(state, worldDevice); err != nil {
		l.Fatal(err)
	}
	for port := range uint16(9) {
		l.goes("and stays where its slot was", l.segment(1000+port, packettest.ACK), 2)
	}
}

func beginsAndEnds(l *slotLab) {
	l.set(1, lb.NoBackend, 0)
	l.goes("by its slot", l.segment(1000, packettest.SYN), 1)
	r := equal(lb.SchedulerRoundRobin)
	r.slots = 1
	l.schedule(r)
	l.goes("it stays", l.segment(1000, packettest.ACK), 1)
	backends := make(map[uint16]int)
	for port := range uint16(9) {
		backends[2000+port] = l.open(2000 + port)
	}
	r.Scheduler = lb.SchedulerMaglev
	l.schedule(r)
	for port, backend := range backends {
		l.goes("what was scheduled stays", l.segment(port, packettest.ACK), backend)
	}
	l.goes("and the slot decides again", l.segment(3000, packettest.SYN), 1)
}

// A flood of SYNs and of ACKs from made-up sources neither adds notes nor takes any away.
func TestAFloodIsScheduledAndNotNoted(t *testing.T) {
	for _, scheduler := range []lb.Scheduler{lb.SchedulerRoundRobin, lb.SchedulerLeastConn, lb.SchedulerRandom} {
		t.Run(scheduler.String(), func(t *testing.T) {
			r := equal(scheduler)
			r.Affinity, r.maxconn = time.Minute, [3]int{1000, 1000, 1000}
			l := &slotLab{t, v4, instanceOf(t, rosterWorld(r))}
			at := make(map[uint16]int)
			for port := uint16(20000); port < 20100; port++ {
				at[port] = l.open(port)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for range 20_000 {
				var client [4]byte
				binary.BigEndian.PutUint32(client[:], 0xc6120000|random.Uint32N(1<<17))
				frame := frameOf(l.eth(vipMine), l.between(netip.AddrFrom4(client), l.vip(vipMine)),
					tcp{Src: uint16(1024 + random.IntN(60000)), Dst: portWeb, Flags: []uint8{packettest.SYN, packettest.ACK}[random.IntN(2)]})
				if out, err := l.instance.Run(frame, ingress); err != nil || out.Action != actionTX {
					t.Fatal(out.Action, err)
				}
			}
			if extra := len(l.noted()) - len(at) - 1; extra < 0 || extra > 10 { // one is the client's
				t.Errorf("%d of the flood are noted, want next to none", extra)
			}
			for port, backend := range at {
				l.goes("legitimate, after the flood", l.segment(port, packettest.ACK), backend)
			}
			if got := l.look(); got[0]+got[1]+got[2] < 100 || got[0]+got[1]+got[2] > 110 {
				t.Errorf("connections: %v", got)
			}
			if backend := l.open(30000); backend == lb.NoBackend {
				t.Error("the flood fills the backends")
			}
		})
	}
}

// fullFixtures are about a service of one backend that may have one connection.
func fullFixtures() []fixture {
	var list []fixture
	for _, f := range families {
		l := slotLab{family: f}
		list = append(list, inFamily(f, []fixture{{
			sentence: "a SYN is dropped when all backends are full",
			before:   [][]byte{l.segment(50000, packettest.SYN), l.segment(50000, packettest.ACK), l.segment(50000, packettest.ACK)},
			frame:    l.segment(50001, packettest.SYN), want: dropped("full", f.serviceScope("tcp", vipMine)),
		}})...)
	}
	return list
}

func TestWhoIsFullGetsNoMore(t *testing.T) {
	r := equal(lb.SchedulerRandom)
	r.Order, r.maxconn = []int16{0}, [3]int{1, 1, 1}
	instance := instanceOf(t, rosterWorld(r))
	checkAll(t, instance, ways(instance), fullFixtures())
}

// When there is no room for notes new flows go by their slots, where they are found without one.
func TestWithoutRoomForNotesFlowsGoByTheirSlots(t *testing.T) {
	r := equal(lb.SchedulerRoundRobin)
	r.slots = 2
	l := &slotLab{t, v4, instanceOf(t, rosterWorld(r))}
	if _, err := l.instance.FillExceptions(); err != nil {
		t.Fatal(err)
	}
	first := l.at(l.segment(1000, packettest.SYN))
	for range 3 {
		l.goes("what opened before anybody knew is found by its glimpse", l.segment(1000, packettest.ACK), first)
	}
	for port := range uint16(30) {
		l.goes("who comes then goes by its slot", l.segment(2000+port, packettest.SYN), 2)
		l.goes("and stays there", l.segment(2000+port, packettest.ACK), 2)
	}
	if unnoted := l.instance.Director().Unnoted(); unnoted == 0 {
		t.Error("nobody counted that there was no room")
	}
}

// What was seen twice, and no more, is forgotten when it takes half of the room: what goes on is not.
func TestPairsFromMadeUpSourcesMakeRoom(t *testing.T) {
	l := &slotLab{t, v4, instanceOf(t, rosterWorld(equal(lb.SchedulerRoundRobin)))}
	at := make(map[uint16]int)
	for port := uint16(1000); port < 1100; port++ {
		at[port] = l.open(port)
	}
	l.age(5 * time.Second)
	for port, backend := range at {
		l.goes("it goes on", l.segment(port, packettest.ACK), backend)
	}
	if _, err := l.instance.FillExceptions(); err != nil && !errors.Is(err, unix.E2BIG) {
		t.Fatal(err)
	}
	l.noted() // sees how many there are
	l.age(time.Minute)
	l.noted() // and forgets
	if diff := gocmp.Diff(at, l.noted()); diff != "" {
		t.Errorf("what is remembered (-want +got):\n%s", diff)
	}
}
