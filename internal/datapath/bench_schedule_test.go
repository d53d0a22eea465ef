package datapath_test

import (
	"net"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// BenchmarkScheduled is BenchmarkForward for a service that remembers its flows: of connections that are
// noted, and of SYNs, most of which are new where there are more flows than glimpses.
func BenchmarkScheduled(b *testing.B) {
	drop, _ := packettest.Floors(b)
	for _, scheduler := range []lb.Scheduler{lb.SchedulerRoundRobin, lb.SchedulerLeastConn} {
		state := forwardState(lb.AnnounceMulticast, lb.ForwardDR, lb.EncapIP, v4)
		schedule := &lb.Schedule{Scheduler: scheduler, Sorry: lb.NoBackend}
		for place := range int16(16) {
			schedule.Order = append(schedule.Order, place)
		}
		for i := range state.Services {
			s := &state.Services[i]
			s.Schedule, s.Backends = schedule, s.Backends[:16]
			s.Choice = &lb.Choice{Current: make([]int16, lb.Slots)}
			for place := range s.Backends {
				s.Backends[place].Weight = 100
			}
		}
		instance, err := datapath.NewInstance(state, func(string) (*net.Interface, error) { return loopback, nil })
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(instance.Close)
		ack := benchFrame(state.VIPs[0].Addr)
		syn := benchFrame(state.VIPs[0].Addr)
		syn[14+20+13] = packettest.SYN
		for _, flows := range []packettest.Flows{1, 1 << 17} { // there is no room for notes of 1M
			b.Run(scheduler.String()+"-new/flows="+flows.String(), func(b *testing.B) {
				compare(b, packettest.NewLane(b, instance.XDP(), syn, flows, actionTX), packettest.NewLane(b, drop, syn, flows, actionDrop), 0)
			})
			b.Run(scheduler.String()+"/flows="+flows.String(), func(b *testing.B) {
				compare(b, packettest.NewLane(b, instance.XDP(), ack, flows, actionTX), packettest.NewLane(b, drop, ack, flows, actionDrop), 0)
			})
		}
	}
}
