package datapath

import (
	"fmt"

	"github.com/lbctl/lbctl/internal/flowhash"
	"github.com/lbctl/lbctl/internal/lb"
)

// writeNodes tells who the nodes are and returns their numbers, by index in want.Nodes. A node
// keeps its number while it is a member, or one that leaves would change every bucket's word.
func (s *mapSet) writeNodes(want *lb.State) ([]int, error) {
	old, err := s.readNodes()
	if err != nil {
		return nil, err
	}
	numbers := make([]int, len(want.Nodes))
	var taken [lb.MaxNodes]bool
	for i := range want.Nodes {
		numbers[i] = -1
		for n := range old {
			if old[n].Used != 0 && text(old[n].Name[:]) == want.Nodes[i].Name {
				numbers[i], taken[n] = n, true
			}
		}
	}
	var fresh [lb.MaxNodes]lbNode
	next := 0
	for i := range want.Nodes {
		if numbers[i] < 0 {
			for taken[next] {
				next++
			}
			numbers[i], taken[next] = next, true
		}
		fresh[numbers[i]] = nodeEntry(&want.Nodes[i])
	}
	for n := range fresh {
		if fresh[n] == old[n] {
			continue
		}
		if err := s.maps["nodes"].Put(uint32(n), &fresh[n]); err != nil {
			return nil, fmt.Errorf("write node %d: %w", n, err)
		}
	}
	return numbers, nil
}

func (s *mapSet) readNodes() (nodes [lb.MaxNodes]lbNode, err error) {
	for n := range nodes {
		if err := s.maps["nodes"].Lookup(uint32(n), &nodes[n]); err != nil {
			return nodes, fmt.Errorf("read node %d: %w", n, err)
		}
	}
	return nodes, nil
}

func nodeEntry(n *lb.Node) lbNode {
	entry := lbNode{Used: 1, Weight: uint16(n.Weight)}
	setText(entry.Name[:], n.Name)
	copy(entry.Mac[:], n.MAC)
	if n.Local {
		entry.Local = 1
	}
	if len(n.Addrs) > 0 {
		entry.AddrHi, entry.AddrLo = flowhash.Halves(n.Addrs[0])
	}
	return entry
}
