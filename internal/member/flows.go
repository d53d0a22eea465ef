package member

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/lbctl/lbctl/internal/lb"
)

// maxFlows go into one message.
const maxFlows = 16384

// A Flow is one that a director remembers, because its slot is in transition. Another director that
// gets its packets needs to know where it is.
type Flow struct {
	Service  string         `json:"service"`
	Remote   netip.AddrPort `json:"remote"` // the client
	Local    netip.AddrPort `json:"local"`  // of the VIP
	Protocol lb.Protocol    `json:"protocol"`
	Slot     int            `json:"slot"`
	Backend  netip.Addr     `json:"backend"` // where it is
	Port     uint16         `json:"port"`    // of the backend
}

// TellFlows tells the other directors of flows that this one remembers. Who does not hear it, is not
// told again.
func (m *Member) TellFlows(flows []Flow) error {
	for len(flows) > 0 {
		some := flows[:min(len(flows), maxFlows)]
		flows = flows[len(some):]
		body, err := json.Marshal(some)
		if err != nil {
			return fmt.Errorf("encode flows: %w", err)
		}
		if err := m.cluster.Send("", frame(kindFlows, body)); err != nil {
			return fmt.Errorf("tell flows: %w", err)
		}
	}
	return nil
}

// flows takes those that a peer remembers.
func (m *Member) flows(payload []byte) error {
	var flows []Flow
	if err := json.Unmarshal(payload, &flows); err != nil {
		return fmt.Errorf("flows: %w", err)
	}
	if m.opts.Flows != nil {
		m.opts.Flows(flows)
	}
	return nil
}
