package store

import (
	"fmt"
	"net/netip"
	"strings"
)

// A VIPMove is a decision that a node shall have a VIP which one node at a time announces.
type VIPMove struct {
	Node  string // "" takes back what was decided before
	Stamp Stamp  // of the decision
}

const (
	vipPrefix = "vip/"
	vipNode   = "/node"
)

// MoveVIP decides which node shall have a VIP; "" leaves it to the configuration again. That is a
// decision, too, and no deletion, so that all nodes can tell which was the last.
func (s *Store) MoveVIP(vip netip.Addr, node string) error {
	if node != "" {
		if err := checkText("node name", node, MaxNode); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	return s.Set(vipPrefix+vip.String()+vipNode, []byte(node))
}

// VIPMoves returns the last decision about each VIP that any was made about. What only a newer version
// understands is left out.
func (s *Store) VIPMoves() map[netip.Addr]VIPMove {
	moves := make(map[netip.Addr]VIPMove)
	for _, e := range s.All(vipPrefix) {
		text, ok := strings.CutSuffix(strings.TrimPrefix(e.Key, vipPrefix), vipNode)
		if vip, err := netip.ParseAddr(text); ok && err == nil {
			moves[vip] = VIPMove{string(e.Value), e.Stamp}
		}
	}
	return moves
}
