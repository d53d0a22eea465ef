package datapath_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/lbctl/lbctl/internal/packettest"
)

// A directory of hashed slots must compare all of an address: those that are nearly a VIP's, and
// those that share half of one and fall into its slot, as one of thousands does.
func TestWhatIsNearlyAVIPIsNone(t *testing.T) {
	instance := instanceOf(t, world())
	runners := []*packettest.Runner{
		packettest.NewRunner(t, instance.XDP()), packettest.NewRunner(t, longWay(t, instance)),
	}
	vips := make(map[netip.Addr]bool)
	for _, addr := range vipAddrs() {
		vips[addr] = true
	}
	leftAlone := func(f family, dst []byte) {
		addr, _ := netip.AddrFromSlice(dst)
		if vips[addr] {
			return
		}
		frame := frameOf(f.eth(vipMine), f.between(f.client, addr), tcp{Src: portClient, Dst: portWeb})
		for _, runner := range runners {
			action, out, err := runner.Run(frame)
			if err != nil {
				t.Fatal(err)
			}
			if action != actionPass || !bytes.Equal(out, frame) {
				t.Errorf("%s is taken for a VIP", addr)
			}
		}
	}
	for vip := range vips {
		f := v4
		if vip.Is6() {
			f = v6
		}
		for bit := range vip.BitLen() {
			dst := vip.AsSlice()
			dst[bit/8] ^= 1 << (bit % 8)
			leftAlone(f, dst)
		}
	}
	random := rand.New(rand.NewPCG(8, 9))
	for range 40_000 { // ten for each half of a VIP fall into its slot; never fewer of them
		for _, half := range []int{0, 8} {
			dst := v6.vip(vipMine).AsSlice()
			binary.BigEndian.PutUint64(dst[half:], random.Uint64())
			leftAlone(v6, dst)
		}
	}
}
