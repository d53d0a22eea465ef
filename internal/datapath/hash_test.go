package datapath_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/packettest"
)

// bucketBits is the number of bits of a bucket's number.
const bucketBits = 16

// bitVIP is the VIP whose tables say bit n of a bucket's number: this node owns the buckets that
// have it. A flow's hash is not made of its destination's address, so that one flow sent to each
// VIP spells out its bucket.
func bitVIP(f family, n int) netip.Addr { return f.vip(byte(1 + n)) }

// differentialModes are ways of hashing that differ in every field.
func differentialModes() []lb.HashFields {
	modes := []lb.HashFields{lb.HashSource, lb.HashSourcePort, lb.HashSourcePortDestPort}
	for _, net := range [][2]int{{24, 64}, {1, 1}, {31, 127}, {16, 32}, {9, 65}} {
		modes = append(modes, lb.HashFields{SourceBits4: net[0], SourceBits6: net[1]})
	}
	return modes
}

// portOf is a TCP port of a mode's service, which takes the short way. The same number of UDP is
// one of a range, which takes the long one.
func portOf(mode int) uint16 { return uint16(mode)<<13 | 80 }

func bitsState(seed [32]byte) *lb.State {
	state := &lb.State{
		Cluster: "bits",
		Seed:    seed,
		Nodes:   []lb.Node{{Index: 0, Name: "n0", Weight: 1, Local: true}, {Index: 1, Name: "n1", Weight: 1}},
	}
	for n := range bucketBits {
		owners := make([]int16, lb.Buckets)
		for b := range owners {
			owners[b] = int16(1 - b>>n&1)
		}
		state.Tables = append(state.Tables, &lb.Table{Owners: owners})
		for _, f := range families {
			vip := len(state.VIPs)
			state.VIPs = append(state.VIPs, lb.VIP{Addr: bitVIP(f, n), Interface: "lo", MAC: f.mac(0), Table: n})
			for i, mode := range differentialModes() {
				port := portOf(i)
				state.Services = append(state.Services,
					lb.Service{Name: fmt.Sprintf("tcp-%d", i), VIP: vip, Protocol: lb.ProtocolTCP, Hash: mode, Table: n,
						Ports: []lb.PortRange{{First: port, Last: port}}},
					lb.Service{Name: fmt.Sprintf("udp-%d", i), VIP: vip, Protocol: lb.ProtocolUDP, Hash: mode, Table: n,
						Ports: []lb.PortRange{{First: uint16(i) << 13, Last: uint16(i)<<13 | 0x1fff}}})
			}
		}
	}
	return state
}

// bucketOf spells out a flow's bucket in the program's eyes.
func bucketOf(runner *packettest.Runner, f family, frame []byte) (int, error) {
	dst := len(frame) - 20 - len(f.prefix.AsSlice())
	bucket := 0
	for n := range bucketBits {
		copy(frame[dst:], bitVIP(f, n).AsSlice())
		action, _, err := runner.Run(frame)
		if err != nil {
			return 0, err
		}
		if action == actionPass {
			bucket |= 1 << n
		}
	}
	return bucket, nil
}

func TestTheProgramAndGoPutAFlowIntoTheSameBucket(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(random.Uint32())
	}
	instance := instanceOf(t, bitsState(seed))
	keys := flowhash.NewKeys(seed)
	var workers sync.WaitGroup
	for worker := range uint64(2) {
		random := rand.New(rand.NewPCG(5, worker))
		runner := packettest.NewRunner(t, instance.XDP())
		flows := packettest.Scaled(t, 50_000)
		workers.Go(func() { compareBuckets(t, runner, keys, random, flows) })
	}
	workers.Wait()
	oneWayEach(t, instance)
}

func compareBuckets(t *testing.T, runner *packettest.Runner, keys flowhash.Keys, random *rand.Rand, flows int) {
	for range flows {
		f := families[random.IntN(2)]
		i := random.IntN(len(differentialModes()))
		mode := differentialModes()[i]
		src := randomAddr(random, f)
		srcPort, dstPort := uint16(random.Uint32()), portOf(i)
		var transport packettest.Layer = tcp{Src: srcPort, Dst: dstPort}
		if random.IntN(2) == 0 {
			dstPort = uint16(i)<<13 | uint16(random.Uint32())&0x1fff
			// as long as TCP's header
			transport = raw{Number: packettest.ProtocolUDP, Bytes: binary.BigEndian.AppendUint16(
				binary.BigEndian.AppendUint16(make([]byte, 0, 20), srcPort), dstPort)[:20]}
		}
		got, err := bucketOf(runner, f, frameOf(eth{Dst: f.mac(0), Src: clientMAC}, f.between(src, f.vip(1)), transport))
		if err != nil {
			t.Error(err)
			return
		}
		want := flowhash.Bucket(keys.Sum(flowhash.NewMask(mode, f == v4), src, srcPort, dstPort))
		if got != want {
			t.Errorf("%s, %s port %d to port %d: bucket %d in the program, %d in Go", mode, src, srcPort, dstPort, got, want)
			return
		}
	}
}

// randomAddr has a share of addresses with few bits, where a lost half would not show in others.
func randomAddr(random *rand.Rand, f family) netip.Addr {
	b := make([]byte, len(f.prefix.AsSlice()))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	if random.IntN(4) == 0 {
		clear(b[random.IntN(len(b)):])
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// oneWayEach makes sure that no frame was judged by anything but its service.
func oneWayEach(t *testing.T, instance *datapath.Instance) {
	t.Helper()
	for at := range count(t, instance) {
		if at.Reason != "accepted" && at.Reason != "not-owner" {
			t.Errorf("frames ended as %s of %q", at.Reason, at.Scope)
		}
	}
}
