package datapath_test

import (
	"math/bits"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/packettest"
)

// steadyFlows is how many connections of a family are opened and used: 131,072, or the power of two
// below what there is time for.
func steadyFlows(t *testing.T) packettest.Flows {
	t.Helper()
	return 1 << (bits.Len(uint(packettest.Scaled(t, 1<<17))) - 1)
}

// A flow costs no memory: after hundreds of thousands were opened and used, every map has the size,
// the entries and the content that it had before. Only counters differ.
func TestAFlowAtRestIsNotRemembered(t *testing.T) {
	for _, forward := range []lb.Forward{lb.ForwardDR, lb.ForwardTunnel, lb.ForwardNAT} {
		t.Run(forward.String(), func(t *testing.T) {
			lab := nettest.New(t)
			host := nettest.Host(t, lab, "node")
			prepareRouter(t, lab, host)
			if err := host.Do(func() error {
				instance := instanceOn(t, forwardState(lb.AnnounceMulticast, forward, lb.EncapIP, v4), device)
				before := memory(t, instance)
				for _, f := range families {
					openAndUse(t, instance, f, forward)
				}
				if diff := cmp.Diff(before, memory(t, instance)); diff != "" {
					t.Errorf("(-before %d connections +after):\n%s", 2*steadyFlows(t), diff)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The test above would see what is remembered: while slots move, it is.
func TestFlowsOfSlotsThatMoveAreRemembered(t *testing.T) {
	state := forwardState(lb.AnnounceMulticast, lb.ForwardDR, lb.EncapIP, v4)
	moving := *state.Services[0].Choice
	moving.Previous = moving.Current
	moving.Marks = make([]lb.SlotMark, lb.Slots)
	for slot := range moving.Marks {
		moving.Marks[slot] = lb.SlotMoving
	}
	for i := range state.Services {
		state.Services[i].Choice = &moving
	}
	instance := instanceOn(t, state, device)
	before := memory(t, instance)
	openAndUse(t, instance, v4, lb.ForwardDR)
	if cmp.Equal(before, memory(t, instance)) {
		t.Error("nothing was remembered")
	}
}

// openAndUse gives the program the SYN of each flow, and a segment of it, and with NAT the answers
// of one backend to all of them.
func openAndUse(t *testing.T, instance *datapath.Instance, f family, forward lb.Forward) {
	t.Helper()
	vip, offset := netip.MustParseAddr("192.0.2.80"), 14+20+13
	if f == v6 {
		vip, offset = netip.MustParseAddr("2001:db8::80"), 14+40+13
	}
	flows := steadyFlows(t)
	lane := packettest.NewLane
	if forward == lb.ForwardTunnel {
		lane = packettest.NewWrappedLane
	}
	for _, flags := range []byte{packettest.SYN, packettest.ACK} {
		frame := benchFrame(vip)
		frame[offset] = flags
		lane(t, instance.XDP(), frame, flows, actionTX).Time(t, int(flows))
	}
	if forward == lb.ForwardNAT {
		reply := packettest.Frame(packettest.Ethernet{Dst: loopback.HardwareAddr, Src: clientMAC}, f.between(natBackend(f, 7), f.client),
			packettest.TCP{Src: 8080, Dst: portClient, Flags: packettest.ACK}, packettest.Raw{Bytes: make([]byte, 10)})
		packettest.NewReplyLane(t, instance.XDP(), reply, flows, actionRedirect).Time(t, int(flows))
	}
}

func memory(t *testing.T, instance *datapath.Instance) map[string]datapath.Memory {
	t.Helper()
	all, err := instance.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no maps")
	}
	return all
}
