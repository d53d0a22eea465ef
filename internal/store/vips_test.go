package store_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lbctl/lbctl/internal/store"
)

func TestTheLastDecisionAboutAVIPIsKnownWithItsTime(t *testing.T) {
	s, other := fresh(t, "n1"), fresh(t, "n2")
	vip4, vip6 := netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8::80")
	do(t, s.MoveVIP(vip4, "n1"), s.MoveVIP(vip6, "n3"), s.Set("vip/192.0.2.80/mood", []byte("good")), s.Set("vip/here/node", nil))
	first := s.VIPMoves()
	do(t, s.MoveVIP(vip4, "n2"), s.MoveVIP(vip6, ""))
	if _, err := other.Merge(s.Entries()); err != nil {
		t.Fatal(err)
	}
	moves := other.VIPMoves()
	want := map[netip.Addr]store.VIPMove{vip4: {Node: "n2"}, vip6: {}}
	if diff := cmp.Diff(want, moves, cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(store.VIPMove{}, "Stamp")); diff != "" {
		t.Errorf("on the other node (-want +got):\n%s", diff)
	}
	for vip := range want {
		if moves[vip].Stamp <= first[vip].Stamp {
			t.Errorf("%s: the second decision does not come after the first", vip)
		}
	}
	if err := s.MoveVIP(vip4, "a node"); err == nil {
		t.Error("a name with a space was taken")
	}
}
